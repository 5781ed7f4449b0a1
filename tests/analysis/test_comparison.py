"""Runs against a baseline, from runs small enough to count by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_run_statistics import GOLDS, run_of, trt

from helpers.results_on_disk import ours, published, wide, write_manifest, write_run, write_step
from kflow.analysis.align import align
from kflow.analysis.comparison import (
    Flip,
    Versus,
    compare_runs,
    compare_with_baseline,
)
from kflow.analysis.equal_budgets import EqualBudget, find_equal_budgets
from kflow.analysis.run_statistics import build_timeline
from kflow.analysis.statistics import detectable, newcombe, t_interval
from kflow.results.runs import SavedRun, read
from kflow.types import UserError


def versus(
    run: SavedRun, baseline: SavedRun, step: int | None = None, budget: EqualBudget | None = None
) -> Versus:
    timelines = [build_timeline(baseline), build_timeline(run)]
    return compare_with_baseline(timelines, budget or EqualBudget(), step)[0]


def test_a_run_that_ends_without_an_answer_is_compared_by_its_verdict(tmp_path: Path) -> None:
    golds = [1, 2]
    base = run_of(tmp_path / "a", [[5, 5]] * 3, golds=golds)
    assert versus(trt(tmp_path / "b"), base).differences[0].run == 0.5


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
    answer = difference.differences[0]
    differences = [0.5] * 5 + [1.0]
    assert answer.difference == pytest.approx(sum(differences) / 6)
    import numpy as np

    assert (answer.low, answer.high) == pytest.approx(t_interval(np.array(differences)))
    assert answer.p == pytest.approx(2 / 2**6)
    assert answer.differing == 6
    assert difference.flipped[5] == Flip("aime-5", "0/1", "2/2", better=True)
    assert difference.breakthroughs == ("aime-5",)  # half of the seeds are not most


def test_too_few_problems_to_tell(tmp_path: Path) -> None:
    before = run_of(tmp_path / "a", [[9, 9, 9, 9]])
    after = run_of(tmp_path / "b", [GOLDS])
    answer = versus(after, before).differences[0]
    assert (answer.differing, answer.p, answer.detectable) == (4, 0.125, None)
    assert versus(after, after).differences[0].differing == 0


def test_29_against_30_of_30_problems_are_too_few_to_tell(tmp_path: Path) -> None:
    golds = list(range(1, 31))
    before = run_of(tmp_path / "a", [[*golds[:29], 99]], golds=golds)
    after = run_of(tmp_path / "b", [golds], golds=golds)
    answer = versus(after, before).differences[0]
    assert (answer.baseline, answer.run) == (29 / 30, 1.0)
    assert answer.differing == 1
    assert answer.detectable == pytest.approx(0.25, abs=0.01)


def test_what_would_be_shown_is_the_same_whichever_is_the_baseline(tmp_path: Path) -> None:
    """Seven problems turn one way and one the other, and of a half each where votes are tied."""
    golds = list(range(1, 25))
    one = run_of(tmp_path / "a", [[*golds[:16], *[99] * 8]], golds=golds)
    other = run_of(tmp_path / "b", [[*golds[:9], *[99] * 7, golds[16], *[99] * 7]], golds=golds)
    there, back = versus(one, other).differences[0], versus(other, one).differences[0]
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
        (None, None, 1.0, False),
        (None, 0.2, 1.0, False),
    ],
)
def test_an_interval_and_a_test_may_disagree(
    low: float | None, high: float | None, p: float, disagrees: bool, tmp_path: Path
) -> None:
    run = run_of(tmp_path, [GOLDS])
    difference = replace(versus(run, run).differences[0], low=low, high=high, p_holm=p)
    assert difference.disagrees == disagrees


def test_p_is_adjusted_for_the_number_of_runs_by_measure(tmp_path: Path) -> None:
    golds = list(range(1, 11))
    runs = [
        run_of(tmp_path / name, [[*golds[:right], *[99] * (10 - right)]], golds=golds)
        for name, right in (("a", 0), ("b", 10), ("c", 6))
    ]
    first, second = compare_with_baseline([build_timeline(run) for run in runs], EqualBudget())
    p = (2 / 2**10, 2 / 2**6)
    assert [first.differences[0].p, second.differences[0].p] == pytest.approx(list(p))
    assert first.differences[0].p_holm == pytest.approx(2 * p[0])
    assert second.differences[0].p_holm == pytest.approx(p[1])


def test_runs_are_compared_at_the_last_step_both_have(tmp_path: Path) -> None:
    short = run_of(tmp_path / "a", [GOLDS, [9, 9, 9, 9]])
    long = run_of(tmp_path / "b", [GOLDS, [1, 9, 9, 9], GOLDS])
    difference = versus(long, short)
    assert (difference.at.step, difference.differences[0].difference) == (1, 0.25)
    assert versus(long, short, 0).differences[0].difference == 0
    with pytest.raises(UserError, match="completed step 2: a has steps 0 to 1; b has steps 0 to 2"):
        versus(long, short, 2)


def parallel(folder: Path, steps: Sequence[Sequence[int | None]], golds: Sequence[int]) -> SavedRun:
    """Verdicts are the majority so far, ties to the first."""
    for number, answers in enumerate(steps):
        rows = []
        for problem, (answer, gold) in enumerate(zip(answers, golds, strict=True)):
            so_far = [step[problem] for step in steps[: number + 1] if step[problem] is not None]
            verdict = max(so_far, key=so_far.count, default=None)
            right = verdict == gold
            rows.append(ours(problem, gold, answer, verdict=verdict, verdict_correct=right))
        write_step(folder, number, rows)
    write_manifest(folder, {}, experiment={"prefix": "vllm_parallel", "ahead": True})
    return read(folder, folder.name)


def test_runs_at_equal_rollouts(tmp_path: Path) -> None:
    """Two problems: 2 rollouts are the chain's steps 0 and 1, and two of the four parallel ones;
    a population of two is one step."""
    golds = [1, 2]
    base = parallel(tmp_path / "p", [[9, 2], [1, 2], [1, 8], [1, 8]], golds)
    chain = run_of(tmp_path / "c", [[9, 9], [1, 9], [1, 2]], golds=golds)
    population = tmp_path / "r"
    write_step(population, 0, [wide([ours(0, 1, 1), ours(0, 1, 1)], 1), ours(1, 2, 2)])
    population_run = read(population, "r")
    timelines = [build_timeline(run) for run in (base, chain, population_run)]
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


def test_runs_at_equal_tokens_are_each_at_their_nearest_step(tmp_path: Path) -> None:
    """A step of the one costs 1,100 tokens a problem, of the other 500 on the mean of two."""
    golds = [1, 2]
    long = run_of(tmp_path / "a", [[1, 9]] * 4, golds=golds)
    for step in range(8):
        cheap = {"prompt_tokens": 100, "completion_tokens": 300}
        dear = {"prompt_tokens": 100, "completion_tokens": 500}
        write_step(tmp_path / "b", step, [ours(0, 1, 1, **cheap), ours(1, 2, 2, **dear)])
    short = read(tmp_path / "b", "b")
    difference = versus(short, long, budget=EqualBudget(tokens=2500))
    assert (difference.at.step, difference.at.tokens, difference.at.rollouts) == (4, 2500, 5)
    assert (difference.baseline_at.step, difference.baseline_at.tokens) == (1, 2200)
    assert versus(short, long, budget=EqualBudget(tokens=2499)).at.step == 4  # 1 too many
    assert versus(short, long, budget=EqualBudget(tokens=2400)).at.step == 4  # 4.2 % above
    assert versus(short, long, budget=EqualBudget(tokens=2380)).at.step == 3  # 5.04 %
    assert versus(short, long, budget=EqualBudget(tokens=2240)).at.step == 3  # the nearer one


@pytest.mark.parametrize(
    ("budget", "complaint"),
    [
        (
            EqualBudget(rollouts=3),
            "b holds 2 rollouts per problem: give --at_rollouts at most that",
        ),
        (
            EqualBudget(tokens=2201),
            "b holds 2,200 tokens per problem: give --at_tokens at most that",
        ),
        (
            EqualBudget(tokens=1000),
            "takes 1,100 tokens per problem for its first step: give --at_tokens at least that",
        ),
    ],
)
def test_a_budget_that_a_run_does_not_hold_is_refused(
    tmp_path: Path, budget: EqualBudget, complaint: str
) -> None:
    one = run_of(tmp_path / "a", [GOLDS] * 9)
    two = run_of(tmp_path / "b", [GOLDS] * 2)
    with pytest.raises(UserError, match=complaint):
        versus(two, one, budget=budget)


def test_what_a_run_that_lacks_a_step_took_is_not_known(tmp_path: Path) -> None:
    one = run_of(tmp_path / "a", [GOLDS] * 4)
    run_of(tmp_path / "b", [GOLDS] * 4)
    for step in (1, 2):
        (tmp_path / "b" / f"predictions_{step}.json").unlink()
    two = read(tmp_path / "b", "b")
    with pytest.raises(UserError, match="b lacks steps 1 to 2, so that what it took"):
        versus(two, one, budget=EqualBudget(rollouts=3))
    assert find_equal_budgets([build_timeline(one), build_timeline(two)]) == []
    ((difference,),) = compare_runs([one, two]).against
    assert (difference.budget, difference.at.step) == (EqualBudget(), 3)


def test_chains_that_stopped_by_themselves_are_within_any_larger_budget(tmp_path: Path) -> None:
    base = run_of(tmp_path / "a", [GOLDS] * 9)
    for step in (0, 1):
        records = [
            ours(n, g, g, **({"repeats_step": 0} if step else {})) for n, g in enumerate(GOLDS)
        ]
        write_step(tmp_path / "b", step, records)
    run = read(tmp_path / "b", "b")
    for budget in (EqualBudget(rollouts=5), EqualBudget(tokens=5500)):
        difference = versus(run, base, budget=budget)
        assert (difference.at.step, difference.baseline_at.step) == (1, 4)
    for other in ({}, {"over_budget": True}, {"repeats_step": 0, "over_budget": True}):
        write_step(tmp_path / "b", 1, [*records[:3], ours(3, 4, 4, **other)])
        with pytest.raises(UserError, match=r"b holds . rollouts? per problem"):
            versus(read(tmp_path / "b", "b"), base, budget=EqualBudget(rollouts=5))


def test_a_published_folder_cannot_be_at_equal_tokens(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [GOLDS], GOLDS, published)
    with pytest.raises(UserError, match="a does not record its tokens: give --at_rollouts"):
        versus(
            read(tmp_path / "a", "a"),
            run_of(tmp_path / "b", [GOLDS]),
            budget=EqualBudget(tokens=1100),
        )


def test_breakthroughs_are_what_no_rollout_of_the_baseline_got_right(tmp_path: Path) -> None:
    """Problem 0: outvoted in the baseline, but once right there. Problem 1: never."""
    golds = [1, 2, 3]
    base = parallel(tmp_path / "p", [[1, 9, 3], [9, 9, 3], [9, 9, 3]], golds)
    difference = versus(run_of(tmp_path / "c", [[1, 2, 9]] * 3, golds=golds), base)
    assert [flip.problem for flip in difference.flipped] == ["aime-0", "aime-1", "aime-2"]
    assert difference.breakthroughs == ("aime-1",)


def test_problems_are_matched_by_id_whatever_their_order(tmp_path: Path) -> None:
    one = run_of(tmp_path / "a", [[1, 2, 3, 9]])
    write_step(tmp_path / "b", 0, [ours(n, n + 1, n + 1) for n in (3, 1, 0, 2)])
    first, second = align([one, read(tmp_path / "b", "b")], common=False)
    assert second.problems == first.problems
    assert versus(second, first).flipped == (Flip("aime-3", "0/1", "1/1", better=True),)


def test_answers_of_different_types_are_not_compared(tmp_path: Path) -> None:
    one = run_of(tmp_path / "a", [GOLDS])
    other = replace(one, name="b", answers=replace(one.answers, name="choice"))  # type: ignore[type-var]
    with pytest.raises(UserError, match="of the types integer and choice"):
        align([one, other], common=True)


def test_folders_without_ids_are_matched_by_position(tmp_path: Path) -> None:
    one = run_of(tmp_path / "a", [[1, 2, 3, 9]])
    write_run(tmp_path / "b", [[1, 2, 3, 4]], GOLDS, published)
    first, second = align([one, read(tmp_path / "b", "b")], common=False)
    assert first.problems == second.problems == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("rows", "difference", "shared"),
    [
        ([ours(0, 1, 1), ours(1, 2, 2)], "a has problem aime-2, b does not", 2),
        ([ours(n, n + 1, 1) for n in range(5)], "b has problem aime-4, a does not", 4),
        (
            [ours(0, 1, 1), ours(1, 5, 5), ours(2, 3, 3), ours(3, 4, 4)],
            "the gold answer of problem aime-1 is 2 in a, 5 in b",
            3,
        ),
        (
            [published(n, n + 2, 1) for n in range(3)],
            "the gold answer of problem 0 is 1 in a, 2 in b",
            0,
        ),
    ],
)
def test_what_is_not_comparable_is_refused_by_its_first_difference(
    tmp_path: Path, rows: list[Any], difference: str, shared: int
) -> None:
    write_step(tmp_path / "b", 0, rows)
    runs = [run_of(tmp_path / "a", [[1, 2, 3, 4]]), read(tmp_path / "b", "b")]
    with pytest.raises(UserError, match=difference):
        align(runs, common=False)
    if shared:
        aligned = align(runs, common=True)
        assert [len(run.problems) for run in aligned] == [shared, shared]
        assert aligned[0].golds == aligned[1].golds
    else:
        with pytest.raises(UserError, match="no problem with the same gold answer"):
            align(runs, common=True)
