"""The failure policy: when a run cannot go on, and how it ends.

Only final failures are recorded. A chain whose rollout the engine gave up for now stops, the others
go on, and the run then ends with code 1; running the same command again asks for that rollout anew.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from kflow.ground.finish import LENGTH, STOP
from kflow.ground.price import money
from kflow.ground.terminal import counted, first_line
from kflow.loop.chain import Chain
from kflow.method import rollouts_of
from kflow.results.known_scores import Agreement
from kflow.results.rollout import Rollout, Summary
from kflow.results.status import EngineStatus, StalledChain, Status, StatusFile
from kflow.results.store import Store
from kflow.running.forecast import Forecast, Rest
from kflow.running.progress import Progress
from kflow.types import Key, RunEnded, RunFailed

FIRST = 8  # rollouts
LOST = (
    "A rollout was preempted and resumed without the tokens it had already generated, as this vLLM "
    "does with asynchronous scheduling; it is marked lost_context in the results."
)
MANY = 10  # one in so many rollouts with an empty reply is worth a line


@dataclass
class Work:
    """A chain in this start of the program. step: as far as it was seen. rollouts: still to do at
    the beginning, and `asked` of them done since, those that failed too. replies, tokens: of
    these. ended: whether nothing more is asked."""

    chain: Chain
    step: int
    rollouts: int
    asked: int = 0
    replies: int = 0
    tokens: int = 0
    ended: bool = False

    @classmethod
    def of(cls, chain: Chain) -> Work:
        plan, step = chain.plan, chain.state.step
        left = rollouts_of(plan.method, plan.settings.reflex_size, step)
        return cls(chain, step, left - sum(map(len, chain.arrived.values())), ended=chain.done)

    @property
    def rest(self) -> Rest:
        plan = self.chain.plan
        steps = 0 if self.ended else plan.settings.reflex_size - self.step
        if plan.method.ahead:
            steps = min(1, steps)
        rollouts = max(steps, self.rollouts - self.asked)
        return Rest(steps, rollouts, self.replies, self.tokens, plan.method.ahead or not self.asked)


class Policy:
    """Watches every rollout (chain.Observer), shows it, and raises RunEnded once more than
    `max_failures` have failed for good (None: never) or the first ones all have. failed_before: in
    earlier starts. compare_first: seed -> its first attempts, of which step 0 is on disk, beside
    the model's known score, where there is one. run_cost: of all that is on record, None where that
    is not known."""

    def __init__(
        self,
        chains: Sequence[Chain],
        folder: Path,
        progress: Progress,
        max_failures: int | None,
        failed_before: int = 0,
        title: str = "",
        compare_first: Callable[[int], Agreement | None] = lambda seed: None,
        run_cost: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._progress, self._max_failures, self._title = progress, max_failures, title
        self._failed_before, self._compare_first = failed_before, compare_first
        self._run_cost = run_cost
        self._several_seeds = any(chain.seed for chain in chains)
        self._work = {(chain.seed, chain.problem.id): Work.of(chain) for chain in chains}
        self._steps = sum(chain.plan.settings.reflex_size for chain in chains)
        self._done = sum(chain.state.step for chain in chains)
        self._by_step = on_record(chains)
        self._rollouts = self._failures = 0
        self._fresh = self._empty = 0  # rollouts of this start, and those with an empty reply
        self._later = self._left_out = 0  # prompts after step 0, and those that lack something
        self._lost_context = self._shown_empty = False
        # Of each step: why its rollouts failed, and how many have come.
        self._failed_at: dict[int, Counter[str | None]] = {}
        self._endings: set[str | None] = {STOP, LENGTH}
        self._stopped: list[StalledChain] = []
        self.tokens = self.saved_tokens = 0  # of this start's replies, and of repeated ones
        self._first = max(FIRST, len(chains))
        self._answered = any(has_reply(chain.state.last) for chain in chains)
        self._file, self._unwritable = StatusFile(folder), False
        self._file.update(self.status())

    @property
    def rests(self) -> list[Rest]:
        """Safe to call from another thread, like `status`."""
        return [work.rest for work in self._work.values()]

    def status(
        self, engine: EngineStatus | None = None, seconds_left: float | None = None
    ) -> Status:
        return Status(
            self._steps,
            self._done,
            rollouts=self._rollouts,
            failures=self._failures,
            stopped=tuple(self._stopped),
            rollouts_by_step=tuple(self._by_step),
            seconds_left=None if seconds_left is None else round(seconds_left),
            cost=None if (cost := self.cost) is None else round(cost, 9),
            engine=engine,
        )

    @property
    def cost(self) -> float | None:
        return self._run_cost()

    def write(self, status: Status) -> None:
        """Keep status.json up to date, without ending the run over it: a disk that is full ends it
        with the next rollout."""
        try:
            self._file.update(status)
        except OSError as error:
            if not self._unwritable:
                self._progress.line(f"{self._title}Cannot write status.json ({error.strerror})")
            self._unwritable = True

    def rollout(self, key: Key, rollout: Rollout) -> None:
        self._count(key, rollout)
        if rollout.lost_context and not self._lost_context:
            self._lost_context = True
            self._progress.line(f"{self._title}{LOST}")
        if rollout.failure is not None and self._failures == 1 and rollout.repeats_step is None:
            why = f"{place(key)}: {rollout.failure}"
            self._progress.line(f"{self._title}First failed rollout: {why}")
        self._show_empty(MANY)
        self._look_at_ending(key, rollout)
        self._look_at_step(key, rollout)
        failed, last = self._failed_before + self._failures, f"{place(key)}: {rollout.failure}"
        if self._max_failures is not None and failed > self._max_failures:
            raise RunFailed(
                f"More than {counted(self._max_failures, 'rollout')} failed; last: {last}; raise "
                "--max_failures to continue"
            )
        if not self._answered and self._rollouts >= self._first:
            raise RunEnded(f"All of the first {self._rollouts} rollouts failed; last: {last}")

    def _show_empty(self, least: int) -> None:
        """Say, once, that many replies are empty, when there are at least so many rollouts."""
        if self._empty and least <= self._fresh <= MANY * self._empty and not self._shown_empty:
            self._shown_empty = True
            self._progress.line(
                f"{self._title}Empty replies: {self._empty} of {counted(self._fresh, 'rollout')} "
                "so far; the model ends its turn without a word, which may be the prompt's doing"
            )

    def _look_at_ending(self, key: Key, rollout: Rollout) -> None:
        """Say once of each other word for how a reply ended that such replies are kept."""
        word = rollout.finish_reason
        if rollout.failure is None and word not in self._endings:
            self._endings.add(word)
            ended = "without a finish_reason" if word is None else f"with finish_reason {word}"
            self._progress.line(f"{self._title}{place(key)} ended {ended}; such replies are kept.")

    def _look_at_step(self, key: Key, rollout: Rollout) -> None:
        """Raises RunFailed where all rollouts of a step have failed in the same words: that is what
        they share, and not one of them."""
        whys = self._failed_at.setdefault(key.step, Counter())
        if rollout.repeats_step is None:
            whys[rollout.failure] += 1
        chains = list(self._work.values())
        widths = chains[0].chain.plan.method.widths
        rollouts = len(chains) * widths[key.step % len(widths)]
        refused = rollout.failure is not None and not rollout.empty
        alike = refused and len(whys) == 1 and 1 < rollouts == whys.total()
        if alike and (self._answered or not self.done):
            sent = rollout.max_tokens > 0
            again = "correct what they name, then give --retry_failed"
            raise RunFailed(
                f"All {rollouts} rollouts of step {key.step} failed in the same words "
                f"({rollout.failure}): {again if sent else 'give a larger --max_new_tokens'}"
            )

    def _count(self, key: Key, rollout: Rollout) -> None:
        work, fresh = self._work[key.seed, key.problem], rollout.repeats_step is None
        steps = work.chain.state.step - work.step
        work.step += steps
        self._done += steps
        self._rollouts += 1
        self._by_step += [0] * (key.step + 1 - len(self._by_step))
        self._by_step[key.step] += len(rollout.slots)
        if fresh:
            work.asked += 1
            work.replies += rollout.failure is None
            work.tokens += rollout.completion_tokens
            self.tokens += rollout.completion_tokens
            self._failures += rollout.failure is not None
            self._fresh += 1
            self._empty += rollout.empty
            self._later += key.step > 0
            self._left_out += key.step > 0 and bool(rollout.left_out)
        else:
            self.saved_tokens += rollout.completion_tokens
        work.ended = work.ended or work.chain.done
        self._answered = self._answered or rollout.failure is None

    def step(self, key: Key, summary: Summary) -> None:
        seed = f"seed {key.seed} " if self._several_seeds else ""
        name = f"{self._title}{seed}step {key.step}"
        self._progress.step(name, summary)
        agreement = self._compare_first(key.seed) if key.step == 0 else None
        if agreement is not None:
            self._progress.line(f"{name}: {agreement.sentence}")

    def stopped(self, key: Key, reason: str) -> None:
        self._stopped.append(StalledChain(key.problem, key.seed, key.step, key.slot, reason))
        self._work[key.seed, key.problem].ended = True
        self._progress.line(
            f"{self._title}The chain of problem {key.problem} stopped at step {key.step}: {reason}"
        )

    @property
    def done(self) -> bool:
        return all(work.chain.done for work in self._work.values())

    def check_end(self) -> None:
        """After the loop. Raises RunEnded where a rollout has neither reply nor final failure, and
        where a chain is unfinished for any other reason."""
        if self._stopped:
            first, number = self._stopped[0], len(self._stopped)
            raise RunEnded(
                f"{counted(number, 'rollout')} got no reply; first: {place(first)}: {first.reason}"
            )
        unfinished = [work.chain for work in self._work.values() if not work.chain.done]
        if unfinished:
            chain, number = unfinished[0], len(unfinished)
            raise RunEnded(
                f"{counted(number, 'chain')} unfinished, the first one (problem "
                f"{chain.problem.id}) at step {chain.state.step}"
            )

    def ended(self, error: BaseException | None) -> None:
        """Write the final state to status.json; a disk that fails does not hide `error`."""
        self._show_empty(1)
        if self._left_out:
            self._progress.line(
                f"{self._title}Prompts without room: {self._left_out} of "
                f"{counted(self._later, 'later prompt')} lacked knowledge entries or parts of what "
                "they carry"
            )
        state = "complete" if error is None else ending(error)
        final = replace(self.status(), state=state)
        with suppress(*([] if error is None else [OSError])):
            self._file.update(final, at_once=True)


@dataclass(frozen=True)
class Policies:
    """The policies of runs that share an engine, by the name in their keys. As a context manager it
    writes each run's final state to its status.json, and raises RunEnded for one that is not
    complete. max_cost: of them all, and of what other runs have cost, where their rollouts end."""

    runs: Mapping[str, Policy]
    progress: Progress
    forecast: Forecast = field(default_factory=Forecast)
    max_cost: float | None = None
    others_cost: float = 0.0

    @property
    def tokens(self) -> int:
        """Of the replies of this start."""
        return sum(policy.tokens for policy in self.runs.values())

    def beat(self, engine: EngineStatus) -> None:
        """Show where the runs are, and keep it in their status.json; called from a thread that
        looks at the engine."""
        left = self._seconds_left(engine)
        statuses = [
            policy.status(engine, seconds)
            for policy, seconds in zip(self.runs.values(), left, strict=True)
        ]
        self.progress.show(statuses)
        for policy, status in zip(self.runs.values(), statuses, strict=True):
            policy.write(status)

    def _seconds_left(self, engine: EngineStatus) -> list[float | None]:
        """Until each run's last chain ends; None while nothing runs that it could be told from."""
        by_run = [policy.rests for policy in self.runs.values()]
        rests = [rest for run in by_run for rest in run]
        ends = self.forecast.seconds_left(time.monotonic(), rests, engine)
        if ends is None:
            return [None] * len(by_run)
        each = iter(ends)
        return [max((next(each) for _ in run), default=0.0) for run in by_run]

    def rollout(self, key: Key, rollout: Rollout) -> None:
        self.runs[key.run].rollout(key, rollout)
        if self.max_cost is not None and not all(policy.done for policy in self.runs.values()):
            check_cost(self.max_cost, self.others_cost + sum_of(self.runs.values()))

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
        if saved := sum(policy.saved_tokens for policy in self.runs.values()):
            words = "tokens (--stop_when_stable, --token_budget)"
            self.progress.line(f"Early-stopped chains saved {saved:,} {words}")
        if incomplete:
            raise incomplete[0]


