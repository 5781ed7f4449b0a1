"""Intervals and tests for accuracies over problems: scipy's wherever it has them.

The unit is the problem: several seeds, and all the more the steps of a chain, are repeated looks
at the same problem and never count as samples of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from kflow.results.known_scores import CONFIDENCE, Interval, wilson

RESAMPLES = 99_999
BATCH = 1_000_000  # signs that scipy draws at once: about 65 MB
LEVEL = 0.05
MCNEMAR = "McNemar, exact"
POWER = 0.8
ROUNDING = 1e-9  # more than it makes of shares, less than any of them differ


class Mean(NamedTuple):
    """error: the standard error of the mean, NaN for a single value."""

    value: float
    error: float
    interval: Interval


def clustered(per_problem: Sequence[float]) -> Mean:
    """The mean of problems' mean accuracies and its t interval, within 0..1: the standard error is
    that of a sample of problems, however many seeds each mean is over.

    Means that are all alike show no spread: see `around_equal`, which for problems that are all at
    0, or all at 1, is Wilson's interval.
    """
    values = np.asarray(per_problem, dtype=float)
    mean, total = float(values.mean()), len(values)
    error = float(stats.sem(values)) if total > 1 else math.nan
    interval = around_equal(mean, total) if alike(values) else t_interval(values)
    return Mean(mean, error, within(interval, 0.0, 1.0))


def alike(values: np.ndarray) -> bool:  # type: ignore[type-arg]
    """Whether the values are equal but for rounding: 1 - 2/3 and 1/3 - 0 are."""
    return bool(np.ptp(values) < ROUNDING)


def around_equal(value: float, total: int) -> Interval:
    """The 95 % interval of the mean of so many equal values. Their t interval has no width, which
    claims too much; this one reaches as far as Wilson's does from no success at all."""
    margin = wilson(0, total).high
    return Interval(value - margin, value + margin)


def within(interval: Interval, lowest: float, highest: float) -> Interval:
    return Interval(max(lowest, interval.low), min(highest, interval.high))


def t_interval(values: np.ndarray) -> Interval:  # type: ignore[type-arg]
    """Student's 95 % interval of the mean of several values."""
    ends = stats.t.interval(CONFIDENCE, len(values) - 1, values.mean(), stats.sem(values))
    return Interval(*map(float, ends))


def newcombe(both: int, only_first: int, only_second: int, neither: int) -> Interval:
    """The 95 % interval of the difference (second - first) of two paired proportions.

    Newcombe, Statistics in Medicine 17 (1998) 2635, method 10: Wilson's two intervals squared and
    added, with their correlation. scipy has none for pairs.
    """
    total = both + only_first + only_second + neither
    first, second = (both + only_first) / total, (both + only_second) / total
    low_1, high_1 = wilson(both + only_first, total)
    low_2, high_2 = wilson(both + only_second, total)
    margins = (both + only_first, only_second + neither, both + only_second, only_first + neither)
    product: float = both * neither - only_first * only_second
    if product > 0:
        product = max(product - total / 2, 0)  # the correction for continuity
    scale = math.sqrt(math.prod(margins))
    phi = product / scale if scale else 0.0
    difference = second - first

    def spread(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    return Interval(
        difference - spread(second - low_2, high_1 - first),
        difference + spread(high_2 - second, first - low_1),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p: whether as many problems flip one way as the other."""
    flipped = only_first + only_second
    return float(stats.binomtest(only_first, flipped).pvalue) if flipped else 1.0


def permutation(differences: Sequence[float]) -> float:
    """Two-sided p of a mean difference when the two runs are swapped problem by problem: exact
    for up to 16 problems that differ, else from 99,999 fixed draws."""
    values = np.array([each for each in differences if each != 0])
    if len(values) < 2:
        return 1.0  # of one difference, both signs are as likely
    result = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        batch=max(1, BATCH // len(values)),
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def fewest_to_tell(level: float = LEVEL) -> int:
    """How many problems must differ, all one way, before a two-sided test can be below a level."""
    return math.ceil(math.log2(2 / level))


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that one of k samples drawn from these is right, without bias: Chen et al. 2021
    (arXiv 2107.03374), equation 1, in its numerically stable form."""
    if samples - right < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - right + 1, samples + 1)))


