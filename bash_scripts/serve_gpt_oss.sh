#!/usr/bin/env bash
# A vLLM server for gpt_oss*.sh --engine openai, with the published settings, on all GPUs of this
# node; further flags are passed on to `vllm serve`, and the last of two that disagree counts.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpt_oss_environment.sh"
gpus="$(python -c 'import torch; print(torch.cuda.device_count())')"
vllm serve openai/gpt-oss-120b --max-model-len 131072 --tensor-parallel-size "$gpus" \
    --dtype bfloat16 --gpu-memory-utilization 0.9 --async-scheduling --no-enable-prefix-caching \
    --cuda-graph-sizes 2048 --compilation-config '{"pass_config": {"enable_fi_allreduce_fusion": true, "enable_noop": true}, "custom_ops": ["+rms_norm"], "cudagraph_mode": "FULL_AND_PIECEWISE"}' "$@"
