"""The runs of a comparison: the baseline first, on the same problems in the same order, and the
step at which each is compared: within an equal budget of rollouts or tokens, or at the same one
(docs/method.md, "Budgets"). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kflow.analysis.run_statistics import Timeline, count_tokens, list_points
from kflow.ground.terminal import counted
from kflow.results.recorded import part
from kflow.results.runs import SavedRun
from kflow.types import Answer, UserError

UNITS = ("rollouts", "tokens")
ABOVE = {"rollouts": 1.0, "tokens": 1.05}  # of a budget: steps are as long as replies happen to be


def put_first(runs: Sequence[SavedRun], baseline: SavedRun | None = None) -> list[SavedRun]:
    """baseline: one of the runs; by default the first that is parallel thinking, else the first."""
    first = baseline or next((run for run in runs if run.ahead), runs[0])
    return [first, *(run for run in runs if run is not first)]


def list_common(runs: Sequence[SavedRun]) -> list[str]:
    """What the runs have in common: model, data, problems, seeds, window, prompts."""
    every = [
        [
            run.folder.name,
            "/".join(str(part(run.manifest, "settings", "dataset") or "").split("/")[-2:]),
            counted(len(run.problems), "problem"),
            counted(len(run.seeds), "seed") if len(run.seeds) > 1 else "",
            f"window {run.window:,}" if run.window else "",
            run.wording or "",
        ]
        for run in runs
    ]
    *facts, wordings = zip(*every, strict=True)
    if len(set(wordings)) > 1:
        wordings = tuple(wording.partition(" (")[0] for wording in wordings)  # without their hash
    return [each[0] for each in (*facts, wordings) if each[0] and len(set(each)) == 1]


def align(runs: Sequence[SavedRun], common: bool) -> list[SavedRun]:
    """The runs on the same problems in the same order.

    Problems are matched by id where all runs have ids of their own, else by position. common:
    only those that every run has, with the same gold answer. Raises UserError naming the first
    difference where the runs differ without it, where nothing is left with it, and where their
    answers are of different types.
    """
    for run in runs:
        if run.answers.name != runs[0].answers.name:
            raise UserError(
                f"{runs[0].name} and {run.name} cannot be compared: their answers are of the types "
                f"{runs[0].answers.name} and {run.answers.name}; give runs of the same data."
            )
    if not all(run.own_ids for run in runs):
        runs = [
            replace(run, own_ids=False, problems=tuple(map(str, range(len(run.problems)))))
            for run in runs
        ]
    golds = [dict(zip(run.problems, run.golds, strict=True)) for run in runs]
    for run, own in zip(runs, golds, strict=True):
        difference = None if common else find_difference(runs[0].name, golds[0], run.name, own)
        if difference:
            raise UserError(
                f"{runs[0].name} and {run.name} cannot be compared: {difference}; give runs of the "
                "same problems, or --common to compare only the problems that all runs share."
            )
    shared = [p for p in runs[0].problems if all(own.get(p) == golds[0][p] for own in golds)]
    if not shared:
        raise UserError("The runs have no problem with the same gold answer in common.")
    return [run.only([run.problems.index(problem) for problem in shared]) for run in runs]


def find_difference(
    one: str, golds: dict[str, Answer], other: str, others: dict[str, Answer]
) -> str | None:
    """The first problem that only one of two runs has, or whose gold answers differ."""
    for problem, gold in golds.items():
        if problem not in others:
            return f"{one} has problem {problem}, {other} does not"
        if gold != others[problem]:
            different = f"{gold} in {one}, {others[problem]} in {other}"
            return f"the gold answer of problem {problem} is {different}"
    extra = next((problem for problem in others if problem not in golds), None)
    return None if extra is None else f"{other} has problem {extra}, {one} does not"


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
    """The largest budget of rollouts, and that of tokens, that all runs hold. A unit has none, and
    is left out, where a run lacks a step or does not record its tokens, or takes more than that for
    its first step."""
    budgets = []
    for unit in UNITS:
        costs = [list_costs(timeline, unit) for timeline in timelines]
        if all(costs):
            whole = [own[-1] for own in costs]
            ends = [n for n, t in zip(whole, timelines, strict=True) if not all_stopped(t)]
            size = min(ends, default=max(whole))
            if size * ABOVE[unit] >= max(own[0] for own in costs):
                budgets.append(EqualBudget(**{unit: size}))
    return budgets


def find_places(
    timelines: Sequence[Timeline], budget: EqualBudget, step: int | None = None
) -> list[int]:
    """Of each run, the place of the step at which it is compared: at the budget, else at `step`, by
    default the last that all have. Raises UserError where a run does not hold it."""
    if budget.size is None:
        return find_same_step([timeline.run for timeline in timelines], step)
    return [find_place(timeline, budget.unit, budget.size) for timeline in timelines]


def find_place(timeline: Timeline, unit: str, most: int) -> int:
    """The place of the step nearest to a budget: within it, or little above one of tokens. Chains
    that have all stopped by themselves have used what they would of any budget. Raises UserError
    for a budget that the run does not hold."""
    name, costs = timeline.run.name, list_costs(timeline, unit)
    if lacking := find_gaps(timeline.run):
        raise UserError(
            f"{name} lacks {spell(lacking)}, so what it spent is not known: give --step."
        )
    if not costs:
        raise UserError(f"{name} does not record its tokens: give --at_rollouts.")
    if most > costs[-1] and not all_stopped(timeline):
        raise UserError(
            f"{name} holds {counted(costs[-1], unit[:-1])} per problem: lower --at_{unit} to that "
            "or less."
        )
    if most * ABOVE[unit] < costs[0]:
        raise UserError(
            f"{name} takes {counted(costs[0], unit[:-1])} per problem for its first step: raise "
            f"--at_{unit} to that or more."
        )
    within = [number for number, cost in enumerate(costs) if cost <= most * ABOVE[unit]]
    return max(within, key=lambda number: (-abs(costs[number] - most), number))


def list_costs(timeline: Timeline, unit: str) -> list[int]:
    """What a problem has taken by each step: tokens, or the rollouts of a chain that did not stop
    early; [] where that is not on record."""
    if find_gaps(timeline.run):
        return []
    steps = range(len(timeline.run.steps))
    if unit == "rollouts":
        return [max(point.spent.rollouts for point in list_points(timeline, n)) for n in steps]
    tokens = [count_tokens(timeline, number) for number in steps]
    return [math.ceil(cost) for cost in tokens if cost is not None]


def find_gaps(run: SavedRun) -> list[int]:
    """The steps before its last one that a run lacks."""
    return [step for step in range(run.last) if step not in run.steps]


def all_stopped(timeline: Timeline) -> bool:
    """Whether every chain stopped by itself; one at its token budget would have gone on."""
    last = [point.record for point in list_points(timeline, -1)]
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