def differences(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """By problem, after - before; 0 where they are equal but for rounding: the last digit of a mean
    over seeds, where ties count as shares, depends on the order of the seeds."""
    return [b - a if abs(b - a) > ROUNDING else 0.0 for a, b in zip(before, after, strict=True)]


class Paired(NamedTuple):
    """A paired difference: points from 0 to 1. test: its name."""

    difference: float
    interval: Interval
    p: float
    test: str


def paired(before: Sequence[float], after: Sequence[float]) -> Paired:
    """The mean difference (after - before) over problems, with its 95 % interval and test.

    before, after: per problem a share from 0 to 1. Where all are 0 or 1: Newcombe's interval and
    McNemar's exact test. Else Student's interval of the differences, or `around_equal` for those
    that are all alike, and a permutation test. A single problem has no interval: its ends are
    infinite.
    """
    pairs = list(zip(before, after, strict=True))
    each = differences(before, after)
    difference = sum(each) / len(each)
    if all(value in (0, 1) for pair in pairs for value in pair):
        both, lost, gained, neither = (
            sum(pair == kind for pair in pairs) for kind in ((1, 1), (1, 0), (0, 1), (0, 0))
        )
        interval = newcombe(both, lost, gained, neither)
        return Paired(difference, interval, mcnemar(lost, gained), MCNEMAR)
    values = np.array(each)
    if len(pairs) == 1:
        interval = Interval(-math.inf, math.inf)
    else:
        spread = around_equal(difference, len(pairs)) if alike(values) else t_interval(values)
        interval = within(spread, -1.0, 1.0)
    return Paired(difference, interval, permutation(each), "permutation of problems")


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for how many they are (Holm, Scandinavian Journal of Statistics 6
    (1979) 65): the k-th smallest times the number of those not smaller, never decreasing."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        least = min(1.0, max(least, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = least
    return adjusted


def mcnemar_power(problems: int, lost: float, gained: float, level: float = LEVEL) -> float:
    """The chance that the exact McNemar test is below a level, where a problem turns from right to
    wrong with probability `lost` and from wrong to right with `gained`; exact."""
    differing = lost + gained
    if differing <= 0:
        return 0.0
    flipped = np.arange(problems + 1)
    # The most flips one way, of so many, with which the test is below it; -1 where it never is.
    most = stats.binom.ppf(level / 2, flipped, 0.5)
    most = np.where(stats.binom.cdf(most, flipped, 0.5) * 2 >= level, most - 1, most)
    share = gained / differing
    significant = stats.binom.cdf(most, flipped, share) + stats.binom.cdf(most, flipped, 1 - share)
    return float((stats.binom.pmf(flipped, problems, min(1.0, differing)) * significant).sum())


def detectable(problems: int, lost: float = 0.0, level: float = LEVEL) -> float | None:
    """The smallest gain, as a share of problems, that the exact McNemar test would show four times
    in five, with `lost` turning the other way; None where not even the largest would, of too few
    problems, and where at least half are lost, so that there is no gain."""
    largest = 1 - lost
    if largest <= lost or mcnemar_power(problems, lost, largest, level) < POWER:
        return None
    low, high = lost, largest
    while high - low > 0.001:
        middle = (low + high) / 2
        shown = mcnemar_power(problems, lost, middle, level) >= POWER
        low, high = (low, middle) if shown else (middle, high)
    return high - lost


def detectable_mean(differences: Sequence[float], level: float = LEVEL) -> float | None:
    """The smallest mean difference that a t test over so many problems would show four times in
    five, were they as scattered as these.

    differences: from -1 to 1. None where too few differ, or all by the same, to say how much they
    scatter, and where not even the largest difference there can be, 1, would do.
    """
    values = np.asarray(differences)
    if np.count_nonzero(values) < fewest_to_tell() or alike(values):
        return None
    freedom = len(values) - 1
    quantiles = stats.t.ppf(1 - level / 2, freedom) + stats.t.ppf(POWER, freedom)
    smallest = float(quantiles * stats.sem(values))
    return smallest if smallest <= 1 else None
