# Sourced by the study scripts, which set `root`: runs a study and compares its arms at equal budgets.
# page: where the page goes, by default beside the results, under the script's name.
python="${python:-python}"

# study SCRIPT [FLAG ...]: every arm is compared with the first one.
study() {
    local out code=0 folders=() results
    # Its progress goes to stderr; what it prints comes at the end.
    out="$("$python" "$root/scripts/$1" --results_dir "$root/results" "${@:2}")" || code=$?
    [ -z "$out" ] || printf '%s\n' "$out"
    [ "$code" = 0 ] || return "$code"
    while IFS= read -r line; do folders+=("$line"); done < <(sed -n 's/^Results: //p' <<<"$out")
    [ "${#folders[@]}" -gt 0 ] || return 0 # --dry_run, --help: nothing ran
    results="$(dirname "$(dirname "${folders[0]}")")"
    "$python" "$root/scripts/compare_results.py" "${folders[@]}" --baseline "${folders[0]}"
    "$python" "$root/scripts/report.py" "${folders[@]}" \
        -o "${page:-$results/$(basename "$0" .sh).html}"
}
