"""A chain at work: one problem, one seed, the state it has come to and the store it writes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from kflow.loop import steps
from kflow.loop.steps import AskedRollout, ChainState, Plan
from kflow.results.rollout import Outcome, Rollout, Summary, digest_of
from kflow.results.store import DAMAGED, Store, Stored
from kflow.types import Key, Problem, UserError


class Observer(Protocol):
    """Watches the chains; it may end the run by raising RunEnded."""

    def rollout(self, key: Key, rollout: Rollout) -> None:
        """A rollout is on record."""

    def step(self, key: Key, summary: Summary) -> None:
        """A step's file is written: every chain of this seed has passed it."""

    def stopped(self, key: Key, reason: str) -> None:
        """The engine gave a rollout up for now; its chain goes no further in this run."""


@dataclass
class Chain:
    """Where a chain stands. asked: the first step not asked yet. widths, arrived: of the steps
    asked or on record that are not folded yet, how many slots they have and which are on record.
    """

    plan: Plan
    problem: Problem
    seed: int
    store: Store
    state: ChainState
    asked: int = 0
    widths: dict[int, int] = field(default_factory=dict)
    arrived: dict[int, set[int]] = field(default_factory=dict)

    def key(self, step: int, slot: int = 0) -> Key:
        return Key(self.plan.name, self.problem.id, self.seed, step, slot)

    @property
    def done(self) -> bool:
        return self.state.step >= self.plan.settings.reflex_size

    @property
    def stopped(self) -> bool:
        """Whether the chain asks nothing more and repeats its last record instead."""
        asks_now = self.asked == self.state.step and not self.arrived.get(self.asked)
        return asks_now and steps.stopped_early(self.plan, self.state)

    @property
    def may_ask(self) -> bool:
        waits = self.asked > self.state.step and not self.plan.method.ahead
        return self.asked < self.plan.settings.reflex_size and not waits

    def ask(self) -> Iterator[AskedRollout]:
        """The rollouts of the next step, but for those on record."""
        step, self.asked = self.asked, self.asked + 1
        views = steps.views(self.plan, self.state, self.key(step))
        self.widths[step] = len(views)
        on_record = self.arrived.setdefault(step, set())
        for slot, view in enumerate(views):
            if slot not in on_record:
                yield steps.ask(self.plan, self.state, view, self.key(step, slot))

    def repeat(self, observer: Observer) -> None:
        """Put the last record in the place of the next step's, and fold the steps after it that
        were asked ahead and are complete."""
        last, key = self.state.last, self.key(self.state.step)
        assert last is not None
        self.state = replace(self.state, step=key.step + 1)
        self.asked = self.state.step
        summary = self.store.append(key, last)
        if summary is not None:
            observer.step(key, summary)
        self._fold_complete(observer)
        observer.rollout(key, last)

    def settle(self, key: Key, rollout: Rollout, observer: Observer) -> None:
        """Put a rollout on record, and fold every step that is complete with it. The last one of a
        step goes to disk together with the step's outcome."""
        self.arrived[key.step].add(key.slot)
        in_hand: Rollout | None = rollout
        if not (self.complete and key.step == self.state.step):
            self.store.append(key, rollout)
            in_hand = None
        self._fold_complete(observer, in_hand)
        observer.rollout(key, rollout)

    def _fold_complete(self, observer: Observer, in_hand: Rollout | None = None) -> None:
        """Fold steps until one is not complete, each outcome on disk before the next. in_hand: a
        rollout of the first of them that is not on disk yet."""
        while self.complete:
            at = self.key(self.state.step)
            outcome = self._fold(in_hand)
            # Steps that were on record before this start of the program need not be asked again.
            self.asked = max(self.asked, self.state.step)
            summary = self.store.append(at, *([in_hand] if in_hand else []), outcome)
            in_hand = None
            if summary is not None:
                observer.step(at, summary)

    @property
    def complete(self) -> bool:
        """Whether the next step to fold has all its rollouts on record."""
        width = self.widths.get(self.state.step)
        return width is not None and len(self.arrived[self.state.step]) == width

    def _fold(self, in_hand: Rollout | None) -> Outcome:
        step = self.state.step
        # Rollouts that waited for others are read again: memory does not grow with their texts.
        rollouts = [
            in_hand
            if in_hand is not None and in_hand.slot == slot
            else self.store.reread(self.key(step, slot))
            for slot in range(self.widths.pop(step))
        ]
        del self.arrived[step]
        self.state, outcome = steps.fold(
            self.plan, self.problem, self.key(step), self.state, rollouts
        )
        return outcome


