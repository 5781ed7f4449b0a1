"""Runs against a baseline, paired by problem, at the same step or at an equal budget
(docs/method.md, "Budgets"). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kflow.analysis.align import EqualBudget, find_equal_budgets, find_places
from kflow.analysis.carried import Carried, find_parallel, list_unmatched, measure_carried
from kflow.analysis.chains import asks_answer, counted_rollouts
from kflow.analysis.run_statistics import (
    AtStep,
    RunStatistics,
    Timeline,
    build_timeline,
    describe,
    list_credits,
    list_points,
    mark_answers,
    measure_step,
)
from kflow.analysis.statistics import (
    LEVEL,
    MCNEMAR,
    detectable,
    detectable_mean,
    differences,
    holm,
    paired,
)
from kflow.results.runs import SavedRun, find_differing_settings

ANSWER, MAJORITY = "answer", "rolling majority"


@dataclass(frozen=True)
class Difference:
    """Of one measure, run less baseline, as a share: `answer` is what the chain answers after its
    step, by docs/method.md's verdict where that is a vote or the step asks for no answer."""

    measure: str
    baseline: float
    run: float
    difference: float
    low: float | None
    high: float | None
    test: str
    p: float
    p_holm: float
    """adjusted for all runs against this baseline"""
    detectable: float | None
    """the smallest difference that these problems would show four times in five, if as many turned
    the other way as here; it does not depend on which of the two is the baseline. None where no
    difference would be shown"""
    differing: int
    """problems with another share"""
    problems: int

    @property
    def disagrees(self) -> bool:
        """Whether the interval leaves out 0 and the adjusted test is not below its level, or the
        other way round: they are two procedures, and the interval is not adjusted."""
        leaves_out = (self.low or 0) > 0 or (self.high or 0) < 0
        return leaves_out != (self.p_holm < LEVEL)


@dataclass(frozen=True)
class Moved:
    """What a single run answers, from the first step that asks for an answer to the last."""

    first: int
    last: int
    change: Difference


@dataclass(frozen=True)
class Flip:
    """A problem that is answered right in another share of the seeds: `3/4`."""

    problem: str
    baseline: str
    run: str
    better: bool


@dataclass(frozen=True)
class Versus:
    """A run against the baseline."""

    run: str
    baseline: str
    budget: EqualBudget
    at: AtStep
    baseline_at: AtStep
    differences: tuple[Difference, ...]
    """of the answer, then of the rolling majority"""
    flipped: tuple[Flip, ...]
    breakthroughs: tuple[str, ...]
    """problems that the run answers right, in most seeds, and that no rollout of the baseline up to
    its step did"""

    @property
    def answer(self) -> Difference:
        return self.differences[0]

    @property
    def majority(self) -> Difference:
        return self.differences[1]


@dataclass(frozen=True)
class Comparison:
    """All that compare_results.py has to say of runs on the same problems."""

    runs: tuple[RunStatistics, ...]
    """the first is the baseline"""
    against: tuple[tuple[Versus, ...], ...]
    """for each budget, every other run against the baseline"""
    moved: Moved | None
    """of a single run; None where fewer than two steps ask for an answer"""
    carried: tuple[Carried, ...]
    """of every sequential run of one rollout a step, against parallel thinking with the same model,
    sampling, effort and window where that is among the runs"""
    unmatched: dict[str, list[str]]
    """the others of them, and in what parallel thinking, where it is there, differs"""
    first_prompts: dict[str, Difference]
    """of every run whose first prompts, which carry nothing, are not those of parallel thinking,
    where that is among the runs: its answers to them against all of those attempts"""
    settings: dict[str, list[str]]
    """those in which the runs differ, the value in each"""


def compare_runs(
    runs: Sequence[SavedRun], budget: EqualBudget | None = None, step: int | None = None
) -> Comparison:
    """runs: on the same problems in the same order, the baseline first. budget: None for the
    largest of rollouts that all runs hold and that of tokens, and for the last step that all have
    where there is neither. Raises UserError as compare_with_baseline does."""
    timelines = [build_timeline(run) for run in runs]
    budgets = [budget] if budget else find_equal_budgets(timelines) or [EqualBudget()]
    return Comparison(
        tuple(map(describe, timelines)),
        tuple(
            tuple(compare_with_baseline(timelines, each, step))
            for each in (budgets if len(runs) > 1 else ())
        ),
        find_move(timelines[0]) if len(runs) == 1 else None,
        measure_carried(timelines),
        list_unmatched(timelines),
        measure_first_prompts(timelines),
        find_differing_settings(runs),
    )


def compare_with_baseline(
    timelines: Sequence[Timeline], budget: EqualBudget, step: int | None = None
) -> list[Versus]:
    """Every other run against the first, at the places of find_places, which raises UserError."""
    (base, base_place), *others = zip(timelines, find_places(timelines, budget, step), strict=True)
    return adjust(
        [compare_two(each, place, base, base_place, budget, len(others)) for each, place in others]
    )


