"""How runs end: chains that stop early, disks that fail, engines slow to close."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.fakes import ScriptedEngine, brief
from helpers.scripted import ROOT, refused, run_script
from kflow.results.status import Status, StatusFile
from kflow.types import Request

QWEN = "vllm_kflow_qwen"


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
    for stop in (1, 3, 4, 7):
        home = tmp_path / str(stop)
        run_script(QWEN, flags, home, ScriptedEngine(same_from_step_1, stop_after=stop))
        ran = run_script(QWEN, flags, home, ScriptedEngine(same_from_step_1, order=stop))
        assert ran.predictions() == whole.predictions()


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


@pytest.mark.parametrize("more", [[], ["--dry_run"]], ids=["run", "dry"])
def test_a_window_that_no_question_fits_is_a_mistake(more: list[str], tmp_path: Path) -> None:
    ran = run_script(QWEN, ["--max_new_tokens", "64", *more], tmp_path)
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
