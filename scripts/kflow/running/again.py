"""--retry_failed: rollouts that failed for good are asked again. They are on record until an engine
is there to ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from kflow.ground.files import write_whole
from kflow.ground.streams import tell
from kflow.ground.terminal import counted
from kflow.loop import steps
from kflow.loop.steps import Plan
from kflow.results.journal import encode
from kflow.results.reading import COMPRESSED
from kflow.results.rollout import Outcome, Rollout
from kflow.results.store import Store, Stored

First = dict[tuple[int, str], int]  # by seed and problem: the step to ask a chain again from


def find(plan: Plan, store: Store, num_seeds: int) -> tuple[First, int]:
    """The chains to ask again, with the step from which, and how many of their rollouts: those that
    failed in a chain's last step, or in any step where no reply changes a prompt (`Method.ahead`),
    so that no reply on record depends on them. Says how many others stay. Nothing is written."""
    first: First = {}
    opened = kept = 0
    for seed in range(num_seeds):
        failed, last = failures(plan, store, seed)
        for chain, where in failed.items():
            step = min(where) if plan.method.ahead else last[chain]
            again = sum(n for at, n in where.items() if at >= step)
            if again:
                first[seed, chain] = step
            opened, kept = opened + again, kept + sum(where.values()) - again
    store.forget()
    tell(f"{store.folder}: {counted(opened, 'failed rollout')} to be asked again")
    if kept:
        stay = counted(kept, "failed rollout")
        tell(f"{store.folder}: {stay} kept, since later steps rest on them")
    return first, opened


def reopen(plan: Plan, store: Store, first: First) -> None:
    """Take those rollouts off the record."""
    for seed in {seed for seed, _ in first}:
        of_seed = {chain: step for (own, chain), step in first.items() if own == seed}
        for step in range(min(of_seed.values()), plan.settings.reflex_size):
            if stored := store.read(seed, step):
                kept_lines = list(lines(plan, stored, of_seed, step))
                write_whole(store.journal(seed, step), [encode(e) + b"\n" for e in kept_lines])
                path = store.predictions(seed, step)
                path.with_name(path.name + COMPRESSED).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
    store.forget()


def failures(
    plan: Plan, store: Store, seed: int
) -> tuple[dict[str, dict[int, int]], dict[str, int]]:
    """How many rollouts of each chain failed, by step, and its last step on record."""
    failed: dict[str, dict[int, int]] = defaultdict(dict)
    last: dict[str, int] = {}
    for step in range(plan.settings.reflex_size):
        for stored in store.read(seed, step):
            last[stored.id] = step
            number = sum(rollout.failure is not None for rollout in stored.rollouts.values())
            if number:
                failed[stored.id][step] = number
    return failed, last


def lines(
    plan: Plan, records: list[Stored], first: Mapping[str, int], step: int
) -> Iterator[Rollout | Outcome]:
    """A step's journal. Of a chain that is asked again from this step or an earlier one, it holds
    the replies alone: what they teach is folded anew."""
    for stored in records:
        again = stored.id in first and step >= first[stored.id]
        for rollout in stored.rollouts.values():
            if not (again and rollout.failure is not None):
                yield unfolded(steps.extracted(plan, rollout))
        if not again and stored.repeated is not None:
            yield stored.repeated
        if not again and stored.outcome is not None:
            yield stored.outcome


def unfolded(rollout: Rollout) -> Rollout:
    """A rollout of a record without what folding its step has put there, but for its answer."""
    return replace(
        rollout,
        correct=False,
        verdict=None,
        verdict_correct=False,
        note=None,
        undecided=(),
        over_budget=False,
        counted=True,
        rollouts=(),
    )
