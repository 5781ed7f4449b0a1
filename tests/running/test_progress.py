"""What a run shows while it works, before its first rollout has finished too."""

from __future__ import annotations

import fcntl
import json
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import kflow
from helpers.fakes import ScriptedEngine, brief
from kflow.results import status
from kflow.results.status import EngineStatus, Status
from kflow.running import policy, progress
from kflow.running.progress import Heartbeat, Progress
from kflow.testing import run
from vllm_kflow_qwen import EXPERIMENT

ONE = [("How many?", 1)]  # problem
FIGURES = (1, 2, 3000, 0.5, 4)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.01)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    monkeypatch.setattr(status, "EVERY", 0.0)


class Watched(ScriptedEngine):
    """An engine whose first completion waits until its figures were asked for and shown."""

    def __init__(self, seen: Callable[[], object] = lambda: None) -> None:
        super().__init__(brief)
        self.asked, self.shown, self._seen = 0, threading.Event(), seen

    def progress(self) -> tuple[float, ...]:
        self.asked += 1
        if self.asked > 2:
            self.shown.set()
        return FIGURES

    def completions(self) -> Any:
        if not self.delivered:
            assert self.shown.wait(10)
            self._seen()
        return super().completions()


def on_disk(home: Path) -> dict[str, Any]:
    (path,) = home.rglob("status.json")
    return dict(json.loads(path.read_bytes()))


@pytest.mark.usefixtures("quick")
def test_a_run_shows_what_is_in_flight_before_a_rollout_has_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses: list[dict[str, Any]] = []
    watched = Watched(lambda: statuses.append(on_disk(tmp_path)))
    run(EXPERIMENT, ONE, tmp_path, watched, reflex_size=2)
    first, *later = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"0/2 steps, 1 running, 2 waiting, [\d,]+ tokens/s, KV cache 50%, 4 preemptions, "
        "3,000 tokens in flight",
        first,
    )
    assert "step 1 complete: 0/1 right (1 without an answer)" in later
    (during,) = statuses
    assert (during["state"], during["steps_done"], during["rollouts_by_step"]) == ("running", 0, [])
    assert during["engine"].pop("tokens_per_second") > 0
    assert during["engine"] == {
        "running": 1, "waiting": 2, "tokens_in_flight": 3000, "kv_usage": 0.5, "preemptions": 4
    }  # fmt: skip
    after = on_disk(tmp_path)
    assert (after["state"], after["rollouts_by_step"], "engine" in after) == (
        "complete", [1, 1], False
    )  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_a_run_resumed_counts_what_is_on_record(tmp_path: Path) -> None:
    with pytest.raises(kflow.RunEnded):
        run(EXPERIMENT, ONE, tmp_path, ScriptedEngine(brief, stop_after=1), reflex_size=2)
    statuses: list[dict[str, Any]] = []
    watched = Watched(lambda: statuses.append(on_disk(tmp_path)))
    run(EXPERIMENT, ONE, tmp_path, watched, reflex_size=2)
    assert (statuses[0]["steps_done"], statuses[0]["rollouts_by_step"]) == (1, [1])


@pytest.mark.usefixtures("quick")
def test_a_status_that_cannot_be_written_is_said_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    update = policy.StatusFile.update

    def full(file: policy.StatusFile, given: Status, at_once: bool = False) -> None:
        if given.engine is not None:
            raise OSError(28, "No space left on device")
        update(file, given, at_once)

    monkeypatch.setattr(policy.StatusFile, "update", full)
    run(EXPERIMENT, ONE, tmp_path, Watched(), reflex_size=2)
    assert capsys.readouterr().err.count("Cannot write status.json (No space left") == 1


def beats(figures: Any, tokens: Callable[[], int], number: int = 3) -> list[EngineStatus]:
    """The first figures that a heartbeat gives."""
    statuses: list[EngineStatus] = []
    enough = threading.Event()

    def beat(engine: EngineStatus) -> None:
        statuses.append(engine)
        if len(statuses) == number:
            enough.set()

    beating = Heartbeat(figures, tokens, beat)
    assert enough.wait(10)
    beating.close()
    return statuses[:number]


def broken() -> tuple[int, ...]:
    raise RuntimeError("dictionary changed size during iteration")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "figures",
    [broken, lambda: (1,), lambda: (1, 2, "many", 0.5, 4)],
    ids=["raises", "too few", "no number"],
)
def test_an_engine_whose_figures_fail_does_not_end_the_heartbeat(figures: Any) -> None:
    assert beats(figures, lambda: 0) == [EngineStatus()] * 3


@pytest.mark.usefixtures("quick")
def test_an_engine_without_figures_has_the_speed_of_what_is_finished() -> None:
    for figures in beats(None, lambda: 1000):
        assert figures == EngineStatus(figures.tokens_per_second)
        assert (figures.tokens_per_second or 0) > 0


def test_the_speed_is_that_of_the_last_minute() -> None:
    """At 10 tokens a second, then none: after a minute the speed is 0; with whole rollouts alone,
    which end rarely, it stays that since the start."""
    written = [(30, 300), (60, 600), (90, 600), (120, 600)]
    for recent, speeds in ((True, [10, 10, 5, 0]), (False, [10, 10, 20 / 3, 5])):
        beating = Heartbeat(None, lambda: 0, lambda engine: None)
        beating.close()
        begun = beating._begun
        measured = [beating._speed(begun + seconds, tokens, recent) for seconds, tokens in written]
        assert measured == pytest.approx(speeds)


def drawn(columns: int, draw: Callable[[Progress], None]) -> str:
    """What a terminal gets."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    before = sys.stderr
    with open(follower, "w", encoding="utf-8") as sys.stderr:
        try:
            shown = Progress()
            draw(shown)
            shown.close()
        finally:
            sys.stderr = before
    text = b""
    with open(leader, "rb", buffering=0) as terminal, suppress(OSError):  # at its end
        while part := terminal.read(1 << 16):
            text += part
    return text.decode()


@pytest.mark.parametrize("columns", [40, 200])
def test_the_status_is_one_line_of_a_terminal_with_lines_above_it(columns: int) -> None:
    engine = EngineStatus(5310.4, 28, 2, 1_204_000, 0.634, 4)

    def draw(shown: Progress) -> None:
        shown.show([Status(1920, 411, seconds_left=11_400, engine=engine)])
        shown.line("a line that stays \x1b[2J")
        shown.show([Status(1920, 412, seconds_left=11_400, engine=engine)])

    text = drawn(columns, draw)
    assert all(len(each) < columns for each in re.split(r"[\r\n]", text))
    assert "411/1,920 steps, 3 h 10 min left" in text
    assert ("KV cache 63%" in text) is (columns == 200)
    assert r"a line that stays \x1b[2J" + "\r\n" in text
    assert text.index("411/") < text.index("that stays") < text.index("412/")
