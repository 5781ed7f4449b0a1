"""How the runs compare at the largest budgets that all of them hold, and how a single run moved:
what the page opens on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kflow.analysis.chains import asks_answer
from kflow.analysis.comparison import (
    ANSWER,
    Difference,
    Versus,
    compare_with_baseline,
    list_right,
    measure_difference,
)
from kflow.analysis.equal_budgets import find_equal_budgets
from kflow.analysis.run_statistics import Timeline
from kflow.analysis.statistics import LEVEL


@dataclass(frozen=True)
class Equal:
    """Every run at its last step within one budget, the first being the baseline."""

    compared: tuple[Versus, ...]
    """the other runs, in order"""

    @property
    def unit(self) -> str:
        return self.compared[0].budget.unit

    @property
    def size(self) -> int | None:
        """Of the budget, per problem."""
        return self.compared[0].budget.size

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


def compare_at_budgets(timelines: Sequence[Timeline]) -> list[Equal]:
    """[] for a single run, and where there is no budget that all of them hold."""
    if len(timelines) < 2:
        return []
    budgets = find_equal_budgets(timelines)
    return [Equal(tuple(compare_with_baseline(timelines, 0, budget))) for budget in budgets]


def find_move(timeline: Timeline) -> Moved | None:
    """None for a run with fewer than two steps that ask for answers."""
    run = timeline.run
    answering = [
        number
        for number in range(len(run.steps))
        if asks_answer(chain[number] for seed in timeline.chains for chain in seed)
    ]
    if len(answering) < 2:
        return None
    first, last = answering[0], answering[-1]
    change = measure_difference(ANSWER, list_right(timeline, first), list_right(timeline, last))
    return Moved(run.steps[first], run.steps[last], change)
