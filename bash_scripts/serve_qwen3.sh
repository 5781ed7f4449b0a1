#!/usr/bin/env bash
# A vLLM server for qwen3*.sh --engine openai, with the published settings, on all GPUs of this
# node; further flags are passed on to `vllm serve`, and the last of two that disagree counts.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/qwen3_environment.sh"
gpus="$(python -c 'import torch; print(torch.cuda.device_count())')"
vllm serve Qwen/Qwen3-235B-A22B-Thinking-2507 --max-model-len 262144 --tensor-parallel-size "$gpus" \
    --dtype bfloat16 --gpu-memory-utilization 0.9 --async-scheduling "$@"
