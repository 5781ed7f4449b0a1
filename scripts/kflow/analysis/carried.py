"""Whether what a chain carries helps or drags (docs/method.md, "What is carried"). Pure.

An attempt that follows a wrong one of its chain is set against independent attempts at the same
problem: what is repaired beyond what they get right was repaired by what the prompt carried. The
same after a right one. Everything is by problem, so hard problems, which have more wrong attempts,
count as often on either side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kflow.analysis.chains import counted_rollouts
from kflow.analysis.run_statistics import Timeline
from kflow.analysis.statistics import ROUNDING, around_equal, fewest_to_tell, within
from kflow.results.known_scores import Interval
from kflow.results.recorded import part

RESAMPLES = 4_000
BATCH = 500_000  # problems drawn at once: a few arrays of 4 MB
# Parts of run.json on which replies depend besides the prompt.
SAME = ("model", "sampling", "experiment.reasoning_effort", "settings.max_new_tokens")
Array = np.ndarray  # of one number per problem


class Attempt(NamedTuple):
    """An own answer of a chain, or an independent one."""

    right: bool
    """no answer counts as wrong"""
    request: tuple[int, int] | None
    """the sampling seed and the prompt's hash: the same request gives the same reply. None where
    it is not on record"""


class Transitions(NamedTuple):
    """What followed what in a chain, or in the chains of a problem, and what as many independent
    attempts at the problem do in the same places. Nothing of a chain without independent ones."""

    after_wrong: int
    """own answers that follow a wrong one"""
    repaired: int
    """of these, right"""
    after_right: int
    kept: int
    """of these, right"""
    alone_after_wrong: float = 0.0
    """how many of as many independent attempts are right, by the share of them all"""
    alone_after_right: float = 0.0


@dataclass(frozen=True)
class Contrast:
    """A share among a chain's answers against independent attempts in the same places."""

    answers: int
    """of the chains, which the share is of"""
    share: float
    alone: float
    """the same share of independent attempts, each problem weighted by its answers"""
    difference: float
    """share - alone: above 0 what is carried helps"""
    low: float | None
    """the 95 % interval of the difference, over problems; None: these are too few, or too alike, to
    give this end"""
    high: float | None


@dataclass(frozen=True)
class Carried:
    """What a sequential arm of width 1 carries. None: no answer follows such a one."""

    run: str
    parallel: str
    """the run whose attempts are the independent ones"""
    repaired: Contrast | None
    """right after a wrong one"""
    kept: Contrast | None
    """right after a right one; the rest of them were broken"""
    net: Contrast | None
    """right after any"""
    stationary: float | None
    """the accuracy at which as many answers are repaired as are broken"""
    effect: str = ""
    """`helps`, `drags` or `unclear`, by the interval of net, where enough problems differ"""


def measure_carried(timelines: Sequence[Timeline]) -> tuple[Carried, ...]:
    """Of every sequential arm of width 1 that has a run of parallel thinking to be set against."""
    pairs = [(arm, find_parallel(arm, timelines)) for arm in timelines if is_sequential(arm)]
    return tuple(contrast_with(arm, parallel) for arm, parallel in pairs if parallel)


def list_unmatched(timelines: Sequence[Timeline]) -> dict[str, list[str]]:
    """Those arms whose conditions no run of parallel thinking has, and what differs, by name."""
    arms = [
        each for each in timelines if is_sequential(each) and not find_parallel(each, timelines)
    ]
    others = [each for each in timelines if each.run.ahead]
    return {arm.run.name: list_differing(arm, others[0]) for arm in arms if others}


def find_parallel(arm: Timeline, timelines: Sequence[Timeline]) -> Timeline | None:
    """The first run that is parallel thinking with an arm's model, sampling, effort and window, as
    far as both are on record: its attempts are the independent ones."""
    ahead = (each for each in timelines if each.run.ahead)
    return next((each for each in ahead if not list_differing(arm, each)), None)


def list_differing(one: Timeline, other: Timeline) -> list[str]:
    """The parts of SAME in which two runs are known to differ."""
    pairs = [[part(t.run.manifest, *name.split(".")) for t in (one, other)] for name in SAME]
    return [name for name, (a, b) in zip(SAME, pairs, strict=True) if None not in (a, b) and a != b]


def is_sequential(timeline: Timeline) -> bool:
    """Whether each rollout but the first was asked after another one and nothing beside it."""
    run = timeline.run
    widths = {len(record.slots) for row in run.rollouts.values() for record in row}
    return not run.ahead and widths == {1}


def contrast_with(arm: Timeline, parallel: Timeline) -> Carried:
    problems = []
    for problem in range(len(arm.run.problems)):
        independent = [
            attempt
            for place in range(len(parallel.chains))
            for piece in list_attempts(parallel, place, problem)
            for attempt in piece
        ]
        by_chain = [
            count_transitions(list_attempts(arm, place, problem), independent)
            for place in range(len(arm.chains))
        ]
        problems.append(Transitions(*map(sum, zip(*by_chain, strict=True))))
    return contrast(problems, arm.run.name, parallel.run.name)


def list_attempts(timeline: Timeline, place: int, problem: int) -> list[list[Attempt]]:
    """A chain's own answers in order, in one piece for each stretch of steps without a gap. Steps
    that ask for no answer are passed over, and so are records that repeat an early-stopped chain's
    last step. place: of its seed among the run's."""
    run, pieces, before = timeline.run, list[list[Attempt]](), None
    for step, point in zip(run.steps, timeline.chains[place][problem], strict=True):
        if before is None or step > before + 1:
            pieces.append([])
        before = step
        prompt = run.lists[run.seeds[place], step][problem].prompt
        pieces[-1] += [
            Attempt(slot.correct, (slot.sampling_seed, prompt) if run.measured else None)
            for slot in counted_rollouts(point.record)
            if slot.asks_answer
        ]
    return pieces


