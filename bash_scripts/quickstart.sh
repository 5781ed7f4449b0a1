#!/usr/bin/env bash
# From nothing to two finished runs on a CPU, compared: the environment, a small model, the
# Markovian baseline and the Qwen-style loop on the bundled problems, side by side in one engine.
# Further flags go to the study, e.g. --rollouts 6 --output_postfix longer
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cpu_environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/study_environment.sh"

model="$("$python" "$root/scripts/prepare_smollm2.py")"
cat >&2 <<'TEXT'
A model of 135 million parameters shows the machinery, not the method: its answers change and its
list of wrong answers grows, but few are right. --force_sections makes it keep the reply format.
TEXT
page="$root/results/quickstart.html"
study study_qwen.py --arms vllm_markov,vllm --rollouts 3 --model_name "$model" \
    --dataset quickstart --max_new_tokens 1024 --force_sections --enforce_eager --max_num_seqs 64 \
    --output_postfix quickstart "$@"
