#!/usr/bin/env bash
# Makes the README's example again: Qwen2.5-Coder-1.5B-Instruct works the 24 bundled problems with the
# mistakes list, refinement and parallel thinking, 8 rollouts each. Needs 12 GB of memory and 9 GB of
# disk, an hour or more on two cores with bfloat16 instructions, and hours without. Where the results
# are there, as in a clone, it prepares the model, checks that they are that model's, and compares
# them; --overwrite makes them anew, faster with --dtype float32 on a CPU without those
# instructions. Run it again to resume. Further flags go to the study.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../bash_scripts/cpu_environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/coder_model.sh"

export VLLM_CPU_KVCACHE_SPACE=8 # GB: for all that is in flight at a time
export python page=coder
bash "$root/bash_scripts/study.sh" qwen3 --arms vllm,vllm_refine,vllm_parallel --rollouts 8 --model_name "$model" \
    --dataset quickstart --max_new_tokens 1024 --dtype bfloat16 --output_postfix coder "$@"
