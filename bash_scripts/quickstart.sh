#!/usr/bin/env bash
# From nothing to three finished runs on a CPU, compared: the environment, a small model, and the
# mistakes list, refinement and parallel thinking on the bundled problems, side by side in one engine.
# Further flags go to the study, e.g. --rollouts 8 --output_postfix longer
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cpu_environment.sh"

cat >&2 <<'TEXT'
A model of 135 million parameters: it adds and multiplies small numbers, and
little more. Prompts and problems are made for it, and --force_sections makes
it keep the reply format.
TEXT
export python page=quickstart
bash "$root/bash_scripts/study.sh" qwen3 --arms vllm_parallel,vllm,vllm_refine --rollouts 4 \
    --model_name smollm2 --dataset quickstart \
    --prompt_dir "$root/scripts/kflow/data/quickstart" --max_new_tokens 512 \
    --force_sections --enforce_eager --output_postfix quickstart "$@"
