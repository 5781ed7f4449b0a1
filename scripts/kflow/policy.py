"""The failure policy: when a run cannot go on, and how it ends.

Only final failures are recorded. A chain whose rollout the engine gave up for now stops, the others
go on, and the run then ends with code 1; running the same command again asks for that rollout anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .chain import Chain
from .progress import Progress
from .rollout import Rollout, Summary
from .status import Status, StatusFile, Stopped
from .store import Store
from .terminal import counted, first_line
from .types import Key, RunEnded

FIRST = 8  # rollouts


class Policy:
    """Watches every rollout (chain.Observer), shows it, and raises RunEnded once more than
    `max_failures` have failed for good (None: never) or the first ones all have. look: is called
    when a step's file is written."""

    def __init__(
        self,
        chains: Sequence[Chain],
        folder: Path,
        progress: Progress,
        max_failures: int | None,
        title: str = "",
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._progress, self._max_failures, self._title = progress, max_failures, title
        self._look = look
        self._several_seeds = any(chain.seed for chain in chains)
        self._chains = {(chain.seed, chain.problem.id): chain for chain in chains}
        self._passed = {name: chain.state.step for name, chain in self._chains.items()}
        self._first = max(FIRST, len(chains))
        self._answered = any(has_reply(chain.state.last) for chain in chains)
        total = sum(chain.plan.steps for chain in chains)
        self.status = Status(total, sum(self._passed.values()))
        self._file = StatusFile(folder, self.status)
        self._file.update()

    def rollout(self, key: Key, rollout: Rollout) -> None:
        status, name = self.status, (key.seed, key.problem)
        passed = self._chains[name].state.step - self._passed[name]
        self._passed[name] += passed
        status.steps_done += passed
        status.rollouts += 1
        status.failures += rollout.failure is not None and rollout.repeats_step is None
        self._answered = self._answered or rollout.failure is None
        self._progress.rollout(rollout, passed)
        self._file.update()
        if self._max_failures is not None and status.failures > self._max_failures:
            raise RunEnded(
                f"More than {self._max_failures} rollouts failed (--max_failures), the last one "
                f"because {rollout.failure}"
            )
        if not self._answered and status.rollouts >= self._first:
            raise RunEnded(
                f"All of the first {status.rollouts} rollouts failed, the last one because "
                f"{rollout.failure}"
            )

    def step(self, key: Key, summary: Summary) -> None:
        seed = f"seed {key.seed} " if self._several_seeds else ""
        self._progress.step(f"{self._title}{seed}step {key.step}", summary)
        self._look()

    def stopped(self, key: Key, reason: str) -> None:
        where = Stopped(key.problem, key.seed, key.step, key.slot, reason)
        self.status.stopped.append(where)
        self._progress.line(
            f"{self._title}The chain of problem {key.problem} stopped at step {key.step}: {reason}"
        )
        self._file.update()

    @property
    def done(self) -> bool:
        return all(chain.done for chain in self._chains.values())

    def check_end(self) -> None:
        """After the loop. Raises RunEnded where a rollout has neither reply nor final failure."""
        if self.status.stopped:
            first, number = self.status.stopped[0], len(self.status.stopped)
            raise RunEnded(
                f"{counted(number, 'rollout')} not answered, the first one (problem "
                f"{first.problem}, step {first.step}) because {first.reason}"
            )

    def ended(self, error: BaseException | None) -> None:
        """Write the final state to status.json; a disk that fails does not hide `error`."""
        self.status.state = "complete" if error is None else ending(error)
        with suppress(*([] if error is None else [OSError])):
            self._file.update(at_once=True)


@dataclass(frozen=True)
class Policies:
    """The policies of runs that share an engine, by the name in their keys. As a context manager it
    writes each run's final state to its status.json, and raises RunEnded for one that is not
    complete."""

    runs: Mapping[str, Policy]

    def rollout(self, key: Key, rollout: Rollout) -> None:
        self.runs[key.run].rollout(key, rollout)

    def step(self, key: Key, summary: Summary) -> None:
        self.runs[key.run].step(key, summary)

    def stopped(self, key: Key, reason: str) -> None:
        self.runs[key.run].stopped(key, reason)

    def __enter__(self) -> Policies:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        incomplete = []
        for policy in self.runs.values():
            own = None if policy.done else error
            if error is None:
                try:
                    policy.check_end()
                except RunEnded as ended:
                    own = ended
                    incomplete.append(ended)
            policy.ended(own)
        if incomplete:
            raise incomplete[0]


def ending(error: BaseException) -> str:
    if isinstance(error, Exception):
        return f"ended: {first_line(error) or type(error).__name__}"
    return "interrupted"


def has_reply(last: Rollout | None) -> bool:
    return last is not None and any(rollout.failure is None for rollout in last.slots)


@dataclass(frozen=True)
class Failures:
    """Rollouts that failed for good, and whether all did."""

    number: int
    all: bool


def recorded_failures(store: Store) -> Failures:
    """Of a complete run."""
    summaries = store.summaries.values()
    number = sum(summary.failed for summary in summaries)
    tokens = sum(summary.completion_tokens for summary in summaries)
    return Failures(number, number > 0 and tokens == 0)
