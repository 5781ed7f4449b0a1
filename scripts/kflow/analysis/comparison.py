"""Runs against a baseline, paired by problem, at the same step or at an equal budget
(docs/method.md, "Budgets"). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kflow.analysis.chains import answered_right, fresh
from kflow.analysis.figures import AtStep, Course, at_step, costs, mean_tokens
from kflow.analysis.runs import Run
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
from kflow.ground.terminal import counted
from kflow.types import UserError

ANSWER, MAJORITY = "answer", "rolling majority"


@dataclass(frozen=True)
class Budget:
    """What is equal between runs, per problem. rollouts: of a chain that did not stop early.
    tokens: a mean over problems and seeds."""

    rollouts: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Difference:
    """Of one measure, run less baseline, as a share: `answer` is what the chain answers after its
    step, by docs/method.md's verdict where that is a vote or the step asks for no answer.

    p_holm: adjusted for all runs against this baseline, as is the verdict. detectable: the
    smallest gain that these problems would show four times in five, with as many losses as here,
    None where none would. differing: problems with another share.
    """

    measure: str
    baseline: float
    run: float
    difference: float
    low: float | None
    high: float | None
    test: str
    p: float
    p_holm: float
    detectable: float | None
    differing: int
    problems: int
    verdict: str


@dataclass(frozen=True)
class Flip:
    problem: str
    baseline: str
    run: str
    better: bool


@dataclass(frozen=True)
class Versus:
    """at, baseline_at: the two runs at their steps. flipped: problems whose answers are right in
    another share of the seeds. breakthroughs: problems that the run answers right, in most seeds,
    and that no rollout of the baseline up to its step did."""

    run: str
    baseline: str
    budget: Budget
    at: AtStep
    baseline_at: AtStep
    differences: tuple[Difference, ...]
    flipped: tuple[Flip, ...]
    breakthroughs: tuple[str, ...]

    @property
    def answer(self) -> Difference:
        return self.differences[0]

    @property
    def majority(self) -> Difference:
        return self.differences[1]


@dataclass(frozen=True)
class Coverage:
    """After k rollouts. sampling: pass@k of the parallel baseline, without bias. ever_correct: the
    share of the run's chains of which any of the first k rollouts was right."""

    k: int
    sampling: float
    ever_correct: tuple[float | None, ...]


def against(
    courses: Sequence[Course], baseline: int, budget: Budget, step: int | None = None
) -> list[Versus]:
    """Every other run against the one at `baseline`: at the budget, else at `step`, by default the
    last that both have. Raises UserError where a run does not hold the step or the budget."""
    base, compared = courses[baseline], []
    for number, course in enumerate(courses):
        if number == baseline:
            continue
        if budget == Budget():
            place, base_place = same_step(course.run, base.run, step)
        else:
            place, base_place = place_at(course, budget), place_at(base, budget)
        compared.append(versus(course, place, base, base_place, budget, len(courses) - 1))
    return adjusted(compared)


def at_equal_budgets(courses: Sequence[Course], baseline: int) -> list[list[Versus]]:
    """Against the baseline at the largest budget of rollouts that all runs hold, and at that of
    tokens; at the last step that both have, where there is neither."""
    sizes = [(unit, largest(courses, unit)) for unit in ("rollouts", "tokens")]
    budgets = [Budget(**{unit: size}) for unit, size in sizes if size is not None]
    return [against(courses, baseline, budget) for budget in budgets or [Budget()]]


def place_at(course: Course, budget: Budget) -> int:
    """The place of the last step within a budget. Chains that have all stopped by themselves have
    used what they would of any budget. Raises UserError for a budget that the run does not hold."""
    name = course.run.name
    unit, most = "rollouts", budget.rollouts
    if most is None:
        unit, most = "tokens", budget.tokens
    assert most is not None
    costs = by_step(course, unit)
    if lacking := gaps(course.run):
        raise UserError(
            f"{name} lacks {spelled(lacking)}, so that what it took is not known: give --step."
        )
    if not costs:
        raise UserError(f"{name} does not record its tokens: give --at_rollouts.")
    if most > costs[-1] and not stopped(course):
        raise UserError(
            f"{name} holds {counted(costs[-1], unit[:-1])} per problem: give --at_{unit} at most "
            "that."
        )
    if most < costs[0]:
        raise UserError(
            f"{name} takes {counted(costs[0], unit[:-1])} per problem for its first step: give "
            f"--at_{unit} at least that."
        )
    return max(number for number, cost in enumerate(costs) if cost <= most)


def largest(courses: Sequence[Course], unit: str) -> int | None:
    """The largest budget that all runs hold, of `rollouts` or `tokens` per problem; None where a
    run lacks a step or does not record its tokens, or takes more for its first step."""
    costs = [by_step(course, unit) for course in courses]
    if not all(costs):
        return None
    held = [(own[-1], stopped(course)) for course, own in zip(courses, costs, strict=True)]
    size = min((own for own, whole in held if not whole), default=max(own for own, _ in held))
    return size if size >= max(own[0] for own in costs) else None


