#!/usr/bin/env bash
# A study: the mistakes list and its rivals at 64 rollouts a problem, in one engine on all GPUs of
# this node, then compared with parallel thinking (else the first of them) and shown on one page.
#   bash bash_scripts/study.sh gpt_oss [FLAG ...]
#   bash bash_scripts/study.sh qwen3 [FLAG ...]
# The flags are those of study_oss.py and study_qwen.py. From the environment: `python`, the
# interpreter, and `page`, the name of the page (FAMILY_study), which goes beside the results.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${python:-python}"
case "${1:-}" in
gpt_oss) script=study_oss.py ;;
qwen3) script=study_qwen.py ;;
*)
    echo "Name the family: bash bash_scripts/study.sh gpt_oss, or qwen3, and then flags." >&2
    exit 2
    ;;
esac

# Its progress goes to stderr; what it prints comes at the end.
code=0
out="$("$python" "$root/scripts/$script" --results_dir "$root/results" "${@:2}")" || code=$?
[ -z "$out" ] || printf '%s\n' "$out"
[ "$code" = 0 ] || exit "$code"
folders=()
while IFS= read -r line; do folders+=("$line"); done < <(sed -n 's/^Results: //p' <<<"$out")
[ "${#folders[@]}" -gt 0 ] || exit 0 # --dry_run, --help: nothing ran
results="$(dirname "$(dirname "${folders[0]}")")"
"$python" "$root/scripts/compare_results.py" "${folders[@]}"
"$python" "$root/scripts/report.py" "${folders[@]}" -o "$results/${page:-$1_study}.html"
