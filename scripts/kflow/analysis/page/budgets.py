"""How the runs compare at the largest budgets that all of them hold, and how a single run moved:
what the page opens on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kflow.analysis.chains import asks_answer
from kflow.analysis.comparison import (
    ANSWER,
    Budget,
    Difference,
    Versus,
    against,
    difference,
    largest,
    right,
)
from kflow.analysis.figures import Course
from kflow.analysis.statistics import LEVEL


@dataclass(frozen=True)
class Equal:
    """Every run at its last step within one budget, the first being the baseline.

    unit: `rollouts` or `tokens`; size: of the budget, per problem. compared: the other runs, in
    order.
    """

    unit: str
    size: int
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
    """None where fewer than two runs are given or there is no such budget."""
    if len(courses) < 2 or (size := largest(courses, unit)) is None:
        return None
    return Equal(unit, size, tuple(against(courses, 0, Budget(**{unit: size}))))


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
    change = difference(ANSWER, right(course, first), right(course, last))
    return Moved(run.steps[first], run.steps[last], change)