def by_step(course: Course, unit: str) -> list[int]:
    """What a problem has taken by each step, in whole rollouts or tokens; [] where that is not on
    record."""
    if gaps(course.run):
        return []
    if unit == "rollouts":
        return most_rollouts(course)
    steps = range(len(course.run.steps))
    tokens = [cost for number in steps if (cost := mean_tokens(course, number)) is not None]
    return list(map(math.ceil, tokens))


def gaps(run: Run) -> list[int]:
    """The steps before its last one that a run lacks; attempts that do not depend on each other
    have none."""
    return [] if run.ahead else [step for step in range(run.last) if step not in run.steps]


def most_rollouts(course: Course) -> list[int]:
    """By step, what a chain that did not stop early has taken."""
    steps = range(len(course.run.steps))
    return [max(cost.rollouts for cost in costs(course, number)) for number in steps]


def stopped(course: Course) -> bool:
    """Whether every chain stopped by itself; one at its token budget would have gone on."""
    last = [chain[-1] for seed in course.chains for chain in seed]
    return all(record.repeats_step is not None and not record.over_budget for record in last)


def same_step(run: Run, baseline: Run, step: int | None) -> tuple[int, int]:
    common = [each for each in run.steps if each in baseline.steps]
    at = step if step is not None else max(common, default=None)
    if at is None or at not in common:
        named = "a step in common" if at is None else f"step {at}"
        raise UserError(
            f"{run.name} and {baseline.name} have not both completed {named}: they have "
            f"{spelled(run.steps)} and {spelled(baseline.steps)}."
        )
    return run.steps.index(at), baseline.steps.index(at)


def versus(
    course: Course, place: int, base: Course, base_place: int, budget: Budget, runs: int
) -> Versus:
    """place, base_place: of the steps compared among each run's steps. runs: compared with the
    baseline."""
    run, baseline = course.run, base.run
    answers, base_answers = right(course, place), right(base, base_place)
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
        at_step(course, place),
        at_step(base, base_place),
        (
            difference(ANSWER, base_answers, answers, runs),
            difference(MAJORITY, credits(base, base_place), credits(course, place), runs),
        ),
        flipped,
        tuple(
            problem
            for problem, answer, before in zip(run.problems, answers, ever, strict=True)
            if answer > 0.5 and not before
        ),
    )


def right(course: Course, place: int) -> list[float]:
    """Per problem, the share of seeds that answer right after a step."""
    by_verdict = course.run.ahead
    return means(
        [[answered_right(chain[place], by_verdict) for chain in seed] for seed in course.chains]
    )


def credits(course: Course, place: int) -> list[float]:
    """Per problem, the rolling majority's, a mean over seeds."""
    return means([[votes[place].credit for votes in seed] for seed in course.votes])


def means(by_seed: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(by_seed) for column in zip(*by_seed, strict=True)]


def difference(
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
        verdict(pairs.p, differing, len(values)),
    )


def verdict(p: float, differing: int, problems: int) -> str:
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


def adjusted(compared: Sequence[Versus]) -> list[Versus]:
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
                    verdict=verdict(column[number], d.differing, d.problems),
                )
                for d, column in zip(each.differences, columns, strict=True)
            ),
        )
        for number, each in enumerate(compared)
    ]


def coverage(courses: Sequence[Course], baseline: int) -> list[Coverage]:
    """pass@k of a baseline whose rollouts were all in flight at once, beside how many of the other
    runs' chains were ever right within k rollouts; [] for another baseline."""
    base = courses[baseline]
    if not base.run.ahead:
        return []
    samples = [
        [slot.correct for seed in base.chains for record in seed[p] for slot in fresh(record)]
        for p in range(len(base.run.problems))
    ]
    most = min(map(len, samples))
    others = [course for number, course in enumerate(courses) if number != baseline]
    return [
        Coverage(
            k,
            float(np.mean([pass_at_k(len(own), sum(own), k) for own in samples])),
            tuple(ever_within(course, k) for course in others),
        )
        for k in sorted({2**n for n in range(most.bit_length())} | {most})
    ]


def ever_within(course: Course, rollouts: int) -> float | None:
    """None where no whole step fits, or the run holds fewer rollouts."""
    most = most_rollouts(course)
    within = [number for number, count in enumerate(most) if count <= rollouts]
    if not within or (most[-1] < rollouts and not stopped(course)):
        return None
    return float(np.mean([ever[within[-1]] for seed in course.ever for ever in seed]))


def spelled(steps: Sequence[int]) -> str:
    """Steps as a reader names them: `steps 0 to 7`, or a list where some lack."""
    if len(steps) == 1:
        return f"step {steps[0]}"
    whole = list(steps) == list(range(steps[0], steps[-1] + 1))
    return f"steps {steps[0]} to {steps[-1]}" if whole else f"steps {', '.join(map(str, steps))}"