def sum_of(policies: Iterable[Policy]) -> float:
    return sum(policy.cost or 0.0 for policy in policies)


def check_cost(most: float, cost: float) -> None:
    """Raises RunFailed where all that a run may cost is spent."""
    if cost >= most:
        raise RunFailed(
            f"The cost so far is {money(cost)}, and --max_cost {most:g}: raise it to continue"
        )


def place(rollout: Key | StalledChain) -> str:
    return f"problem {rollout.problem}, step {rollout.step}"


def ending(error: BaseException) -> str:
    if isinstance(error, Exception):
        return f"ended: {first_line(error) or type(error).__name__}"
    return "interrupted"


def on_record(chains: Sequence[Chain]) -> list[int]:
    """Rollouts by step."""
    counts: Counter[int] = Counter()
    for chain in chains:
        widths = chain.plan.method.widths
        counts.update({step: widths[step % len(widths)] for step in range(chain.state.step)})
        counts.update({step: len(slots) for step, slots in chain.arrived.items()})
    return [counts[step] for step in range(max(+counts, default=-1) + 1)]


def has_reply(last: Rollout | None) -> bool:
    return last is not None and any(rollout.failure is None for rollout in last.slots)


def all_failed(store: Store, widths: Sequence[int]) -> bool:
    """Whether a complete run has no reply at all. widths: of its steps (method.Method)."""
    rollouts = sum(
        (summary.total - summary.early_stopped) * widths[step % len(widths)]
        for (_, step), summary in store.summaries.items()
    )
    return store.failed == rollouts
