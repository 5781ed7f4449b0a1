"""Runs against a baseline, paired by problem, at the same step or at an equal budget
(docs/method.md, "Budgets"). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kflow.analysis.carried import Carried, measure_carried
from kflow.analysis.chains import answered_right, counted_rollouts
from kflow.analysis.equal_budgets import (
    EqualBudget,
    all_stopped,
    count_most_rollouts,
    find_equal_budgets,
    find_place,
    find_same_step,
)
from kflow.analysis.run_statistics import (
    AtStep,
    RunStatistics,
    Timeline,
    build_timeline,
    describe,
    measure_step,
)
from kflow.analysis.statistics import (
    LEVEL,
    MCNEMAR,
    detectable,
    detectable_mean,
    fewest_to_tell,
    holm,
    paired,
    pass_at_k,
)
from kflow.results.remarks import find_differing_settings
from kflow.results.runs import SavedRun

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
    """adjusted for all runs against this baseline, as is the verdict"""
    detectable: float | None
    """the smallest gain that these problems would show four times in five, with as many losses as
    here; None where none would"""
    differing: int
    """problems with another share"""
    problems: int
    verdict: str


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
class Coverage:
    """After k rollouts."""

    k: int
    sampling: float
    """pass@k of the parallel baseline, without bias"""
    ever_correct: tuple[float | None, ...]
    """of each other run, the share of chains of which any of the first k rollouts was right"""


@dataclass(frozen=True)
class Comparison:
    """All that compare_results.py has to say of runs on the same problems."""

    runs: tuple[RunStatistics, ...]
    against: tuple[tuple[Versus, ...], ...]
    """for each budget, every other run against the baseline"""
    pass_at_k: tuple[Coverage, ...]
    """where the baseline is parallel thinking"""
    carried: tuple[Carried, ...]
    """of every sequential run of one rollout a step, against parallel thinking where that is among
    the runs"""
    settings: dict[str, list[str]]
    """those in which the runs differ, the value in each"""


def compare_runs(
    runs: Sequence[SavedRun],
    baseline: int,
    budget: EqualBudget | None = None,
    step: int | None = None,
) -> Comparison:
    """runs: on the same problems in the same order. baseline: the place of one of them. budget:
    None for the largest of rollouts that all runs hold and that of tokens, and for the last step
    that all have where there is neither. Raises UserError as compare_with_baseline does."""
    timelines = [build_timeline(run) for run in runs]
    budgets = [budget] if budget else find_equal_budgets(timelines) or [EqualBudget()]
    return Comparison(
        tuple(map(describe, timelines)),
        tuple(
            tuple(compare_with_baseline(timelines, baseline, each, step))
            for each in (budgets if len(runs) > 1 else ())
        ),
        tuple(measure_coverage(timelines, baseline)),
        measure_carried(timelines, baseline),
        find_differing_settings(runs),
    )


def compare_with_baseline(
    timelines: Sequence[Timeline], baseline: int, budget: EqualBudget, step: int | None = None
) -> list[Versus]:
    """Every other run against the one at `baseline`: at the budget, else at `step`, by default the
    last that both have. Raises UserError where a run does not hold the step or the budget."""
    base, compared = timelines[baseline], []
    for number, timeline in enumerate(timelines):
        if number == baseline:
            continue
        if budget == EqualBudget():
            place, base_place = find_same_step(timeline.run, base.run, step)
        else:
            place, base_place = find_place(timeline, budget), find_place(base, budget)
        compared.append(compare_two(timeline, place, base, base_place, budget, len(timelines) - 1))
    return adjust(compared)


def compare_two(
    timeline: Timeline, place: int, base: Timeline, base_place: int, budget: EqualBudget, runs: int
) -> Versus:
    """place, base_place: of the steps compared among each run's steps. runs: compared with the
    baseline."""
    run, baseline = timeline.run, base.run
    answers, base_answers = list_right(timeline, place), list_right(base, base_place)
    seeds, base_seeds = len(run.seeds), len(baseline.seeds)
    flipped = tuple(
        Flip(problem, f"{b * base_seeds:.0f}/{base_seeds}", f"{a * seeds:.0f}/{seeds}", a > b)
        for problem, a, b in zip(run.problems, answers, base_answers, strict=True)
        if a != b
    )
    ever = [any(seed[p][base_place] for seed in base.ever) for p in range(len(run.problems))]
    return Versus(
        run.name,
        baseline.name,
        budget,
        measure_step(timeline, place),
        measure_step(base, base_place),
        (
            measure_difference(ANSWER, base_answers, answers, runs),
            measure_difference(
                MAJORITY, list_credits(base, base_place), list_credits(timeline, place), runs
            ),
        ),
        flipped,
        tuple(
            problem
            for problem, answer, before in zip(run.problems, answers, ever, strict=True)
            if answer > 0.5 and not before
        ),
    )


def list_right(timeline: Timeline, place: int) -> list[float]:
    """Per problem, the share of seeds that answer right after a step."""
    by_verdict = timeline.run.ahead
    return average_over_seeds(
        [[answered_right(chain[place], by_verdict) for chain in seed] for seed in timeline.chains]
    )


def list_credits(timeline: Timeline, place: int) -> list[float]:
    """Per problem, the rolling majority's, a mean over seeds."""
    return average_over_seeds([[votes[place].credit for votes in seed] for seed in timeline.votes])


