"""What a run shows while it works, before its first rollout has finished too."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

import kflow
from fakes import ScriptedEngine, brief
from kflow import progress
from kflow.engines.vllm import VllmEngine
from kflow.progress import Progress
from test_settings import notebook


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REFRESH", 0.01)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)


class Watched(ScriptedEngine):
    """An engine whose first completion waits until its progress was asked for twice."""

    def __init__(self) -> None:
        super().__init__(brief)
        self.asked, self.shown = 0, threading.Event()

    def progress(self) -> tuple[int, int, int]:
        self.asked += 1
        if self.asked > 2:
            self.shown.set()
        return 1, 2, 3000

    def completions(self) -> Any:
        assert self.shown.wait(10)
        return super().completions()


@pytest.mark.usefixtures("quick")
def test_a_run_shows_what_is_in_flight_before_a_rollout_has_finished(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, chosen = notebook(tmp_path)
    kflow.run(experiment, chosen, Watched().start)
    first, *later = capsys.readouterr().err.splitlines()
    assert first.startswith("0 of 2 steps, ")
    assert first.endswith("tokens/s, 1 running, 2 waiting with 3000 tokens")
    assert "step 1 complete: 0/1 right (1 without an answer)" in later


@pytest.mark.usefixtures("quick")
def test_an_engine_whose_figures_fail_does_not_end_the_display(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = threading.Semaphore(0)

    def broken() -> tuple[int, int, int]:
        asked.release()
        raise RuntimeError("dictionary changed size during iteration")

    shown = Progress(4, 1, broken)
    for _ in range(3):
        assert asked.acquire(timeout=10)
    shown.close()
    assert "1 of 4 steps, 0 tokens/s" in capsys.readouterr().err


def test_a_vllm_in_flight_is_read_from_its_output_processor() -> None:
    def request(tokens: int) -> SimpleNamespace:
        return SimpleNamespace(detokenizer=SimpleNamespace(token_ids=[0] * tokens))

    states = {"a": request(5), "b": request(0), "c": request(7)}
    engine = VllmEngine.__new__(VllmEngine)
    engine._engine = SimpleNamespace(output_processor=SimpleNamespace(request_states=states))
    assert engine.progress() == (2, 1, 12)
