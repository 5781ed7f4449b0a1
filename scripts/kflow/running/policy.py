"""The failure policy: when a run cannot go on, and how it ends.

Only final failures are recorded. A chain whose rollout the engine gave up for now stops, the others
go on, and the run then ends with code 1; running the same command again asks for that rollout anew.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from kflow.ground.finish import LENGTH, STOP
from kflow.ground.price import money
from kflow.ground.terminal import counted, first_line
from kflow.loop.chain import Chain
from kflow.method import rollouts_of
from kflow.results.known_scores import Agreement, known_score, wilson
from kflow.results.records import read_records
from kflow.results.rollout import Rollout, Summary
from kflow.results.status import EngineStatus, StalledChain, Status, StatusFile
from kflow.running.forecast import Forecast, Rest
from kflow.running.progress import Progress
from kflow.running.run import Run
from kflow.types import Key, RunEnded, RunFailed

FIRST = 8  # rollouts
LOST = (
    "A rollout was preempted and resumed without the tokens it had already generated, as this vLLM "
    "does with asynchronous scheduling; it is marked lost_context in the results."
)
MANY = 10  # one in so many rollouts with an empty reply is worth a line


@dataclass
class Work:
    """A chain in this start of the program. rollouts: still to do at the beginning, and `asked` of
    them done since, those that failed too. replies, tokens: of these. stopped: the engine gave one
    of its rollouts up for now."""

    chain: Chain
    rollouts: int
    asked: int = 0
    replies: int = 0
    tokens: int = 0
    stopped: bool = False

    @classmethod
    def of(cls, chain: Chain) -> Work:
        plan, step = chain.plan, chain.state.step
        left = rollouts_of(plan.method, plan.settings.reflex_size, step)
        return cls(chain, left - sum(map(len, chain.arrived.values())))

    @property
    def rest(self) -> Rest:
        plan = self.chain.plan
        steps = 0 if self.stopped else plan.settings.reflex_size - self.chain.state.step
        if plan.method.ahead:
            steps = min(1, steps)
        rollouts = max(steps, self.rollouts - self.asked)
        return Rest(steps, rollouts, self.replies, self.tokens, plan.method.ahead or not self.asked)


class Policy:
    """Watches every rollout of a run (chain.Observer), shows it, and raises RunFailed once more
    than --max_failures have failed for good, RunEnded where the first ones all have. title: of its
    lines, where runs share the terminal."""

    def __init__(self, run: Run, progress: Progress, title: str) -> None:
        self._run, self._progress, self._title = run, progress, title
        chains = run.chains
        self._failed_before = run.store.failed  # in earlier starts
        self._several_seeds = any(chain.seed for chain in chains)
        self._work = {(chain.seed, chain.problem.id): Work.of(chain) for chain in chains}
        self._steps = run.settings.reflex_size * len(chains)
        self._by_step = on_record(chains)
        self._rollouts = self._failures = 0
        self._fresh = self._empty = 0  # rollouts of this start, and those with an empty reply
        self._later = self._left_out = 0  # prompts after step 0, and those that lack something
        # Of each step: why its rollouts failed, and how many have come.
        self._failed_at: dict[int, Counter[str | None]] = {}
        self._said: set[str] = set()  # of what is said once
        self._stopped: list[StalledChain] = []
        self.tokens = self.saved_tokens = 0  # of this start's replies, and of repeated ones
        self._first = max(FIRST, len(chains))
        self._answered = any(has_reply(chain.state.last) for chain in chains)
        self._file = StatusFile(run.folder)
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
            sum(work.chain.state.step for work in self._work.values()),
            rollouts=self._rollouts,
            failures=self._failures,
            stopped=tuple(self._stopped),
            rollouts_by_step=tuple(self._by_step),
            seconds_left=None if seconds_left is None else round(seconds_left),
            cost=None if (cost := self._run.find_cost()) is None else round(cost, 9),
            engine=engine,
        )

    @property
    def cost(self) -> float:
        """Of all that is on record, as far as it is known."""
        return self._run.find_cost() or 0.0

    def _say(self, text: str, once: str = "") -> None:
        """once: a name for what is said at most once."""
        if once not in self._said:
            self._progress.line(f"{self._title}{text}")
        if once:
            self._said.add(once)

    def write(self, status: Status) -> None:
        """Keep status.json up to date, without ending the run over it: a disk that is full ends it
        with the next rollout."""
        try:
            self._file.update(status)
        except OSError as error:
            self._say(f"Cannot write status.json ({error.strerror})", once="status")

    def rollout(self, key: Key, rollout: Rollout) -> None:
        self._count(key, rollout)
        if rollout.lost_context:
            self._say(LOST, once="lost context")
        why = f"{place(key)}: {rollout.failure}"
        if rollout.failure is not None and rollout.repeats_step is None:
            self._say(f"First failed rollout: {why}", once="failed")
        if self._fresh >= MANY:
            self._show_empty(2)  # one may be chance
        self._look_at_ending(key, rollout)
        self._look_at_step(key, rollout)
        failed, most = self._failed_before + self._failures, self._run.settings.max_failures
        if most is not None and failed > most:
            raise RunFailed(
                f"More than {counted(most, 'rollout')} failed; last: {why}; raise --max_failures "
                "to continue"
            )
        if not self._answered and self._rollouts >= self._first:
            raise RunEnded(f"All of the first {self._rollouts} rollouts failed; last: {why}")

    def _show_empty(self, least: int) -> None:
        """Say, once, that many replies are empty. least: how many it takes."""
        if self._empty >= least and self._fresh <= MANY * self._empty:
            self._say(
                f"Empty replies: {self._empty} of {counted(self._fresh, 'rollout')} so far; the "
                "model ends its turn without a word, which may be the prompt's doing",
                once="empty",
            )

    def _look_at_ending(self, key: Key, rollout: Rollout) -> None:
        """Say once of each other word for how a reply ended that such replies are kept."""
        word = rollout.finish_reason
        if rollout.failure is None and word not in (STOP, LENGTH):
            ended = "without a finish_reason" if word is None else f"with finish_reason {word}"
            self._say(f"{place(key)} ended {ended}; such replies are kept.", once=ended)

    def _look_at_step(self, key: Key, rollout: Rollout) -> None:
        """Raises RunFailed where all rollouts of a step have failed in the same words: that is what
        they share, and not one of them."""
        whys = self._failed_at.setdefault(key.step, Counter())
        if rollout.repeats_step is None:
            whys[rollout.failure] += 1
        widths = self._run.method.widths
        rollouts = len(self._work) * widths[key.step % len(widths)]
        refused = rollout.failure is not None and not rollout.empty
        alike = refused and len(whys) == 1 and 1 < rollouts == whys.total()
        if alike and (self._answered or not self.done):
            sent = rollout.max_tokens > 0
            again = "correct what the message names, then give --retry_failed"
            raise RunFailed(
                f"All {rollouts} rollouts of step {key.step} failed with the same message "
                f"({rollout.failure}): {again if sent else 'give a larger --max_new_tokens'}"
            )

    def _count(self, key: Key, rollout: Rollout) -> None:
        work = self._work[key.seed, key.problem]
        self._rollouts += 1
        self._by_step += [0] * (key.step + 1 - len(self._by_step))
        self._by_step[key.step] += len(rollout.slots)
        if rollout.repeats_step is None:
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
        self._answered = self._answered or rollout.failure is None

    def step(self, key: Key, summary: Summary) -> None:
        seed = f"seed {key.seed} " if self._several_seeds else ""
        name = f"{self._title}{seed}step {key.step}"
        self._progress.step(name, summary)
        if key.step == 0 and (agreement := compare_first(self._run, key.seed)) is not None:
            self._progress.line(f"{name}: {agreement.sentence}")

    def stopped(self, key: Key, reason: str) -> None:
        self._stopped.append(StalledChain(key.problem, key.seed, key.step, key.slot, reason))
        self._work[key.seed, key.problem].stopped = True
        self._say(f"The chain of problem {key.problem} stopped at step {key.step}: {reason}")

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
            self._say(
                f"Prompts without room: {self._left_out} of {counted(self._later, 'later prompt')} "
                "of this start lacked knowledge entries or parts of what they carry"
            )
        state = "complete" if error is None else ending(error)
        final = replace(self.status(), state=state)
        with suppress(*([] if error is None else [OSError])):
            self._file.update(final, at_once=True)


class Policies:
    """The policies of runs that share an engine. As a context manager it writes each run's final
    state to its status.json, and raises RunEnded for one that is not complete. others_cost: what
    the study's complete runs have cost; --max_cost limits the cost of all of them together."""

    def __init__(
        self, runs: Sequence[Run], progress: Progress, forecast: Forecast, others_cost: float
    ) -> None:
        self._policies = {
            run.name: Policy(run, progress, f"{run.experiment.prefix} " if len(runs) > 1 else "")
            for run in runs
        }
        self._progress, self._forecast = progress, forecast
        self._max_cost, self._others_cost = runs[0].settings.max_cost, others_cost

    @property
    def tokens(self) -> int:
        """Of the replies of this start."""
        return sum(policy.tokens for policy in self._policies.values())

    def beat(self, engine: EngineStatus) -> None:
        """Show where the runs are, and keep it in their status.json; called from a thread that
        looks at the engine."""
        left = self._seconds_left(engine)
        statuses = [
            policy.status(engine, seconds)
            for policy, seconds in zip(self._policies.values(), left, strict=True)
        ]
        self._progress.show(statuses)
        for policy, status in zip(self._policies.values(), statuses, strict=True):
            policy.write(status)

    def _seconds_left(self, engine: EngineStatus) -> list[float | None]:
        """Until each run's last chain ends; None while nothing runs that it could be told from."""
        by_run = [policy.rests for policy in self._policies.values()]
        rests = [rest for run in by_run for rest in run]
        ends = self._forecast.seconds_left(time.monotonic(), rests, engine)
        if ends is None:
            return [None] * len(by_run)
        each = iter(ends)
        return [max((next(each) for _ in run), default=0.0) for run in by_run]

    def rollout(self, key: Key, rollout: Rollout) -> None:
        self._policies[key.run].rollout(key, rollout)
        if self._max_cost is not None and not all(p.done for p in self._policies.values()):
            spent = self._others_cost + sum(policy.cost for policy in self._policies.values())
            check_cost(self._max_cost, spent, RunFailed)

    def step(self, key: Key, summary: Summary) -> None:
        self._policies[key.run].step(key, summary)

    def stopped(self, key: Key, reason: str) -> None:
        self._policies[key.run].stopped(key, reason)

    def __enter__(self) -> Policies:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        incomplete = []
        for policy in self._policies.values():
            own = None if policy.done else error
            if error is None:
                try:
                    policy.check_end()
                except RunEnded as ended:
                    own = ended
                    incomplete.append(ended)
            policy.ended(own)
        if saved := sum(policy.saved_tokens for policy in self._policies.values()):
            words = "tokens (--stop_when_stable, --token_budget)"
            self._progress.line(f"Early-stopped chains saved {saved:,} {words}")
        if incomplete:
            raise incomplete[0]


def check_cost(most: float | None, cost: float, error: type[Exception]) -> None:
    """Raises the error where all that runs may cost is spent."""
    if most is not None and cost >= most:
        raise error(
            f"The cost, {money(cost)}, has reached --max_cost {most:g}: raise that to continue."
        )


def compare_first(run: Run, seed: int) -> Agreement | None:
    """A seed's first attempts, the rollouts of step 0 one by one as its file has them, beside what
    the model is known to score in single attempts; None where that is not known, or step 0 asks for
    no answer. The interval is over problems, and too wide where each has several attempts."""
    known = known_score(
        run.settings.model.last_part,
        run.experiment.family.reasoning_effort,
        run.problems.source.dataset,
        len(run.problems.problems),
    )
    if known is None:
        return None
    attempts = [
        [slot.correct for slot in record.slots if slot.asks_answer]
        for record in read_records(run.store.predictions(seed, 0))
    ]
    if not all(attempts):
        return None
    right, total = sum(sum(each) / len(each) for each in attempts), len(attempts)
    return Agreement(known, right / total, *wilson(right, total))


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
