"""Studies of many seeds, early-stopped chains, and runs in which too much fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import ScriptedEngine, brief
from helpers.scripted import ROOT, Ran, refused, run_script
from kflow.results.status import Status, StatusFile
from kflow.types import Completion, Request

QWEN, OSS = "vllm_kflow_qwen", "vllm_kflow_oss"


def test_prefix_caching_is_off_as_published_and_on_for_several_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seeds, caching in (("1", False), ("2", True)):
        engine = ScriptedEngine()
        flags = ["--reflex_size", "1", "--num_seeds", seeds]
        run_script(OSS, flags, tmp_path / seeds, engine)
        assert engine.arguments["enable_prefix_caching"] is caching


def same_from_step_1(request: Request, prompt: str) -> str:
    answer = 7 if request.key.step or request.key.problem == "first" else 6
    return f"[Summary]: It is.\n[Answer]: \\boxed{{{answer}}}"


def test_an_early_stopped_chain_repeats_its_last_record(tmp_path: Path) -> None:
    flags = ["--reflex_size", "5", "--stop_when_stable", "2"]
    engine = ScriptedEngine(same_from_step_1)
    ran = run_script(QWEN, flags, tmp_path, engine)
    assert (
        len(engine.requests) == 2 + 3 + 3
    )  # "first" stops before step 2, the others before step 3
    summary, first, second, _ = ran.step(4)
    assert (first["repeats_step"], second["repeats_step"]) == (1, 2)
    assert first == ran.step(1)[1] | {"repeats_step": 1}
    assert (summary["early_stopped"], summary["completion_tokens"]) == (3, 0)
    assert summary["saved_tokens"] > 0
    assert "saved" in ran.err
    again = run_script(QWEN, flags, tmp_path)
    assert "is complete" in again.out


def test_a_run_with_early_stopped_chains_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    flags = ["--reflex_size", "5", "--stop_when_stable", "2"]
    whole = run_script(QWEN, flags, tmp_path / "whole", ScriptedEngine(same_from_step_1))
    for stop in range(1, 8):
        home = tmp_path / str(stop)
        run_script(QWEN, flags, home, ScriptedEngine(same_from_step_1, stop_after=stop))
        ran = run_script(QWEN, flags, home, ScriptedEngine(same_from_step_1, order=stop))
        assert ran.predictions() == whole.predictions()


Script = Callable[[Request, str], Completion | str]


def failing(at: Callable[[Request], bool]) -> Script:
    def script(request: Request, prompt: str) -> Completion | str:
        failed = Completion(request.key, failure=f"refused: {request.key.problem}")
        return failed if at(request) else brief(request, prompt)

    return script


def status(ran: Ran) -> dict[str, Any]:
    return dict(json.loads((ran.folder / "status.json").read_bytes()))


@pytest.mark.parametrize(("allowed", "code"), [("0", 1), ("2", 1), ("3", 0), (None, 0)])
def test_too_many_failures_end_a_run(allowed: str | None, code: int, tmp_path: Path) -> None:
    flags = ["--reflex_size", "3"] + (["--max_failures", allowed] if allowed else [])
    engine = ScriptedEngine(failing(lambda request: request.key.step == 1))
    ran = run_script(QWEN, flags, tmp_path, engine)
    assert ran.code == code
    if code:
        assert f"More than {allowed} rollouts failed" in ran.complaints[-1]
        assert "More than" in status(ran)["state"]
    else:
        assert status(ran) | {"updated": ""} == {
            "steps_total": 9,
            "steps_done": 9,
            "state": "complete",
            "rollouts": 9,
            "failures": 3,
            "stopped": [],
            "updated": "",
            "rollouts_by_step": [3, 3, 3],
        }
        again = run_script(QWEN, flags, tmp_path)
        assert again.code == 0
        assert "is complete: 3 steps of 3 chains; 3 rollouts failed for good." in again.out


@pytest.mark.parametrize(("steps", "requests"), [(64, 8), (2, 6)])
def test_a_run_in_which_everything_fails_ends_at_once(
    steps: int, requests: int, tmp_path: Path
) -> None:
    flags = ["--reflex_size", str(steps)]
    engine = ScriptedEngine(failing(lambda request: True))
    ran = run_script(QWEN, flags, tmp_path, engine)
    assert ran.code == 1
    begun = steps > 2  # and can go on, where all rollouts of the shorter run are on record
    assert ran.complaints[-1].endswith("Run the same command again to resume.") is begun
    assert "failed" in ran.complaints[-1]
    assert len(engine.delivered) in range(requests, requests + 3)  # what came with the last one
    again = run_script(QWEN, flags, tmp_path, engine2 := ScriptedEngine(failing(lambda _: True)))
    assert again.code == (1 if begun else 2)
    assert len(engine2.requests) <= (12 if begun else 0)


def test_a_disk_that_fails_does_not_hide_why_a_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: StatusFile, status: Status, at_once: bool = False) -> None:
        if at_once:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(StatusFile, "update", full)
    engine = ScriptedEngine(brief, stop_after=1, stop_with=KeyboardInterrupt())
    assert run_script(QWEN, [], tmp_path, engine).code == 130
    ran = run_script(QWEN, ["--reflex_size", "1"], tmp_path, ScriptedEngine(brief))
    assert ran.code == 1
    assert "(No space left on device)" in ran.complaints[-1]


def test_a_rollout_that_is_not_answered_stays_open_and_the_others_go_on(tmp_path: Path) -> None:
    def away(request: Request, prompt: str) -> Completion | str:
        if request.key[1:4] == ("second", 0, 1):
            return Completion(request.key, unanswered="the server is away")
        return brief(request, prompt)

    flags = ["--reflex_size", "3"]
    ran = run_script(QWEN, flags, tmp_path / "away", ScriptedEngine(away))
    assert ran.code == 1
    assert ran.complaints[-1] == (
        "1 rollout got no reply; first: problem second, step 1: the server is away. "
        "Run the same command again to resume."
    )
    assert sorted(ran.predictions()) == ["predictions_0.json"]
    (stopped,) = status(ran)["stopped"]
    assert stopped == {
        "problem": "second", "seed": 0, "step": 1, "slot": 0, "reason": "the server is away"
    }  # fmt: skip
    engine = ScriptedEngine(brief)
    resumed = run_script(QWEN, flags, tmp_path / "away", engine)
    assert resumed.code == 0
    assert {request.key[1:4] for request in engine.requests} == {
        ("second", 0, 1), ("second", 0, 2)
    }  # fmt: skip
    whole = run_script(QWEN, flags, tmp_path / "whole", ScriptedEngine(brief))
    assert resumed.predictions() == whole.predictions()


def test_a_window_that_no_question_fits_is_a_mistake(tmp_path: Path) -> None:
    ran = run_script(QWEN, ["--max_new_tokens", "64"], tmp_path)
    refused(ran, "No question fits", "give a larger --max_new_tokens")
    assert not ran.results.exists()


def test_a_complete_run_on_a_read_only_mount_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--reflex_size", "2"]
    run_script(QWEN, flags, tmp_path, ScriptedEngine())
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert "is complete" in run_script(QWEN, flags, tmp_path).out
    refused(run_script(QWEN, ["--reflex_size", "3"], tmp_path), "cannot be written to")


@pytest.mark.parametrize(("signals", "code"), [([signal.SIGINT] * 2, 130), ([signal.SIGTERM], 143)])
def test_an_engine_slow_to_close_does_not_keep_a_run(
    signals: list[int], code: int, tmp_path: Path
) -> None:
    program = f"""
