"""What a run does every second beside its loop: look at the engine, and say how far it is."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from kflow.results.status import EngineStatus, engine_status
from kflow.types import EngineState

EVERY, MINUTE = 1.0, 60.0  # seconds


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
        except Exception:  # of another thread's data, in the middle of a change
            return EngineStatus()
        in_flight = engine_status(state, None).tokens_in_flight
        tokens = self._finished() + (in_flight or 0)
        speed = self._speed(time.monotonic(), tokens, in_flight is not None)
        return engine_status(state, speed)

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