def average_over_seeds(by_seed: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(by_seed) for column in zip(*by_seed, strict=True)]


def measure_difference(
    measure: str, before: Sequence[float], after: Sequence[float], runs: int = 1
) -> Difference:
    """before, after: per problem the baseline's share and the run's. runs: compared with the
    baseline, for what Holm asks of the first of them."""
    pairs = paired(before, after)
    values = [b - a for a, b in zip(before, after, strict=True)]
    lost = sum(value < 0 for value in values) / len(values)
    low, high = (None if math.isinf(end) else end for end in pairs.interval)
    return Difference(
        measure,
        float(np.mean(before)),
        float(np.mean(after)),
        pairs.difference,
        low,
        high,
        pairs.test,
        pairs.p,
        pairs.p,
        detectable(len(values), lost, LEVEL / runs)
        if pairs.test == MCNEMAR
        else detectable_mean(values, LEVEL / runs),
        differing := sum(value != 0 for value in values),
        len(values),
        judge(pairs.p, differing, len(values)),
    )


def judge(p: float, differing: int, problems: int) -> str:
    """In words, with what could have been seen at all. differing: of the problems."""
    fewest = fewest_to_tell()
    if not differing:
        return f"no difference on any of {problems} problems"
    on = f"the two differ on {differing} of {problems} problems"
    if p < LEVEL:
        return f"more than chance explains: {on}"
    if differing < fewest:
        return f"too few to tell: {on}; p < {LEVEL} needs {fewest} in one direction"
    return f"not more than chance explains: {on}"


def adjust(compared: Sequence[Versus]) -> list[Versus]:
    """With p values and verdicts adjusted for the number of runs, by measure."""
    columns = [
        holm([d.p for d in each]) for each in zip(*(v.differences for v in compared), strict=True)
    ]
    return [
        replace(
            each,
            differences=tuple(
                replace(
                    d,
                    p_holm=column[number],
                    verdict=judge(column[number], d.differing, d.problems),
                )
                for d, column in zip(each.differences, columns, strict=True)
            ),
        )
        for number, each in enumerate(compared)
    ]


def measure_coverage(timelines: Sequence[Timeline], baseline: int) -> list[Coverage]:
    """pass@k of a baseline whose rollouts were all in flight at once, beside how many of the other
    runs' chains were ever right within k rollouts; [] for another baseline."""
    base = timelines[baseline]
    if not base.run.ahead:
        return []
    samples = [
        [
            slot.correct
            for seed in base.chains
            for record in seed[p]
            for slot in counted_rollouts(record)
        ]
        for p in range(len(base.run.problems))
    ]
    most = min(map(len, samples))
    others = [timeline for number, timeline in enumerate(timelines) if number != baseline]
    return [
        Coverage(
            k,
            float(np.mean([pass_at_k(len(own), sum(own), k) for own in samples])),
            tuple(measure_ever_within(timeline, k) for timeline in others),
        )
        for k in sorted({2**n for n in range(most.bit_length())} | {most})
    ]


def measure_ever_within(timeline: Timeline, rollouts: int) -> float | None:
    """None where no whole step fits, or the run holds fewer rollouts."""
    most = count_most_rollouts(timeline)
    within = [number for number, count in enumerate(most) if count <= rollouts]
    if not within or (most[-1] < rollouts and not all_stopped(timeline)):
        return None
    return float(np.mean([ever[within[-1]] for seed in timeline.ever for ever in seed]))
