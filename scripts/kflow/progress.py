"""What a run says while it works: a bar on a terminal, a line a minute elsewhere, one a step."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from .types import Key, Record


class Progress:
    """Counts rollouts out of `total` (all chains, all steps); `done` were on disk at the start."""

    def __init__(self, total: int, done: int) -> None:
        self._tokens, self._last_step = 0, ""
        self._last_line = self._start = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=done,
            unit="rollout",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )
        self._done = done

    def rollout(self, key: Key, record: Record, step: Record | None) -> None:
        """A finished rollout, with its step's summary if it was the step's last."""
        tokens = record["completion_tokens"]
        self._tokens += tokens if isinstance(tokens, int) else 0
        self._done += 1
        if step is not None:
            self._last_step = f", step {key.step}: {step['correct']}/{step['total']}"
            self.say(
                f"step {key.step} complete: {step['correct']} of {step['total']} right, "
                f"{step['no_answer']} without an answer, {step['cut_off']} cut off"
            )
        now = time.monotonic()
        speed = self._tokens / max(1e-9, now - self._start)
        self._bar.set_postfix_str(f"{speed:.0f} tok/s{self._last_step}", refresh=False)
        self._bar.update()
        if self._bar.disable and now - self._last_line >= 60:
            self._last_line = now
            self.say(f"{self._done} of {self._bar.total} rollouts, {speed:.0f} tokens/s")

    def say(self, line: str) -> None:
        """A line that stays in the log, above the bar."""
        self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
