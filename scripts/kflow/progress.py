"""What a run shows while it works: a bar on a terminal, a line a minute elsewhere, one per step."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tqdm import tqdm

from .rollout import Rollout, Summary
from .terminal import printable

REFRESH, LINE_EVERY = 1.0, 60.0  # seconds
# Of the rollouts in flight: running, waiting, and the tokens they have so far.
InFlight = Callable[[], tuple[int, int, int]]


class Progress:
    """Shows how far the steps of all chains are. It moves before the first rollout has finished
    where the engine can tell how many tokens are in flight.

    total, done: steps of all chains. in_flight: the engine's own figures, None where it has none.
    """

    def __init__(self, total: int, done: int, in_flight: InFlight | None) -> None:
        self._in_flight = in_flight
        self._tokens = self._saved = self._steps = 0
        self._last_step = ""
        self._start = self._last_line = time.monotonic()
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, initial=done, unit="step", disable=not terminal, dynamic_ncols=True
        )
        self._done, self._total = done, total
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        self._thread.start()

    def rollout(self, rollout: Rollout, passed: int) -> None:
        """A finished rollout, and how many steps its chain passed with it."""
        with self._lock:
            if rollout.repeats_step is None:
                self._tokens += rollout.completion_tokens
            else:
                self._saved += rollout.completion_tokens
            self._done += passed
            self._bar.update(passed)

    def step(self, name: str, step: Summary) -> None:
        """A complete step, by its name."""
        self._steps += 1
        right = f"{step.correct}/{step.total}"
        self._last_step = f", {self._steps} steps complete, {name}: {right}"
        counts = (
            (step.no_answer, "without an answer"),
            (step.unreadable_box, "of them with an unreadable box"),
            (step.truncated, "truncated"),
            (step.other_finish_reasons, "with another finish reason"),
            (step.failed, "failed"),
            (step.early_stopped, "early-stopped"),
        )
        shown = ", ".join(f"{count} {words}" for count, words in counts if count)
        self.line(f"{name} complete: {right} right" + (f" ({shown})" if shown else ""))

    def line(self, text: str) -> None:
        """A line that stays in the log, above the bar. A reader that has gone away is no error."""
        with suppress(OSError):
            self._bar.write(printable(text), file=sys.stderr)

    def _refresh(self) -> None:
        while not self._closed.wait(REFRESH):
            with self._lock:
                shown = self._shown()
                if not self._bar.disable:
                    self._bar.set_postfix_str(f"{shown}{self._last_step}", refresh=True)
            now = time.monotonic()
            if self._bar.disable and now - self._last_line >= LINE_EVERY:
                self._last_line = now
                self.line(f"{self._done} of {self._total} steps, {shown}")

    def _shown(self) -> str:
        """Tokens per second since the start, and what is in flight."""
        try:
            running, waiting, tokens = self._in_flight() if self._in_flight else (0, 0, 0)
        except Exception:  # of another thread's data, in the middle of a change
            running, waiting, tokens = 0, 0, 0
        speed = (self._tokens + tokens) / max(1e-9, time.monotonic() - self._start)
        shown = f"{speed:.0f} tokens/s"
        if self._in_flight is not None:
            shown += f", {running} running"
            shown += f", {waiting} waiting" if waiting else ""
            shown += f" with {tokens} tokens"
        return shown

    def close(self) -> None:
        self._closed.set()
        self._thread.join(2 * REFRESH)
        self._bar.close()
        if self._saved:
            self.line(f"Early-stopped chains saved {self._saved} tokens (--stop_when_stable)")
