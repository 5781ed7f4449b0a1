#!/usr/bin/env bash
# A study with power: Qwen2.5-Coder-1.5B-Instruct works 100 problems of five reasoning-gym tasks
# (five_tasks.json) with every arm of the Qwen family, 5 rollouts a problem each, recursive
# self-aggregation 4 (2 steps of 2). Needs 14 GB of memory and, by a trial of three arms, five hours
# or more on two cores with bfloat16 instructions and nothing beside. Run it again to resume, on
# another kind of machine with --change_engine. Further flags go to the study, such as --arms.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../bash_scripts/cpu_environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/coder_model.sh"

cd "$root" # the data set's name is on record
if ! "$python" -c 'import reasoning_gym' 2>/dev/null; then
    "$python" -m pip install --quiet --disable-pip-version-check -r requirements/gym.txt
fi
export VLLM_CPU_KVCACHE_SPACE=4 # GB
export python page=study
bash "$root/bash_scripts/study.sh" qwen3 --rollouts 5 --rollouts_per_step 2 --aggregate 2 \
    --strategies 1 --attempts 1 --rounds 4 --model_name "$model" \
    --dataset reasoning_gym/mix:docs/examples/five_tasks.json --max_new_tokens 2048 \
    --dtype bfloat16 --output_postfix study "$@"