def count_transitions(
    pieces: Sequence[Sequence[Attempt]], independent: Iterable[Attempt]
) -> Transitions:
    """pieces: of one chain, as of list_attempts. independent: at the same problem; those whose
    request the chain shares have the same reply and say nothing about it."""
    shared = {attempt.request for piece in pieces for attempt in piece} - {None}
    alone = [attempt.right for attempt in independent if attempt.request not in shared]
    if not alone:
        return Transitions(0, 0, 0, 0)
    share = sum(alone) / len(alone)
    followed = [(a.right, b.right) for piece in pieces for a, b in pairwise(piece)]
    after_right = sum(before for before, _ in followed)
    after_wrong = len(followed) - after_right
    return Transitions(
        after_wrong,
        sum(after and not before for before, after in followed),
        after_right,
        sum(after and before for before, after in followed),
        after_wrong * share,
        after_right * share,
    )


def contrast(problems: Sequence[Transitions], run: str = "", parallel: str = "") -> Carried:
    """Over problems. run, parallel: their names."""
    wrong, repaired, right, kept, alone_wrong, alone_right = np.array(problems, dtype=float).T
    broken = right.sum() - kept.sum()
    stationary = None
    if wrong.sum() and right.sum() and (repaired.sum() or broken):
        mend, spoil = repaired.sum() / wrong.sum(), broken / right.sum()
        stationary = float(mend / (mend + spoil))
    net = against_alone(wrong + right, repaired + kept, alone_wrong + alone_right)
    differing = np.count_nonzero(abs(repaired + kept - alone_wrong - alone_right) > ROUNDING)
    return Carried(
        run,
        parallel,
        repaired=against_alone(wrong, repaired, alone_wrong),
        kept=against_alone(right, kept, alone_right),
        net=net,
        stationary=stationary,
        effect=name_effect(net, int(differing)),
    )


def name_effect(net: Contrast | None, differing: int) -> str:
    """differing: how many problems differ. With few of them, all in one direction, an interval may
    exclude 0 although no test could be significant."""
    if differing < fewest_to_tell():
        return "unclear"
    if net is not None and net.low is not None and net.low > 0:
        return "helps"
    return "drags" if net is not None and net.high is not None and net.high < 0 else "unclear"


def against_alone(answers: Array, right: Array, alone: Array) -> Contrast | None:  # type: ignore[type-arg]
    """answers: those that follow. right: of these. alone: of as many independent ones."""
    total = answers.sum()
    if not total:
        return None
    beyond = right - alone
    low, high = (None if math.isinf(end) else end for end in bootstrap(beyond, answers))
    return Contrast(
        int(total),
        float(right.sum() / total),
        float(alone.sum() / total),
        float(beyond.sum() / total),
        low,
        high,
    )


def bootstrap(values: Array, weights: Array) -> Interval:  # type: ignore[type-arg]
    """The 95 % interval of sum(values) / sum(weights) over problems, within -1..1; an end that they
    cannot give is infinite. Studentized: every resample's ratio is taken in its own standard
    errors, without which few problems give too narrow a one."""
    known = int(np.count_nonzero(weights))
    if known < fewest_to_tell():
        return Interval(-math.inf, math.inf)
    number, ratio = len(values), float(values.sum() / weights.sum())
    error = float(ratio_error(values, weights))
    if error < ROUNDING:
        return within(around_equal(ratio, known), -1.0, 1.0)
    random, at_once = np.random.default_rng(0), max(1, BATCH // number)
    scaled = np.concatenate(
        [
            rescale(values, weights, random.integers(number, size=(size, number)), ratio)
            for start in range(0, RESAMPLES, at_once)
            for size in (min(at_once, RESAMPLES - start),)
        ]
    )
    scaled = scaled[~np.isnan(scaled)]  # without those in which no problem has a weight
    low, high = np.quantile(scaled, (0.025, 0.975), method="inverted_cdf")
    ends = Interval(float(ratio - high * error), float(ratio - low * error))
    return Interval(*(end if math.isinf(end) else min(1.0, max(-1.0, end)) for end in ends))


def rescale(values: Array, weights: Array, picks: Array, ratio: float) -> Array:  # type: ignore[type-arg]
    """How far each resample's ratio is from the ratio, in the resample's standard errors.

    picks: [resample][place] -> a problem.
    """
    some_values, some_weights = values[picks], weights[picks]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = some_values.sum(axis=1) / some_weights.sum(axis=1)
        errors = ratio_error(some_values, some_weights)
        # A resample of problems that are alike is as far from the ratio as can be.
        errors[errors < ROUNDING] = 0
        distances: Array = (ratios - ratio) / errors
    return distances


def ratio_error(values: Array, weights: Array) -> Array:  # type: ignore[type-arg]
    """The standard error of a ratio of sums, linearized; along the last axis."""
    number = values.shape[-1]
    total = weights.sum(axis=-1, keepdims=True)
    ratio = values.sum(axis=-1, keepdims=True) / total
    residuals = (values - ratio * weights) * number / total
    error: Array = residuals.std(axis=-1, ddof=1) / math.sqrt(number)
    return error
