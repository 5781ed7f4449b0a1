"""What a run does beside its loop: look at the engine once a second, and show how far it is on
stderr: a status line that is drawn again and again on a terminal, one a minute elsewhere, and above
it a line per step.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from tqdm import tqdm

from kflow.ground.terminal import printable
from kflow.results.rollout import Summary
from kflow.results.status import EngineStatus, Status, engine_status
from kflow.results.status import line as status_line
from kflow.types import EngineState

EVERY, MINUTE = 1.0, 60.0  # seconds
LINE_EVERY = 60.0  # seconds
WIDTH = 80  # columns, of a terminal that does not say


class Heartbeat:
    """Calls `beat` with the engine's state once a second, in a thread of its own, from before the
    first rollout has finished.

    state: the engine's own, None where it has none. finished: the tokens of all rollouts that
    have ended.
    """

    def __init__(
        self,
        state: Callable[[], Iterable[object]] | None,
        finished: Callable[[], int],
        beat: Callable[[EngineStatus], None],
    ) -> None:
        self._state, self._finished, self._beat = state, finished, beat
        self._begun = time.monotonic()
        self._samples = deque([(self._begun, 0)])
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(EVERY):
            self._beat(self._look())

    def _look(self) -> EngineStatus:
        try:
            state = EngineState(*self._state()) if self._state else None  # type: ignore[arg-type]
            in_flight = engine_status(state, None).tokens_in_flight
            tokens = self._finished() + (in_flight or 0)
            speed = self._speed(time.monotonic(), tokens, in_flight is not None)
            return engine_status(state, speed)
        except Exception:  # another thread's data amid a change, or figures of another kind
            return EngineStatus()

    def _speed(self, now: float, tokens: int, recent: bool) -> float:
        """Tokens per second: in the last minute, or since the start where only whole rollouts
        count, which end rarely."""
        samples = self._samples
        samples.append((now, tokens))
        while len(samples) > 2 and samples[1][0] <= now - MINUTE:
            samples.popleft()
        begun, before = samples[0] if recent else (self._begun, 0)
        return max(0, tokens - before) / max(1e-9, now - begun)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


class Progress:
    def __init__(self) -> None:
        self._last_line = time.monotonic()
        self._bar = tqdm(bar_format="{desc}", disable=not sys.stderr.isatty())

    def show(self, statuses: Sequence[Status]) -> None:
        """statuses: of the runs side by side."""
        if not self._bar.disable:
            self._bar.set_description_str(status_line(statuses, columns() - 1), refresh=True)
        elif time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            self.line(status_line(statuses))

    def step(self, name: str, step: Summary) -> None:
        """A complete step, by its name."""
        counts = (
            (step.no_answer, "without an answer"),
            (step.unreadable_box, "of them with an unreadable box"),
            (step.truncated, "truncated"),
            (step.other_finish_reasons, "with another finish reason"),
            (step.failed, "failed"),
            (step.empty, "of them with an empty reply"),
            (step.early_stopped, "early-stopped"),
            (step.preemptions, "preempted"),
            (step.lost_context, "with lost context"),
        )
        shown = ", ".join(f"{count} {words}" for count, words in counts if count)
        asked = step.total - step.asks_no_answer
        right = f": {step.correct}/{asked} right" if asked else ""
        self.line(f"{name} complete{right}" + (f" ({shown})" if shown else ""))

    def line(self, text: str) -> None:
        """A line that stays in the log, above the status. A closed pipe is no error."""
        with suppress(OSError):
            self._bar.write(printable(text), file=sys.stderr)

    def close(self) -> None:
        self._bar.leave = False  # what it showed last is no longer so
        self._bar.close()


def columns() -> int:
    """Of the terminal, which may be resized at any time."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH
