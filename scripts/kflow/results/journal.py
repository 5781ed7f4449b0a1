"""The journal of one step: a line for each finished rollout, and one for each chain's outcome."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kflow.ground.files import APPEND, open_regular, sync_folder
from kflow.results.rollout import (
    DECODE_OUTCOME,
    ENCODE,
    Outcome,
    Rollout,
    Summary,
    from_json,
    merge_step,
    summary,
    to_json,
    without_texts,
)
from kflow.types import RunEnded

ROLLOUT, OUTCOME, CLOSE = b'{"rollout":', b'{"outcome":', b"}"
REPEATED = -1  # in a slot's place: of a whole record that an early-stopped chain repeats
At = tuple[str, int]  # problem and slot


@dataclass
class Journal:
    """A file, and what this process knows to be in it.

    end: its length in bytes. places: of the rollouts, offset and length without the line's end.
    numbers: the rollouts without their texts.
    """

    path: Path
    end: int = 0
    places: dict[At, tuple[int, int]] = field(default_factory=dict)
    numbers: dict[At, Rollout] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def passed(self, problems: Sequence[str]) -> bool:
        repeated = sum(slot == REPEATED for _, slot in self.places)
        return len(self.outcomes) + repeated == len(problems)

    def read(self) -> Iterator[Rollout | Outcome]:
        """Every whole line; a torn last one is removed from the file. Raises ValueError for a
        malformed line, and for two that record the same thing."""
        with open(open_regular(self.path, follow=False), "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    os.truncate(self.path, self.end)
                    return
                decoded = decode(line[:-1])
                self._note(decoded, len(line))
                yield decoded

    def append(self, lines: Sequence[Rollout | Outcome]) -> None:
        """Write lines, on disk before this returns. Raises RunEnded where the file is not as long
        as what was written to it, OSError where it cannot be written."""
        content = [encode(line) + b"\n" for line in lines]
        whole = b"".join(content)
        with open(open_regular(self.path, APPEND), "ab", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != self.end:
                raise self._changed()
            try:
                if file.write(whole) != len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(self.end)
                raise
        if not self.end:
            sync_folder(self.path.parent)
        for line, text in zip(lines, content, strict=True):
            self._note(line, len(text))

    def _note(self, line: Rollout | Outcome, length: int) -> None:
        place, self.end = (self.end, length - 1), self.end + length
        if isinstance(line, Outcome):
            twice = line.id in self.outcomes
            self.outcomes[line.id] = line
        else:
            at = place_of(line)
            twice = at in self.places
            self.places[at], self.numbers[at] = place, without_texts(line)
        if twice or ((line.id, REPEATED) in self.places and line.id in self.outcomes):
            raise ValueError(f"it holds two records of problem {line.id}")

    def rollout(self, problem: str, slot: int) -> Rollout:
        """Read a rollout again. Raises RunEnded where the file is not what was written."""
        offset, length = self.places[problem, slot]
        try:
            with open(open_regular(self.path, follow=False), "rb") as file:
                if os.fstat(file.fileno()).st_size != self.end:
                    raise self._changed()
                line = decode(os.pread(file.fileno(), length, offset))
        except (ValueError, OSError) as error:
            raise self._changed() from error
        if isinstance(line, Outcome) or place_of(line) != (problem, slot):
            raise self._changed()
        return line

    def summary(self, problems: Sequence[str]) -> Summary:
        """Of a step that every chain has passed."""
        return summary([self._record(each, lambda *at: self.numbers[at]) for each in problems])

    def records(self, problems: Sequence[str]) -> Iterator[Rollout]:
        """The records of a step that every chain has passed, in the order of `problems`, one in
        memory at a time. Raises RunEnded where the file is not what was written."""
        return (self._record(problem, self.rollout) for problem in problems)

    def _record(self, problem: str, rollout: Callable[[str, int], Rollout]) -> Rollout:
        outcome = self.outcomes.get(problem)
        if outcome is None:
            return rollout(problem, REPEATED)
        slots = range(len(outcome.predicted))
        return merge_step([rollout(problem, slot) for slot in slots], outcome)

    def _changed(self) -> RunEnded:
        return RunEnded(f"Another program changed {self.path} while the run was writing it")


def place_of(line: Rollout) -> At:
    return line.id, line.slot if line.repeats_step is None else REPEATED


def encode(line: Rollout | Outcome) -> bytes:
    if isinstance(line, Outcome):
        return OUTCOME + ENCODE.encode(line) + CLOSE
    return ROLLOUT + to_json(line) + CLOSE


def decode(line: bytes) -> Rollout | Outcome:
    """Raises ValueError for anything but what `encode` gives."""
    inner = memoryview(line)[len(ROLLOUT) : -1]
    if line.startswith(ROLLOUT) and line.endswith(CLOSE):
        return from_json(inner)
    if line.startswith(OUTCOME) and line.endswith(CLOSE):
        outcome: Outcome = DECODE_OUTCOME.decode(inner)
        return outcome
    raise ValueError("a line is neither a rollout nor an outcome")
