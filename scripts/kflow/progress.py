"""What a run says while it works: a bar on a terminal, a line a minute elsewhere, one a step."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from .chain import Chain
from .types import Key, Record, RunEnded


class Progress:
    """Counts the rollouts of all chains up to `steps`; those before a chain's step are done.

    Raises RunEnded from `rollout` when more than max_failures have failed; None: never.
    """

    def __init__(self, chains: Sequence[Chain], steps: int, max_failures: int | None) -> None:
        self._done = sum(chain.step for chain in chains)
        self._several_seeds = any(chain.seed for chain in chains)
        self._failures, self._max_failures = 0, max_failures
        self._tokens, self._saved, self._steps, self._last_step = 0, 0, 0, ""
        self._last_line = self._start = time.monotonic()
        self._bar = tqdm(
            total=len(chains) * steps,
            initial=self._done,
            unit="rollout",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def rollout(self, key: Key, record: Record, step: Record | None) -> None:
        """A finished rollout, with its step's summary if it was the step's last."""
        tokens = record["completion_tokens"]
        if isinstance(tokens, int) and "carried_from" in record:
            self._saved += tokens
        elif isinstance(tokens, int):
            self._tokens += tokens
        self._done += 1
        if step is not None:
            self._step(key, step)
        now = time.monotonic()
        speed = self._tokens / max(1e-9, now - self._start)
        self._bar.set_postfix_str(f"{speed:.0f} tok/s{self._last_step}", refresh=False)
        self._bar.update()
        if self._bar.disable and now - self._last_line >= 60:
            self._last_line = now
            self.say(f"{self._done} of {self._bar.total} rollouts, {speed:.0f} tokens/s")
        self._failures += record["failure"] is not None
        if self._max_failures is not None and self._failures > self._max_failures:
            raise RunEnded(
                f"More than {self._max_failures} rollouts failed (--max_failures), the last one "
                f"because {record['failure']}"
            )

    def _step(self, key: Key, step: Record) -> None:
        self._steps += 1
        name = f"seed {key.seed} step {key.step}" if self._several_seeds else f"step {key.step}"
        right = f"{step['correct']}/{step['total']}"
        self._last_step = f", {self._steps} steps complete, {name}: {right}"
        counts = ", ".join(
            f"{step[count]} {words}"
            for count, words in (
                ("no_answer", "without an answer"),
                ("cut_off", "cut off"),
                ("failed", "failed"),
                ("carried", "carried over"),
            )
            if step[count]
        )
        self.say(f"{name} complete: {right} right" + (f" ({counts})" if counts else ""))

    def say(self, line: str) -> None:
        """A line that stays in the log, above the bar."""
        self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
        if self._saved:
            self.say(f"Chains at rest saved {self._saved} tokens (--stop_when_stable)")
