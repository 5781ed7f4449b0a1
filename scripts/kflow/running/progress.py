"""What a run shows on stderr while it works: a status line that is drawn again and again on a
terminal, one a minute elsewhere, and above it a line per step."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from tqdm import tqdm

from kflow.ground.terminal import printable
from kflow.results.rollout import Summary
from kflow.results.status import Status
from kflow.results.status import line as status_line

LINE_EVERY = 60.0  # seconds
WIDTH = 80  # columns, of a terminal that does not say


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
