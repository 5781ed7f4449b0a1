#!/usr/bin/env bash
# From nothing to a finished run on a CPU: the environment, a small model, the Qwen-style loop on
# the bundled problems. Further flags are passed on, e.g. --reflex_size 6 --output_postfix longer
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cpu_environment.sh"

model="$("$python" "$root/scripts/prepare_smollm2.py")"
cat >&2 <<'TEXT'
A 135-million-parameter model is there to be watched, not to be right: see its answers change and
its list of wrong answers grow. --force_sections keeps it to the reply format it would not keep.
TEXT
"$python" "$root/scripts/vllm_kflow_qwen.py" --model_name "$model" --dataset quickstart \
    --max_new_tokens 1024 --reflex_size 3 --force_sections --enforce_eager --max_num_seqs 32 \
    --results_dir "$root/results" --output_postfix quickstart "$@"
cat <<'TEXT'
Look next: predictions_<step>.json there begins with the step's accuracy and counts; in each record
"question" is the prompt as sent (see the lists grow), "update" what the reply added to the list
or why nothing, "pred_solution" the reply. run.json says exactly what ran.
TEXT
