"""How the runs compare at the largest budgets that all of them hold, and how a single run moved:
what the page opens on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .chains import asks_answer
from .comparison import (
    ANSWER,
    Budget,
    Difference,
    Versus,
    adjusted,
    difference,
    most_rollouts,
    right,
    stopped,
    versus,
)
from .figures import Course, mean_tokens
from .statistics import LEVEL


@dataclass(frozen=True)
class Equal:
    """Every run at its last step within one budget, the first being the baseline.

    unit: `rollouts` or `tokens`; size: of the budget, per problem. compared: the other runs, in
    order.
    """

    unit: str
    size: float
    compared: tuple[Versus, ...]

    @property
    def differing(self) -> list[Versus]:
        """The runs whose answers differ from the baseline's, adjusted for the number of runs."""
        return [each for each in self.compared if each.answer.p_holm < LEVEL]

    @property
    def furthest(self) -> Versus:
        return max(self.compared, key=lambda each: abs(each.answer.difference))

    @property
    def detectable(self) -> list[float]:
        """The smallest and the largest gain that a comparison would show, [] for none."""
        gains = [d for each in self.compared if (d := each.answer.detectable) is not None]
        return [min(gains), max(gains)] if gains else []


@dataclass(frozen=True)
class Moved:
    """A run's own accuracy from the first step that asks for an answer to the last."""

    first: int
    last: int
    change: Difference


def at_equal(courses: Sequence[Course], unit: str) -> Equal | None:
    """None where fewer than two runs are given, a run does not record its tokens, or the largest
    budget that all of them hold is less than a run's first step takes."""
    costs = [by_step(course, unit) for course in courses]
    if len(costs) < 2 or not all(costs):
        return None
    open_ended = [
        cost[-1] for course, cost in zip(courses, costs, strict=True) if not stopped(course)
    ]
    size = min(open_ended) if open_ended else max(cost[-1] for cost in costs)
    if size < max(cost[0] for cost in costs):
        return None
    base, *places = [max(n for n, spent in enumerate(cost) if spent <= size) for cost in costs]
    budget = Budget(**{unit: round(size)})
    compared = [
        versus(course, place, courses[0], base, budget)
        for course, place in zip(courses[1:], places, strict=True)
    ]
    return Equal(unit, size, tuple(adjusted(compared)))


def by_step(course: Course, unit: str) -> list[float]:
    """What a problem has taken by each step, [] where that is not on record."""
    if unit == "rollouts":
        return [float(count) for count in most_rollouts(course)]
    tokens = [mean_tokens(course, number) for number in range(len(course.run.steps))]
    return [each for each in tokens if each is not None]


def moved(course: Course) -> Moved | None:
    """None for a run with fewer than two steps that ask for answers."""
    run = course.run
    answering = [
        number
        for number in range(len(run.steps))
        if asks_answer(chain[number] for seed in course.chains for chain in seed)
    ]
    if len(answering) < 2:
        return None
    first, last = answering[0], answering[-1]
    single = len(run.seeds) == 1
    change = difference(ANSWER, right(course, first), right(course, last), single)
    return Moved(run.steps[first], run.steps[last], change)
