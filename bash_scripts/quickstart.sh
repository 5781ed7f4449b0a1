#!/usr/bin/env bash
# From nothing to two finished runs on a CPU, compared: the environment, a small model, the
# Qwen-style loop and the Markovian baseline on the bundled problems. Further flags go to both
# runs, e.g. --reflex_size 6 --output_postfix longer
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cpu_environment.sh"

model="$("$python" "$root/scripts/prepare_smollm2.py")"
cat >&2 <<'TEXT'
A model of 135 million parameters shows the machinery, not the method: its answers change and its
list of wrong answers grows, but few are right. --force_sections makes it keep the reply format.
TEXT

# Runs a script and prints the folder its results are in, which its last line names.
run() {
    "$python" "$root/scripts/$1" --model_name "$model" --dataset quickstart --max_new_tokens 1024 \
        --reflex_size 3 --enforce_eager --max_num_seqs 32 --results_dir "$root/results" \
        --output_postfix quickstart "${@:2}" | tee >(cat >&2) | sed -n 's/^Results: //p'
}
results="$(run vllm_kflow_qwen.py --force_sections "$@")"
baseline="$(run vllm_qwen_markovian_thinking.py "$@")"
[ -n "$results" ] && [ -n "$baseline" ] || exit 0 # --dry_run, --help: nothing ran

"$python" "$root/scripts/compare_results.py" "$results" --baseline "$baseline"
"$python" "$root/scripts/report.py" "$results" "$baseline" -o "$root/results/quickstart.html"
