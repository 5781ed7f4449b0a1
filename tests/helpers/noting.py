"""Bash scripts run with a python that notes what it is asked, and does nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from helpers.scripted import ROOT

# A study prints where its results are, and ends with the code asked for.
NOTING = """#!/bin/sh
{ printf '%s\\037' "$@"; echo; } >>"$NOTES"
case "$1" in
*/study_*.py) printf 'Results: /r/the first/m\\nother words\\nResults: /r/second/m\\n'
    exit "$CODE" ;;
esac
"""


def noted(script: str, code: int, folder: Path, *flags: str) -> tuple[int, list[list[str]]]:
    """The exit code of a script, and the programs that it started; it has a repository of its own
    whose environment is ready. script: its path in the repository; code: what a study ends with."""
    binaries = folder / ".venv/bin"
    for each in ("bash_scripts", "docs"):
        shutil.copytree(ROOT / each, folder / each)
    binaries.mkdir(parents=True)
    (binaries / "python").write_text(NOTING)
    (binaries / "python").chmod(0o755)
    (folder / "requirements").mkdir()
    for stamp in ("requirements/cpu.txt", ".venv/requirements_cpu.txt"):
        (folder / stamp).write_text("as installed\n")
    done = subprocess.run(
        ["bash", str(folder / script), *flags],
        env={
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "KFLOW_CACHE": str(folder / "cache"),
            "NOTES": str(folder / "notes"),
            "CODE": str(code),
        },
        cwd=folder,
        capture_output=True,
        text=True,
    )
    calls = [line.split("\037")[:-1] for line in (folder / "notes").read_text().splitlines()]
    return done.returncode, [call for call in calls if call[0] != "-c"]
