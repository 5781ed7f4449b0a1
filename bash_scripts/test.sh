#!/usr/bin/env bash
# The whole test suite, the tests on the real engine included. Arguments go to pytest, e.g.
# -n 2 -m "not engine and not campaign" for the quick ones, in two processes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cpu_environment.sh"

cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
# The engine's tests get a process of their own: an engine computes with the threads and libraries
# that its process already has.
if [ $# -eq 0 ]; then
    "$python" -m pytest -n 2 --dist worksteal -m "not engine"
    "$python" -m pytest -m engine
else
    "$python" -m pytest "$@"
fi
