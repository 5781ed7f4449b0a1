"""Every statistic against a published or independently computed value."""

from __future__ import annotations

import math
import tracemalloc
from itertools import combinations, product
from math import comb
from statistics import fmean, stdev

import numpy as np
import pytest

from kflow.analysis.comparison import measure_difference
from kflow.analysis.statistics import (
    LEVEL,
    clustered,
    detectable,
    detectable_mean,
    fewest_to_tell,
    holm,
    mcnemar,
    mcnemar_power,
    newcombe,
    paired,
    pass_at_k,
    permutation,
    t_interval,
)
from kflow.results.known_scores import wilson

# Darwin's maize: heights of crossed less self-fertilised plants, in eighths of an inch (Fisher,
# The Design of Experiments, 1935, section 17 and 21).
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
NONE, ALL = wilson(0, 30), wilson(30, 30)
MARGIN = NONE.high


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_newcombes_table(right: int, total: int, low: float, high: float) -> None:
    assert wilson(right, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 2635, method 10: 36, 12, 2, 0 of 50 pairs.
        ((36, 2, 12, 0), 0.0569, 0.3404),
        ((36, 12, 2, 0), -0.3404, -0.0569),
        ((54, 0, 0, 0), -0.0664, 0.0664),
        # By hand: runs that go together, phi (20 * 18 - 2 * 10 - 50 / 2) / sqrt(22 * 28 * 30 * 20).
        ((20, 2, 10, 18), 0.0250, 0.2839),
    ],
)
def test_newcombes_interval_of_paired_proportions(
    table: tuple[int, int, int, int], low: float, high: float
) -> None:
    assert newcombe(*table) == pytest.approx((low, high), abs=5e-5)


