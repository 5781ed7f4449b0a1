# Sourced by what starts runs on nodes: a server on each, a file that lists those that answer
# (--base_url @FILE), and whether a run that has ended is worth another start. From the environment:
#   SERVE          starts a server (bash_scripts/serve_gpt_oss.sh), with SERVE_FLAGS
#   RUN            the client's script (scripts/vllm_kflow_oss.py)
#   PORT           of the servers (8000)
#   HOST           the address they listen at (the node's own name or address)
#   START_WITHIN   seconds after which the run begins with the servers that answer by then (3600)
#   RETRY_AFTER    seconds of work after which a failed run is started again (600)
serve="${SERVE:-bash_scripts/serve_gpt_oss.sh}"
run="${RUN:-scripts/vllm_kflow_oss.py}"
port="${PORT:-8000}"
keepers=()

# A node's server, started again whenever it ends, unless by a mistake; it ends with this:
# keep NODE COMMAND... &
keep() {
    local code child=
    trap 'kill "$child" 2>/dev/null; exit 143' TERM
    while :; do
        code=0
        # shellcheck disable=SC2086 # several flags
        "${@:2}" --host "${HOST:-$1}" --port "$port" ${SERVE_FLAGS:-} &
        child="$!"
        wait "$child" || code="$?"
        if [ "$code" = 2 ]; then return 2; fi
        echo "The server of $1 has ended with exit code $code and is started again."
        sleep "${RESTART_AFTER:-30}"
    done
}

answers() { curl -sf --noproxy '*' --max-time 10 -o /dev/null "http://$1:$port/health"; }

# Writes the servers that answer into $list, whole; while none does, those before stay there.
list_servers() {
    local node
    for node in "${nodes[@]}"; do
        if answers "$node"; then echo "http://$node:$port/v1"; fi
    done >"$list.new"
    if [ -s "$list.new" ]; then mv "$list.new" "$list"; fi
}

follow_servers() { while sleep "${LOOK_EVERY:-10}"; do list_servers; done; }

# Until each server answers, or some do and the time is over. 1: none does. 2: none ever will.
wait_for_servers() {
    local until=$((SECONDS + ${START_WITHIN:-3600}))
    : >"$list"
    while list_servers; [ "$(wc -l <"$list")" -lt "${#nodes[@]}" ]; do
        if ! kill -0 "${keepers[@]}" 2>/dev/null; then
            echo "The servers have ended by a mistake: see what they say."
            return 2
        fi
        if [ "$SECONDS" -ge "$until" ]; then
            echo "$(wc -l <"$list") of ${#nodes[@]} servers answer after ${START_WITHIN:-3600} seconds."
            [ -s "$list" ]
            return
        fi
        sleep "${LOOK_EVERY:-10}"
    done
}

# Whether the program's exit code calls for another start (docs/how_it_works.md, "Failures and exit
# codes"); says so.
worth_another_start() {
    case "$1" in
    0) echo "Complete." && return 1 ;;
    2) echo "A mistake to correct: see above. Not started again." && return 1 ;;
    143) return 0 ;; # terminated: every finished rollout is on disk
    *)               # The engine, the disk or a node failed. At once: it would fail again; later: it may not.
        [ "$SECONDS" -ge "${RETRY_AFTER:-600}" ]
        ;;
    esac
}
