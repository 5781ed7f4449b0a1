"""kill -9 anywhere: every script, killed at seeded points of its own code until it is done."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from helpers.fakes import ScriptedEngine, contents
from helpers.scripted import SCRIPTS, run_script

KILLS = 15
FLAGS = ["--reflex_size", "3", "--num_seeds", "2", "--max_new_tokens", "4096"]
# Those whose steps are asked ahead, are wider than one, or of several widths.
RIVALS: dict[str, list[str]] = {
    "vllm_qwen_parallel_thinking": [],
    "vllm_oss_rsa": ["--rollouts_per_step", "2", "--aggregate", "2"],
    "vllm_qwen_trt": [],
    "vllm_oss_rse": ["--attempts", "2"],
    "vllm_qwen_pacore": ["--rounds", "2,2"],
}
WATCHED = ("store.py", "journal.py", "files.py")


def in_child(work: Callable[[], int]) -> int:
    """Run `work` in a forked process: its return value, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def attempt(script: str, folder: Path, order: int, kill_at: int | None, count: Path) -> int:
    """One start of a script; SIGKILL before or after the kill_at-th call that the watched files
    make. The number of such calls goes to `count` if the start gets to its end."""
    calls = 0

    def watch(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event.startswith("c_") and frame.f_code.co_filename.endswith(WATCHED):
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> int:
        sys.setprofile(watch)
        flags = [*FLAGS, *RIVALS.get(script, [])]
        ran = run_script(script, flags, folder, ScriptedEngine(order=order), fsync=os.fsync)
        sys.setprofile(None)
        count.write_text(str(calls))
        if ran.code:
            print(ran.err, file=sys.__stderr__)
        return int(str(ran.code or 0))

    return in_child(work)


@pytest.mark.campaign
@pytest.mark.parametrize("script", [*SCRIPTS, *RIVALS])
def test_killed_again_and_again(script: str, tmp_path: Path) -> None:
    count = tmp_path / "calls"
    assert attempt(script, tmp_path / "whole", 0, None, count) == 0
    whole = contents(tmp_path / "whole" / "results", "**/predictions_*.json")
    calls = int(count.read_text())
    assert len(whole) == 6
    assert calls > 500

    points = random.Random(script)
    kills = 0
    while kills < KILLS:
        folder = tmp_path / f"killed_{kills}"
        while True:
            code = attempt(script, folder, points.randrange(99), points.randrange(calls), count)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            kills += 1
        after = contents(folder / "results")
        assert {n: c for n, c in after.items() if "predictions_" in n} == whole
        assert {Path(n).name for n in after.keys() - whole.keys()} == {"run.json"}
