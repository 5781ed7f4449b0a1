"""Intervals and tests for accuracies over problems: scipy's wherever it has them.

The unit is the problem: several seeds, and all the more the steps of a chain, are repeated looks
at the same problem and never count as samples of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ..types import Answer

CONFIDENCE = 0.95
RESAMPLES = 99_999
LEVEL = 0.05


class Interval(NamedTuple):
    low: float
    high: float


class Mean(NamedTuple):
    """error: the standard error of the mean, NaN for a single value."""

    value: float
    error: float
    interval: Interval


def wilson(right: int, total: int) -> Interval:
    """Wilson's 95 % interval of a proportion."""
    found = stats.binomtest(right, total).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def clustered(per_problem: Sequence[float]) -> Mean:
    """The mean of problems' mean accuracies and its t interval, within 0..1: the standard error is
    that of a sample of problems, however many seeds each mean is over.

    Where every problem is at 0, or every one at 1, the sample shows no spread and the interval is
    Wilson's for that many problems.
    """
    values = np.asarray(per_problem, dtype=float)
    mean, total = float(values.mean()), len(values)
    error = float(stats.sem(values)) if total > 1 else math.nan
    if mean in (0.0, 1.0):
        return Mean(mean, error, wilson(round(mean) * total, total))
    low, high = t_interval(values)
    return Mean(mean, error, Interval(max(0.0, low), min(1.0, high)))


def t_interval(values: np.ndarray) -> Interval:  # type: ignore[type-arg]
    """Student's 95 % interval of a mean; a single value tells nothing of it."""
    if len(values) < 2:
        return Interval(-math.inf, math.inf)
    if np.ptp(values) == 0:
        return Interval(float(values[0]), float(values[0]))
    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, values.mean(), stats.sem(values))
    return Interval(float(low), float(high))


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
    found = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def fewest_to_tell() -> int:
    """How many problems must differ, all one way, before a two-sided test can be below LEVEL."""
    return math.ceil(math.log2(2 / LEVEL))


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that one of k samples drawn from these is right, without bias: Chen et al. 2021
    (arXiv 2107.03374), equation 1, in its numerically stable form."""
    if samples - right < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - right + 1, samples + 1)))


class Vote(NamedTuple):
    """credit: 1 when the majority is right, 0 when not, 1/m when the right one ties with m - 1
    others. tied: whether the vote was a tie."""

    credit: float
    tied: bool


def majority(answers: Sequence[Answer], right: str) -> Vote:
    """The most frequent answer; rollouts without an answer do not vote."""
    counts = Counter(str(answer) for answer in answers if answer is not None)
    most = max(counts.values(), default=0)
    leaders = [answer for answer, count in counts.items() if count == most]
    return Vote((right in leaders) / max(1, len(leaders)), len(leaders) > 1)
