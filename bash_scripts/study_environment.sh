# Sourced by the study scripts, which set `root`: runs a study and compares its arms at an equal budget.
# page: where the page goes.
python="${python:-python}"

# study SCRIPT [FLAG ...]: every arm is compared with the first one.
study() {
    local out budget folders=()
    out="$("$python" "$root/scripts/$1" --results_dir "$root/results" "${@:2}" | tee /dev/stderr)"
    while IFS= read -r line; do folders+=("$line"); done < <(sed -n 's/^Results: //p' <<<"$out")
    read -ra budget < <(sed -n 's/^Equal budget: //p' <<<"$out") || true
    [ "${#folders[@]}" -gt 0 ] || return 0 # --dry_run, --help: nothing ran
    "$python" "$root/scripts/compare_results.py" "${folders[@]}" --baseline "${folders[0]}" \
        "${budget[@]}"
    "$python" "$root/scripts/report.py" "${folders[@]}" -o "${page:-$root/results/study.html}"
}
