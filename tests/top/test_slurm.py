"""The Slurm example, under a fake srun and scontrol: what it makes of the program's exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.scripted import ROOT

EXAMPLE = ROOT / "bash_scripts" / "nodes" / "gpt_oss.sbatch"
# Runs a command as a step, with Slurm's signals: to the step once the command is under way, as two
# minutes before the time limit, and for CANCEL to the batch shell too.
SRUN = """#!/usr/bin/env bash
shift
"$@" &
if [ -n "${SIGNAL:-}" ]; then
    until [ -e ready ]; do sleep 0.02; done
    if [ "$SIGNAL" = CANCEL ]; then kill -TERM $PPID; fi
    kill -TERM $!
fi
wait $!
"""
SCONTROL = """#!/bin/sh
echo "$@" >>requeued
"""


def submit(
    home: Path, python: str, *flags: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the example as its batch shell would, with this text as `python`."""
    binaries = home / "bin"
    binaries.mkdir(exist_ok=True)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "python": python}.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    if not (home / "bash_scripts").exists():
        shutil.copytree(ROOT / "bash_scripts", home / "bash_scripts")
    return subprocess.run(
        ["bash", str(EXAMPLE), *flags],
        env={
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(home),
            "SLURM_JOB_ID": "4711",
            **environment,
        },
        capture_output=True,
        text=True,
    )


def requeued(home: Path) -> list[str]:
    path = home / "requeued"
    return path.read_text().splitlines() if path.exists() else []


def test_slurm_is_asked_for_a_signal_and_allowed_to_requeue() -> None:
    directives = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", EXAMPLE.read_text(), re.MULTILINE)
    options = dict(directives)
    assert (options["requeue"], options["signal"]) == ("", "TERM@120")
    assert options["open-mode"] == "append"
    assert options["gpus-per-node"] == "8"


@pytest.mark.parametrize(
    ("code", "retry_after", "again"),
    [
        (0, "0", False),
        (1, "0", True),
        (1, "600", False),
        (2, "0", False),
        (137, "0", True),
        (137, "600", False),
        (143, "600", True),
    ],
)
def test_the_exit_code_decides(code: int, retry_after: str, again: bool, tmp_path: Path) -> None:
    python = f'#!/bin/sh\nprintf "%s\\n" "$@" >asked\nexit {code}\n'
    done = submit(tmp_path, python, "--num_seeds", "2", RETRY_AFTER=retry_after)
    assert done.returncode == code
    assert requeued(tmp_path) == ["requeue 4711"] * again
    commands = (tmp_path / "asked").read_text().split()
    assert commands == ["scripts/vllm_kflow_oss.py", "--canary", "--num_seeds", "2"]


# The real program with a scripted engine, which waits for the signal after its fourth reply.
PROGRAM = f"""#!{sys.executable}
import os, sys, time
from pathlib import Path
sys.path[:0] = {[str(ROOT / "scripts"), str(ROOT / "tests")]!r}
from helpers.fakes import ScriptedEngine
from helpers.scripted import run_script

def waiting(keys):
    if "SIGNAL" in os.environ and len(engine.delivered) == 4:
        Path("ready").touch()
        time.sleep(600)
    return keys[:1]

engine = ScriptedEngine(pick=waiting)
flags = ["--reflex_size", "3", *sys.argv[3:]]
ran = run_script("vllm_kflow_oss", flags, Path("run").resolve(), engine)
print(ran.err, file=sys.stderr, end="")
sys.exit(ran.code)
"""


def test_a_job_at_its_time_limit_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    done = submit(tmp_path, PROGRAM, SIGNAL="TERM")
    assert (done.returncode, requeued(tmp_path)) == (143, ["requeue 4711"]), done.stderr
    assert "Terminated. Run the same command again to resume." in done.stderr
    (folder,) = tmp_path.glob("run/results/*/model")
    lines = [path.read_bytes() for path in folder.glob("rollouts_*.jsonl")]
    records = sum(text.count(b'{"rollout":') for text in lines)
    records += 3 * len(list(folder.glob("predictions_*.json")))
    assert records == 4
    again = submit(tmp_path, PROGRAM)
    assert (again.returncode, requeued(tmp_path)) == (0, ["requeue 4711"])
    assert len(list(folder.glob("predictions_*.json"))) == 3
    assert len(json.loads((folder / "run.json").read_bytes())["sessions"]) == 2
    assert "Complete." in again.stdout


def test_a_cancelled_job_is_not_queued_again(tmp_path: Path) -> None:
    done = submit(tmp_path, PROGRAM, SIGNAL="CANCEL")
    assert (done.returncode, requeued(tmp_path)) == (143, []), done.stderr