import os, subprocess, sys, time
from pathlib import Path
sys.path[:0] = {[str(ROOT / "tests"), str(ROOT / "scripts")]!r}
from kflow.ground import signals
signals.PATIENCE = 0.1
from helpers.fakes import ScriptedEngine
from helpers.scripted import run_script
class Slow(ScriptedEngine):
    def completions(self):
        worker = "import subprocess; subprocess.run(['sleep', '600'])"
        subprocess.Popen([sys.executable, "-c", worker], start_new_session=True)
        while len(started := signals.descendants(os.getpid())) < 2:
            time.sleep(0.01)
        Path("started").write_text(" ".join(map(str, started)))
        os.kill(os.getpid(), {int(signals[0])})
        time.sleep(60)
    def close(self):
        for number in {[int(s) for s in signals[1:]]}:
            os.kill(os.getpid(), number)
        time.sleep(60)
run_script({QWEN!r}, ["--reflex_size", "1"], Path.cwd(), Slow())
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path).returncode == code
    started = [Path("/proc", pid, "stat") for pid in (tmp_path / "started").read_text().split()]
    assert len(started) == 2
    states = [path.read_text().rpartition(")")[2].split()[0] for path in started if path.exists()]
    assert set(states) <= {"Z"}  # gone, if not yet collected