def compare_two(
    timeline: Timeline, place: int, base: Timeline, base_place: int, budget: EqualBudget, runs: int
) -> Versus:
    """place, base_place: of the steps compared among each run's steps. runs: compared with the
    baseline."""
    run, baseline = timeline.run, base.run
    answers, base_answers = list_right(timeline, place), list_right(base, base_place)
    votes = average_over_seeds(list_credits(timeline, place))
    base_votes = average_over_seeds(list_credits(base, base_place))
    seeds, base_seeds = len(run.seeds), len(baseline.seeds)
    flipped = tuple(
        Flip(problem, f"{b * base_seeds:.0f}/{base_seeds}", f"{a * seeds:.0f}/{seeds}", a > b)
        for problem, a, b in zip(run.problems, answers, base_answers, strict=True)
        if a != b
    )
    ever = [[chain[base_place].ever_right for chain in seed] for seed in base.chains]
    return Versus(
        run.name,
        baseline.name,
        budget,
        measure_step(timeline, place),
        measure_step(base, base_place),
        (
            measure_difference(ANSWER, base_answers, answers, runs),
            measure_difference(MAJORITY, base_votes, votes, runs),
        ),
        flipped,
        tuple(
            problem
            for problem, answer, *before in zip(run.problems, answers, *ever, strict=True)
            if answer > 0.5 and not any(before)
        ),
    )


def find_move(timeline: Timeline) -> Moved | None:
    steps = timeline.run.steps
    answering = [
        number
        for number in range(len(steps))
        if asks_answer(point.record for point in list_points(timeline, number))
    ]
    if len(answering) < 2:
        return None
    first, last = answering[0], answering[-1]
    change = measure_difference(ANSWER, list_right(timeline, first), list_right(timeline, last))
    return Moved(steps[first], steps[last], change)


def measure_first_prompts(timelines: Sequence[Timeline]) -> dict[str, Difference]:
    pairs = [(arm, find_parallel(arm, timelines)) for arm in timelines]
    found = {
        arm.run.name: measure_difference(
            ANSWER, share_right(parallel, len(parallel.run.steps)), share_right(arm, 1)
        )
        for arm, parallel in pairs
        if parallel and has_other_first_prompts(arm, parallel)
    }
    adjusted = zip(found.items(), holm([each.p for each in found.values()]), strict=True)
    return {name: replace(difference, p_holm=p) for (name, difference), p in adjusted}


def has_other_first_prompts(arm: Timeline, parallel: Timeline) -> bool:
    """Whether a run begins, at step 0, with attempts whose prompts are not those of parallel
    thinking: the same prompts say nothing of a run."""
    sides = [arm.run, parallel.run]
    if arm.run.ahead or not all(run.measured and run.steps[0] == 0 for run in sides):
        return False
    own, others = ([each.prompt for each in run.lists[run.seeds[0], 0]] for run in sides)
    return own != others and asks_answer(point.record for point in list_points(arm, 0))


def share_right(timeline: Timeline, steps: int) -> list[float]:
    """Per problem, of the first so many steps' rollouts; those of step 0 count in any run."""
    run = timeline.run
    rows = [run.rollouts[seed, step] for seed in run.seeds for step in run.steps[:steps]]
    return [
        float(np.mean([slot.correct for row in rows for slot in counted_rollouts(row[problem])]))
        for problem in range(len(run.problems))
    ]


def list_right(timeline: Timeline, place: int) -> list[float]:
    """Per problem, the share of seeds that answer right after a step."""
    return average_over_seeds(mark_answers(timeline, place, timeline.run.ahead))


def average_over_seeds(by_seed: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(by_seed) for column in zip(*by_seed, strict=True)]


def measure_difference(
    measure: str, before: Sequence[float], after: Sequence[float], runs: int = 1
) -> Difference:
    """before, after: per problem the baseline's share and the run's. runs: compared with the
    baseline, for what Holm asks of the first of them."""
    pairs = paired(before, after)
    values = differences(before, after)
    less = min(sum(value < 0 for value in values), sum(value > 0 for value in values))
    shown = None if pairs.test == MCNEMAR else detectable_mean(values, LEVEL / runs)
    if shown is None:  # as of whole problems, where too few differ to say how much they scatter
        shown = detectable(len(values), less / len(values), LEVEL / runs)
    low, high = (None if math.isinf(end) else end for end in pairs.interval)
    return Difference(
        measure,
        baseline=float(np.mean(before)),
        run=float(np.mean(after)),
        difference=pairs.difference,
        low=low,
        high=high,
        test=pairs.test,
        p=pairs.p,
        p_holm=pairs.p,
        detectable=shown,
        differing=sum(value != 0 for value in values),
        problems=len(values),
    )


def adjust(compared: Sequence[Versus]) -> list[Versus]:
    """With p values adjusted for the number of runs, by measure."""
    columns = [
        holm([d.p for d in each]) for each in zip(*(v.differences for v in compared), strict=True)
    ]
    return [
        replace(
            each,
            differences=tuple(
                replace(d, p_holm=column[number])
                for d, column in zip(each.differences, columns, strict=True)
            ),
        )
        for number, each in enumerate(compared)
    ]
