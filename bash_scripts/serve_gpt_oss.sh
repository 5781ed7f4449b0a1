#!/usr/bin/env bash
# A vLLM server for gpt_oss*.sh --engine openai, with the published settings, on all GPUs of this
# node, for this machine alone; --recipe throughput for many seeds. Further flags are passed on to
# `vllm serve`, and the last of two that disagree counts.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpt_oss_environment.sh"
exec python "$root/scripts/serve.py" gpt_oss "$@"