def fresh(plan: Plan, problems: Sequence[Problem], store: Store, num_seeds: int = 1) -> list[Chain]:
    """The chains of a run before its first step, seed by seed."""
    return [
        Chain(plan, problem, seed, store, steps.start(plan, problem))
        for seed in range(num_seeds)
        for problem in problems
    ]


def restore(
    plan: Plan, problems: Sequence[Problem], store: Store, num_seeds: int = 1
) -> list[Chain]:
    """The chains of a run, brought to where the replies on disk leave them. Reads a step at a time,
    so a long run takes no more memory than a short one.

    Raises UserError where a step is missing before one that is there, where a record is not the
    one that belongs in its place, and where the replay gives another result than is on record.
    """
    chains = fresh(plan, problems, store, num_seeds)
    by_id = {(chain.seed, chain.problem.id): chain for chain in chains}
    for seed in range(num_seeds):
        for step in range(plan.settings.reflex_size):
            for stored in store.read(seed, step):
                chain = by_id[seed, stored.id]
                try:
                    replay(chain, step, stored)
                except ValueError as error:
                    raise UserError(
                        f"{store.path(seed, step)}, problem {stored.id}: {error}"
                    ) from error
            store.publish(seed, step)
    return chains


CHANGED = (
    "the code no longer gives the outcome on record: check out the commit that "
    "run.json names, or choose a new --output_postfix."
)


def replay(chain: Chain, step: int, stored: Stored) -> None:
    """Bring a chain past what is on disk of one of its steps. Raises ValueError, with the reason
    and what to do, where that cannot be."""
    plan, state = chain.plan, chain.state
    if step > state.step and not plan.method.ahead:
        raise ValueError(
            f"step {state.step} is missing or incomplete before it: move the files of all later "
            "steps away to run those steps again."
        )
    if stored.repeated is not None:
        if not chain.stopped or stored.repeated != state.last or step != state.step:
            raise ValueError(f"it repeats a step that it does not follow: {DAMAGED}")
        chain.state = replace(state, step=step + 1)
        chain.asked = step + 1
        return
    views = steps.views(plan, state, chain.key(step))
    outcome = stored.outcome
    if outcome and not len(outcome.predicted) == len(outcome.correct) == len(views):
        raise ValueError(f"its outcome is for a different number of rollouts: {DAMAGED}")
    extracted: dict[int, Rollout] = {}
    for slot, rollout in stored.rollouts.items():
        key = chain.key(step, slot)
        if slot >= len(views) or rollout.sampling_seed != steps.seed_of(plan, key):
            raise ValueError(f"a record belongs to another step, problem or seed: {DAMAGED}")
        reread = steps.extracted(plan, rollout)
        answers = {reread.predicted, *((outcome.predicted[slot],) if outcome else ())}
        if rollout.digest != digest_of(rollout) or rollout.predicted not in answers:
            raise ValueError(f"a record was changed after it was written: {DAMAGED}")
        extracted[slot] = reread
    chain.widths[step] = len(views)
    chain.arrived[step] = set(stored.rollouts)
    if step != state.step or not chain.complete:
        if outcome is not None:
            raise ValueError(f"rollouts of the step are missing: {DAMAGED}")
        return
    rollouts = [extracted[slot] for slot in range(len(views))]
    undecided = outcome.undecided if outcome else ()
    chain.state, replayed = steps.fold(
        plan, chain.problem, chain.key(step), state, rollouts, undecided
    )
    del chain.widths[step], chain.arrived[step]
    chain.asked = step + 1
    if outcome is None:
        chain.store.append(chain.key(step), replayed)
    elif outcome != replayed:
        raise ValueError(CHANGED)
