# Sourced by the study scripts, which set `root`: runs a study and compares its arms.
python="${python:-python}"

# study SCRIPT [FLAG ...]: the first arm is compared with every other one.
study() {
    local out
    out="$("$python" "$root/scripts/$1" --results_dir "$root/results" "${@:2}" | tee /dev/stderr)"
    local folders=()
    while IFS= read -r line; do folders+=("$line"); done < <(sed -n 's/^Results: //p' <<<"$out")
    [ "${#folders[@]}" -gt 0 ] || return 0 # --dry_run, --help: nothing ran
    "$python" "$root/scripts/compare_results.py" "${folders[@]}" --baseline "${folders[0]}"
    "$python" "$root/scripts/report.py" "${folders[@]}" -o "$root/results/study.html"
}
