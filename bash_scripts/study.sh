#!/usr/bin/env bash
# The study on a CPU: every arm with a small model on the bundled problems, in one engine, compared.
# Further flags go to the study, e.g. --rollouts 8 --output_postfix larger
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cpu_environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/study_environment.sh"
model="$("$python" "$root/scripts/prepare_smollm2.py")"
study study_qwen.py --model_name "$model" --dataset quickstart --max_new_tokens 1024 \
    --rollouts 4 --rollouts_per_step 2 --aggregate 2 --force_sections --enforce_eager \
    --output_postfix study "$@"
