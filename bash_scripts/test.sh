#!/usr/bin/env bash
# The whole test suite, the tests on the real engine included. Arguments go to pytest, e.g.
# -m "not engine and not campaign" for the quick ones.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cpu_environment.sh"

cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
"$python" -m pytest "$@"
