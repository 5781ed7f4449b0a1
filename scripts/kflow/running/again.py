"""--retry_failed: rollouts that failed for good are taken off the record, to be asked again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from kflow.ground.terminal import counted, tell
from kflow.loop import steps
from kflow.loop.steps import Plan
from kflow.results.rollout import Outcome, Rollout, unfolded
from kflow.results.store import Store, Stored


def reopen(plan: Plan, store: Store, num_seeds: int) -> None:
    """Take off the record what may be asked again without another reply: what failed in the last
    step of a chain, or in any step where no reply changes a prompt (`Method.ahead`). What stays is
    said. store: one that nobody has read from yet."""
    opened = kept = 0
    for seed in range(num_seeds):
        failed, last = failures(plan, store, seed)
        # The step from which a chain is asked again.
        first = {
            chain: min(where) if plan.method.ahead else last[chain]
            for chain, where in failed.items()
            if plan.method.ahead or max(where) == last[chain]
        }
        if first:
            for step in range(min(first.values()), max(last.values()) + 1):
                store.reopen(seed, step, list(lines(plan, store.read(seed, step), first, step)))
        for chain, where in failed.items():
            again = sum(n for step, n in where.items() if chain in first and step >= first[chain])
            opened, kept = opened + again, kept + sum(where.values()) - again
    tell(f"{store.folder}: {counted(opened, 'failed rollout')} to be asked again")
    if kept:
        stay = counted(kept, "failed rollout")
        tell(f"{store.folder}: {stay} kept, since later steps rest on them")


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
