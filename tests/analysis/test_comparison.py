"""Runs against a baseline, from runs small enough to count by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.results_on_disk import ours, wide, write_step
from helpers.small_runs import GOLDS, parallel, run_of, thinking
from kflow.analysis.align import EqualBudget
from kflow.analysis.comparison import Flip, Versus, compare_runs, compare_with_baseline
from kflow.analysis.run_statistics import build_timeline
from kflow.analysis.statistics import detectable, newcombe, t_interval
from kflow.results.runs import SavedRun, read


def versus(run: SavedRun, baseline: SavedRun, step: int | None = None) -> Versus:
    timelines = [build_timeline(baseline), build_timeline(run)]
    return compare_with_baseline(timelines, EqualBudget(), step)[0]


def test_a_run_that_ends_without_an_answer_is_compared_by_its_verdict(tmp_path: Path) -> None:
    base = run_of(tmp_path / "a", [[5, 5]] * 3, golds=[1, 2])
    assert versus(thinking(tmp_path / "b"), base).answer.run == 0.5


def test_single_runs_are_paired_by_mcnemar_and_newcombe(tmp_path: Path) -> None:
    golds = list(range(10))
    before = run_of(tmp_path / "a", [[10, 1, 2, 19, 19, 19, 19, 19, 19, 18]], golds=golds)
    after = run_of(tmp_path / "b", [[10, 11, 2, 3, 4, 5, 6, 7, 8, 18]], golds=golds)
    difference = versus(after, before)
    answer, votes = difference.differences
    assert (answer.measure, votes.measure) == ("answer", "rolling majority")
    assert (answer.baseline, answer.run) == (0.2, pytest.approx(0.7))
    assert (answer.low, answer.high) == newcombe(1, 1, 6, 2)
    assert (answer.test, answer.p) == ("McNemar, exact", pytest.approx(2 * 8 / 2**7))
    assert answer.detectable == detectable(10, 0.1)
    assert difference.flipped[0] == Flip("aime-1", "1/1", "0/1", better=False)
    assert [f.problem for f in difference.flipped if f.better] == [f"aime-{n}" for n in range(3, 9)]
    assert difference.breakthroughs == tuple(f"aime-{n}" for n in range(3, 9))
    assert (answer.differing, answer.problems) == (7, 10)


def test_seeds_are_paired_by_permutation_of_problem_means(tmp_path: Path) -> None:
    """Six problems, each right in one seed of two more than in the single run before."""
    golds = [1, 2, 3, 4, 5, 6]
    before = run_of(tmp_path / "a", [[9] * 6], golds=golds)
    after = run_of(tmp_path / "b", [[1, 2, 3, 4, 5, 6]], [[9, 9, 9, 9, 9, 6]], golds=golds)
    difference = versus(after, before)
    answer = difference.answer
    differences = [0.5] * 5 + [1.0]
    assert answer.difference == pytest.approx(sum(differences) / 6)
    assert (answer.low, answer.high) == pytest.approx(t_interval(np.array(differences)))
    assert answer.p == pytest.approx(2 / 2**6)
    assert answer.differing == 6
    assert difference.flipped[5] == Flip("aime-5", "0/1", "2/2", better=True)
    assert difference.breakthroughs == ("aime-5",)  # half of the seeds are not most


def test_too_few_problems_to_tell(tmp_path: Path) -> None:
    """Of four problems; and of 30, where one differs."""
    before, after = run_of(tmp_path / "a", [[9, 9, 9, 9]]), run_of(tmp_path / "b", [GOLDS])
    answer = versus(after, before).answer
    assert (answer.differing, answer.p, answer.detectable) == (4, 0.125, None)
    golds = list(range(1, 31))
    near = run_of(tmp_path / "c", [[*golds[:29], 99]], golds=golds)
    answer = versus(run_of(tmp_path / "d", [golds], golds=golds), near).answer
    assert (answer.baseline, answer.run, answer.differing) == (29 / 30, 1.0, 1)
    assert answer.detectable == pytest.approx(0.25, abs=0.01)


def test_what_would_be_shown_is_the_same_whichever_is_the_baseline(tmp_path: Path) -> None:
    """Seven problems turn one way and one the other, and of a half each where votes are tied."""
    golds = list(range(1, 25))
    one = run_of(tmp_path / "a", [[*golds[:16], *[99] * 8]], golds=golds)
    other = run_of(tmp_path / "b", [[*golds[:9], *[99] * 7, golds[16], *[99] * 7]], golds=golds)
    there, back = versus(one, other).answer, versus(other, one).answer
    assert there.difference == -back.difference == 0.25
    assert there.detectable == back.detectable == detectable(24, 1 / 24)


@pytest.mark.parametrize(
    ("low", "high", "p", "disagrees"),
    [
        (-0.4, -0.1, 0.03, False),
        (-0.4, -0.1, 0.06, True),
        (-0.4, 0.1, 0.06, False),
        (-0.1, 0.4, 0.03, True),
        (0.1, 0.4, 0.06, True),
        (None, 0.2, 1.0, False),
    ],
)
def test_an_interval_and_a_test_may_disagree(
    low: float | None, high: float | None, p: float, disagrees: bool, tmp_path: Path
) -> None:
    run = run_of(tmp_path, [GOLDS])
    difference = replace(versus(run, run).answer, low=low, high=high, p_holm=p)
    assert difference.disagrees == disagrees


def test_p_is_adjusted_for_the_number_of_runs_by_measure(tmp_path: Path) -> None:
    golds = list(range(1, 11))
    runs = [
        run_of(tmp_path / name, [[*golds[:right], *[99] * (10 - right)]], golds=golds)
        for name, right in (("a", 0), ("b", 10), ("c", 6))
    ]
    first, second = compare_with_baseline([build_timeline(run) for run in runs], EqualBudget())
    p = (2 / 2**10, 2 / 2**6)
    assert [first.answer.p, second.answer.p] == pytest.approx(list(p))
    assert [first.answer.p_holm, second.answer.p_holm] == pytest.approx([2 * p[0], p[1]])


def test_runs_are_compared_at_the_last_step_both_have_or_the_one_given(tmp_path: Path) -> None:
    short = run_of(tmp_path / "a", [GOLDS, [9, 9, 9, 9]])
    long = run_of(tmp_path / "b", [GOLDS, [1, 9, 9, 9], GOLDS])
    difference = versus(long, short)
    assert (difference.at.step, difference.answer.difference) == (1, 0.25)
    assert versus(long, short, 0).answer.difference == 0


def test_runs_at_equal_rollouts(tmp_path: Path) -> None:
    """Two problems: 2 rollouts are the chain's steps 0 and 1, and two of the four parallel ones;
    a population of two is one step."""
    golds = [1, 2]
    base = parallel(tmp_path / "p", [[9, 2], [1, 2], [1, 8], [1, 8]], golds)
    chain = run_of(tmp_path / "c", [[9, 9], [1, 9], [1, 2]], golds=golds)
    write_step(tmp_path / "r", 0, [wide([ours(0, 1, 1), ours(0, 1, 1)], 1), ours(1, 2, 2)])
    timelines = [build_timeline(run) for run in (base, chain, read(tmp_path / "r", "r"))]
    of_chain, of_population = compare_with_baseline(timelines, EqualBudget(rollouts=2))
    assert (of_chain.at.step, of_chain.baseline_at.step) == (1, 1)
    assert (of_population.at.step, of_population.at.rollouts) == (0, 1.5)
    assert (of_chain.at.tokens, of_chain.baseline_at.tokens) == (2200, 2200)
    assert (of_chain.at.sequential_tokens, of_chain.baseline_at.sequential_tokens) == (2200, 1100)
    # The parallel run's answer is its verdict: 9 came first of 9 and 1; the vote shares the tie.
    answer, votes = of_chain.differences
    assert (answer.baseline, answer.run) == (0.5, 0.5)
    assert (votes.baseline, votes.run) == (0.75, 0.25)
    assert of_chain.breakthroughs == ()


def test_without_a_budget_in_common_the_last_common_step_is_taken(tmp_path: Path) -> None:
    one, two = run_of(tmp_path / "a", [GOLDS] * 4), run_of(tmp_path / "b", [GOLDS] * 4)
    (tmp_path / "b" / "predictions_1.json").unlink()
    ((difference,),) = compare_runs([one, read(tmp_path / "b", "b")]).against
    assert (difference.budget, difference.at.step) == (EqualBudget(), 3)
    budgets = [against[0].budget for against in compare_runs([one, two]).against]
    assert budgets == [EqualBudget(rollouts=4), EqualBudget(tokens=4400)]


def test_breakthroughs_are_what_no_rollout_of_the_baseline_got_right(tmp_path: Path) -> None:
    """Problem 0: outvoted in the baseline, but once right there. Problem 1: never."""
    golds = [1, 2, 3]
    base = parallel(tmp_path / "p", [[1, 9, 3], [9, 9, 3], [9, 9, 3]], golds)
    difference = versus(run_of(tmp_path / "c", [[1, 2, 9]] * 3, golds=golds), base)
    assert [flip.problem for flip in difference.flipped] == ["aime-0", "aime-1", "aime-2"]
    assert difference.breakthroughs == ("aime-1",)


def test_other_first_prompts_are_compared_with_all_independent_attempts(tmp_path: Path) -> None:
    """Of twelve problems: alone, half of the attempts are right; each run starts right on three,
    one with the prompts of parallel thinking, which say nothing of it."""
    golds = list(range(1, 13))
    alone = parallel(tmp_path / "alone", [golds, [0] * 12], golds)
    for name, question in (("same", {}), ("other", {"question": "Look out for rules."})):
        for step, right in enumerate((3, 12)):
            answers = [*golds[:right], *[0] * (12 - right)]
            rows = [ours(n, golds[n], answer, **question) for n, answer in enumerate(answers)]
            write_step(tmp_path / name, step, rows)
    runs = [read(tmp_path / name, name) for name in ("same", "other")]
    (first,) = compare_runs([*runs, alone]).first_prompts.items()
    name, difference = first
    assert (name, difference.baseline, difference.run) == ("other", 0.5, 0.25)
    assert (difference.differing, difference.problems) == (12, 12)
    assert compare_runs(runs).first_prompts == {}
    own, another = (
        replace(run, manifest={**(run.manifest or {}), "model": {"name": name}})
        for run, name in ((alone, "one"), (runs[1], "another"))
    )
    assert compare_runs([another, own]).first_prompts == {}
    assert list(compare_runs([another, own, alone]).first_prompts) == ["other"]


def test_first_prompts_are_those_that_ask_for_an_answer(tmp_path: Path) -> None:
    alone = parallel(tmp_path / "alone", [[1, 2]], [1, 2])
    asked = {"question": "Design strategies.", "asks_answer": False}
    write_step(tmp_path / "trt", 0, [ours(n, n + 1, None, **asked) for n in range(2)])
    assert compare_runs([alone, read(tmp_path / "trt", "trt")]).first_prompts == {}
