"""What a run does every second beside its loop: look at the engine, and say how far it is."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from .status import EngineStatus, engine_status
from .types import Figures

EVERY, MINUTE = 1.0, 60.0  # seconds


class Heartbeat:
    """Calls `beat` with the engine's figures once a second, in a thread of its own, from before the
    first rollout has finished.

    figures: the engine's own, None where it has none. finished: the tokens of all rollouts that
    have ended.
    """

    def __init__(
        self,
        figures: Callable[[], Iterable[object]] | None,
        finished: Callable[[], int],
        beat: Callable[[EngineStatus], None],
    ) -> None:
        self._figures, self._finished, self._beat = figures, finished, beat
        self._samples = deque([(time.monotonic(), 0)])
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(EVERY):
            self._beat(self._look())

    def _look(self) -> EngineStatus:
        try:
            figures = Figures(*self._figures()) if self._figures else None  # type: ignore[arg-type]
        except Exception:  # of another thread's data, in the middle of a change
            return EngineStatus()
        known = engine_status(figures, None)
        tokens = self._finished() + (known.tokens_in_flight or 0)
        return engine_status(figures, self._speed(time.monotonic(), tokens))

    def _speed(self, now: float, tokens: int) -> float:
        """Tokens per second in the last minute; since the start where only whole rollouts count,
        which end rarely."""
        samples = self._samples
        samples.append((now, tokens))
        while self._figures and len(samples) > 2 and samples[1][0] <= now - MINUTE:
            samples.popleft()
        begun, before = samples[0]
        return max(0, tokens - before) / max(1e-9, now - begun)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
