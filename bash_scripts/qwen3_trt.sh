#!/usr/bin/env bash
# vllm_qwen_trt.py with the published settings, on all GPUs of this node; further flags are passed on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/qwen3_environment.sh"
python "$root/scripts/vllm_qwen_trt.py" --results_dir "$root/results" "$@"