def test_a_product_below_half_of_the_pairs_counts_as_no_correlation() -> None:
    """6 * 6 - 4 * 4 = 20 is lowered by half of 20 pairs and counts; 3 * 3 - 2 * 2 = 5, of 10
    pairs, does not."""
    few, more = (math.sqrt(2) * (wilson(n // 2, n).high - 0.5) for n in (10, 20))
    assert newcombe(3, 2, 2, 3) == pytest.approx((-few, few))
    assert newcombe(6, 4, 4, 6).high < more - 0.01


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (59, 121, 4.434444926375551e-06),  # statsmodels' documentation of mcnemar, exact
        (0, 0, 1.0),
        (0, 6, 2 / 2**6),
        (3, 3, 1.0),
        (1, 7, 2 * (1 + 8) / 2**8),
    ],
)
def test_exact_mcnemar(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p)


def test_permutation() -> None:
    """863 of the 32,768 sign patterns of Darwin's maize give a sum as large (Fisher, section 21);
    problems that do not differ say nothing, and one that does alone neither."""
    assert permutation(DARWIN) == pytest.approx(2 * 863 / 2**15)
    assert permutation([0.25] * 6 + [0.0] * 40) == pytest.approx(2 / 2**6)
    assert permutation([0.0] * 8) == permutation([0.5, 0.0]) == 1.0


def test_permutation_by_draws_is_repeatable_and_near_the_exact_value() -> None:
    differences = [1.0] * 14 + [-1.0] * 6
    exact = mcnemar(6, 14)  # of signs alone, the two tests are one
    assert permutation(differences) == permutation(differences)
    assert permutation(differences) == pytest.approx(exact, abs=0.005)


def test_permutation_of_many_problems_takes_little_memory() -> None:
    tracemalloc.start()
    permutation([0.5, 0.25, -0.5, 0.25] * 50)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100e6  # bytes; at once they would be 1.3 GB


def test_clustered_is_the_error_of_a_sample_of_problems() -> None:
    means = [0.0, 0.25, 0.5, 1.0, 1.0, 0.75]
    estimate = clustered(means)
    assert estimate.value == pytest.approx(fmean(means))
    assert estimate.error == pytest.approx(stdev(means) / math.sqrt(6))
    margin = 2.5706 * estimate.error  # t(5), two-sided 5 %
    assert estimate.interval.low == pytest.approx(fmean(means) - margin, abs=1e-4)
    assert estimate.interval.high == pytest.approx(min(1.0, fmean(means) + margin), abs=1e-4)


@pytest.mark.parametrize(
    ("means", "interval"),
    [
        ([0.0] * 30, NONE),
        ([1.0] * 30, ALL),
        ([0.5] * 30, (0.5 - MARGIN, 0.5 + MARGIN)),
        ([0.95] * 30, (0.95 - MARGIN, 1.0)),
        ([0.5], (0.0, 1.0)),  # one problem tells nothing of others
    ],
)
def test_means_that_are_all_alike_still_leave_doubt(
    means: list[float], interval: tuple[float, float]
) -> None:
    estimate = clustered(means)
    assert estimate.interval == pytest.approx(interval)
    assert math.isnan(estimate.error) == (len(means) == 1)


def test_pass_at_k_is_the_share_of_draws_with_a_right_one() -> None:
    """Against counting every draw of k samples (Chen et al. 2021, equation 1)."""
    for samples, right in product(range(1, 7), range(7)):
        flags = [True] * right + [False] * (samples - right)
        for k in range(1, samples + 1) if right <= samples else ():
            draws = list(combinations(flags, k))
            share = sum(map(any, draws)) / len(draws)
            assert pass_at_k(samples, right, k) == pytest.approx(share), (samples, right, k)


def test_fewest_to_tell_is_where_the_exact_test_can_first_be_below_the_level() -> None:
    assert mcnemar(0, fewest_to_tell()) < 0.05 <= mcnemar(0, fewest_to_tell() - 1)


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        # The example of R's documentation of p.adjust, method "holm".
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.04, 0.01, 0.03], [0.06, 0.03, 0.06]),
        ([0.6, 0.9], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm(p: list[float], adjusted: list[float]) -> None:
    assert holm(p) == pytest.approx(adjusted)


@pytest.mark.parametrize(
    ("problems", "lost", "gained"), [(10, 0.1, 0.4), (30, 0.03, 0.3), (12, 0, 0.7), (7, 0.2, 0.8)]
)
def test_power_against_every_outcome(problems: int, lost: float, gained: float) -> None:
    """The sum over all numbers of problems lost and gained that the test would show."""
    neither = 1 - lost - gained
    power = sum(
        comb(problems, b) * comb(problems - b, c) * lost**b * gained**c
        * neither ** (problems - b - c)
        for b in range(problems + 1)
        for c in range(problems + 1 - b)
        if mcnemar(b, c) < LEVEL
    )  # fmt: skip
    assert mcnemar_power(problems, lost, gained) == pytest.approx(power)


def test_the_smallest_gain_that_30_problems_would_show() -> None:
    """Six must turn of 30, none the other way: 25 % give that four times in five."""
    gain = detectable(30)
    assert gain is not None
    assert 0.24 < gain < 0.26
    assert mcnemar_power(30, 0, gain) == pytest.approx(0.8, abs=0.01)
    assert (detectable(30, 0.1) or 0) > gain
    assert (detectable(500) or 1) < 0.02
    assert detectable(5) is None


@pytest.mark.parametrize("lost", [0.45, 0.5, 1.0])
def test_no_gain_is_detectable_where_half_of_the_problems_or_nearly_are_lost(lost: float) -> None:
    """Of 30: 55 % gained and 45 % lost is not detected four times in five either."""
    assert detectable(30, lost) is None


def test_the_smallest_mean_difference_is_that_of_a_t_test() -> None:
    """Darwin's 15 pairs: standard error 9.746, t(14) 2.145 and 0.868. Not known of too few that
    differ, of more than there can be (1.56 by the formula), and without scatter, but for
    rounding."""
    shares = [each / 100 for each in DARWIN]
    assert detectable_mean(shares) == pytest.approx(0.09746 * (2.145 + 0.868), abs=0.0002)
    thirds = [1 - 2 / 3, 2 / 3 - 1 / 3, 1 / 3]
    for unknown in ([0.5] * 5 + [0.0] * 20, [1.0, -1.0] * 3, [0.5] * 8, thirds * 3):
        assert detectable_mean(unknown) is None
    assert (detectable_mean([1.0, -1.0] * 10) or 2) < 1


def test_pairs_of_single_answers_are_mcnemars() -> None:
    difference = paired([1, 1, 0, 0, 0, 1], [1, 0, 1, 1, 0, 1])
    assert difference.difference == pytest.approx(1 / 6)
    assert (difference.interval, difference.p) == (newcombe(2, 1, 2, 1), mcnemar(1, 2))
    assert difference.test == "McNemar, exact"


def test_pairs_of_shares_are_permuted() -> None:
    difference = paired([0.5, 1, 0, 0], [1, 1, 0.25, 0.5])
    differences = [0.5, 0, 0.25, 0.5]
    assert difference.difference == pytest.approx(sum(differences) / 4)
    assert (difference.p, difference.test) == (permutation(differences), "permutation of problems")
    assert difference.interval == pytest.approx(t_interval(np.array(differences)))


def test_means_that_are_equal_but_for_rounding_do_not_differ() -> None:
    """Three seeds, a tie of three in one of them; and four problems that do differ."""
    first, second = (1 + 1 + 1 / 3) / 3, (1 + 1 / 3 + 1) / 3
    assert first != second
    same = paired([first] * 8, [second] * 8)
    assert (same.difference, same.p) == (0, 1)
    assert paired([first] * 8 + [0] * 4, [second] * 8 + [1 / 3] * 4).p == 0.125
    moved = measure_difference("answer", [first] * 8 + [0] * 4, [second] * 8 + [1 / 3] * 4)
    assert moved.differing == 4


def test_differences_that_are_all_alike_still_leave_doubt() -> None:
    difference = paired([0.25] * 4, [0.75] * 4)
    assert difference.interval == pytest.approx((0.5 - wilson(0, 4).high, 0.5 + wilson(0, 4).high))
    thirds = paired([0, 1 / 3, 2 / 3] * 2, [1 / 3, 2 / 3, 1] * 2)  # equal but for rounding
    assert thirds.interval == pytest.approx((1 / 3 - wilson(0, 6).high, 1 / 3 + wilson(0, 6).high))


def test_a_differences_interval_ends_at_1_and_one_problem_gives_none() -> None:
    low, high = [0.0, 0.0, 0.0, 0.5], [1.0, 1.0, 1.0, 0.5]
    assert paired(low, high).interval.high == 1
    assert paired(high, low).interval.low == -1
    assert paired([0.5], [1.0]).interval == (-math.inf, math.inf)
