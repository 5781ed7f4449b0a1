"""At which step each run is compared: within an equal budget of rollouts or tokens, or at the same
one (docs/method.md, "Budgets"). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kflow.analysis.run_statistics import Timeline, count_tokens, list_costs
from kflow.ground.terminal import counted
from kflow.results.runs import SavedRun
from kflow.types import UserError

UNITS = ("rollouts", "tokens")
ABOVE = {"rollouts": 1.0, "tokens": 1.05}  # of a budget: steps are as long as replies happen to be


@dataclass(frozen=True)
class EqualBudget:
    """What is equal between runs, per problem; both None: the step is."""

    rollouts: int | None = None
    """of a chain that did not stop early"""
    tokens: int | None = None
    """of prompts and replies, a mean over problems and seeds"""

    @property
    def unit(self) -> str:
        return "tokens" if self.rollouts is None else "rollouts"

    @property
    def size(self) -> int | None:
        return self.tokens if self.rollouts is None else self.rollouts


def find_equal_budgets(timelines: Sequence[Timeline]) -> list[EqualBudget]:
    """The largest budget of rollouts that all runs hold, and that of tokens; without one that there
    is not."""
    sizes = [(unit, find_largest(timelines, unit)) for unit in UNITS]
    return [EqualBudget(**{unit: size}) for unit, size in sizes if size is not None]


def find_places(
    timelines: Sequence[Timeline], budget: EqualBudget, step: int | None = None
) -> list[int]:
    """Of each run, the place of the step at which it is compared: at the budget, else at `step`, by
    default the last that all have. Raises UserError where a run does not hold it."""
    if budget == EqualBudget():
        return find_same_step([timeline.run for timeline in timelines], step)
    return [find_place(timeline, budget) for timeline in timelines]


def find_place(timeline: Timeline, budget: EqualBudget) -> int:
    """The place of the step nearest to a budget: within it, or little above one of tokens. Chains
    that have all stopped by themselves have used what they would of any budget. Raises UserError
    for a budget that the run does not hold."""
    name = timeline.run.name
    unit, most = budget.unit, budget.size
    assert most is not None
    costs = list_costs_by_step(timeline, unit)
    if lacking := find_gaps(timeline.run):
        raise UserError(
            f"{name} lacks {spell(lacking)}, so that what it took is not known: give --step."
        )
    if not costs:
        raise UserError(f"{name} does not record its tokens: give --at_rollouts.")
    if most > costs[-1] and not all_stopped(timeline):
        raise UserError(
            f"{name} holds {counted(costs[-1], unit[:-1])} per problem: give --at_{unit} at most "
            "that."
        )
    if most * ABOVE[unit] < costs[0]:
        raise UserError(
            f"{name} takes {counted(costs[0], unit[:-1])} per problem for its first step: give "
            f"--at_{unit} at least that."
        )
    within = [number for number, cost in enumerate(costs) if cost <= most * ABOVE[unit]]
    return max(within, key=lambda number: (-abs(costs[number] - most), number))


def find_largest(timelines: Sequence[Timeline], unit: str) -> int | None:
    """The largest budget that all runs hold, of `rollouts` or `tokens` per problem; None where a
    run lacks a step or does not record its tokens, or takes more for its first step."""
    costs = [list_costs_by_step(timeline, unit) for timeline in timelines]
    if not all(costs):
        return None
    held = [
        (own[-1], all_stopped(timeline)) for timeline, own in zip(timelines, costs, strict=True)
    ]
    size = min((own for own, whole in held if not whole), default=max(own for own, _ in held))
    return size if size * ABOVE[unit] >= max(own[0] for own in costs) else None


def list_costs_by_step(timeline: Timeline, unit: str) -> list[int]:
    """What a problem has taken by each step, in whole rollouts or tokens; [] where that is not on
    record."""
    if find_gaps(timeline.run):
        return []
    if unit == "rollouts":
        return count_most_rollouts(timeline)
    steps = range(len(timeline.run.steps))
    tokens = [cost for number in steps if (cost := count_tokens(timeline, number)) is not None]
    return list(map(math.ceil, tokens))


def find_gaps(run: SavedRun) -> list[int]:
    """The steps before its last one that a run lacks; attempts that do not depend on each other
    have none."""
    return [] if run.ahead else [step for step in range(run.last) if step not in run.steps]


def count_most_rollouts(timeline: Timeline) -> list[int]:
    """By step, what a chain that did not stop early has taken."""
    steps = range(len(timeline.run.steps))
    return [max(cost.rollouts for cost in list_costs(timeline, number)) for number in steps]


def all_stopped(timeline: Timeline) -> bool:
    """Whether every chain stopped by itself; one at its token budget would have gone on."""
    last = [chain[-1] for seed in timeline.chains for chain in seed]
    return all(record.repeats_step is not None and not record.over_budget for record in last)


def find_same_step(runs: Sequence[SavedRun], step: int | None) -> list[int]:
    common = set.intersection(*(set(run.steps) for run in runs))
    at = max(common, default=None) if step is None else step
    if at is None or at not in common:
        named = "a step in common" if at is None else f"step {at}"
        held = "; ".join(f"{run.name} has {spell(run.steps)}" for run in runs)
        raise UserError(f"The runs have not all completed {named}: {held}.")
    return [run.steps.index(at) for run in runs]


def spell(steps: Sequence[int]) -> str:
    """Steps as a reader names them: `steps 0 to 7`, or a list where some lack."""
    if len(steps) == 1:
        return f"step {steps[0]}"
    whole = list(steps) == list(range(steps[0], steps[-1] + 1))
    return f"steps {steps[0]} to {steps[-1]}" if whole else f"steps {', '.join(map(str, steps))}"
