#!/usr/bin/env bash
# vllm_kflow_oss_knowledgeRegen.py as published, on all GPUs of this node; further flags are passed on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpt_oss_environment.sh"
python "$root/scripts/vllm_kflow_oss_knowledgeRegen.py" --results_dir "$root/results" "$@"
