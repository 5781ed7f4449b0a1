"""Runs on the same problems, and the step at which each is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.results_on_disk import ours, published, wide, write_manifest, write_run, write_step
from helpers.small_runs import GOLDS, run_of
from kflow.analysis.align import EqualBudget, align, find_equal_budgets, find_places
from kflow.analysis.run_statistics import Timeline, build_timeline
from kflow.results.runs import read
from kflow.types import UserError

GOLD = 1


def chains(folder: Path, steps: int, **more: Any) -> Timeline:
    """A run of one rollout a step, 1,100 tokens each unless `more` says otherwise."""
    return build_timeline(read(write_run(folder, [[GOLD]] * steps, [GOLD], **more), folder.name))


def written(folder: Path, *records: Any) -> Timeline:
    """A run of one problem from its records by step."""
    for step, record in enumerate(records):
        write_step(folder, step, [record])
    return build_timeline(read(folder, folder.name))


def population(folder: Path, steps: int) -> Timeline:
    return written(folder, *[wide([ours(0, GOLD, GOLD)] * 4, GOLD)] * steps)


def costing(folder: Path, tokens: Sequence[int]) -> Timeline:
    """A run of one rollout a step, each of so many tokens."""
    return written(folder, *(ours(0, GOLD, GOLD, completion_tokens=n - 100) for n in tokens))


def places(unit: str, *timelines: Timeline) -> tuple[int | None, list[int]] | None:
    """The largest budget of a unit, and the runs' places; None where there is no such budget."""
    for budget in find_equal_budgets(timelines):
        if budget.unit == unit:
            return budget.size, find_places(timelines, budget)
    return None


def test_each_run_at_its_last_step_within_the_rollouts_that_all_hold(tmp_path: Path) -> None:
    base, short = chains(tmp_path / "base", 10), chains(tmp_path / "short", 6)
    other = population(tmp_path / "wide", 2)
    assert places("rollouts", base, short) == (6, [5, 5])
    assert places("rollouts", base, other) == (8, [7, 1])
    assert places("rollouts", base, short, other) == (6, [5, 5, 0])
    assert places("tokens", short, other) == (6600, [5, 0])


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ([1000, 3012, 500], (4000, [3, 1])),  # 12 tokens more than the budget cost no step
        ([1000, 3201, 500], (4000, [3, 0])),  # more than a twentieth of it do
        ([3990, 110, 500], (4000, [3, 0])),  # the nearer one
        ([4150, 1000], (4000, [3, 0])),
        ([4250, 1000], None),
    ],
)
def test_each_run_at_its_step_nearest_to_the_tokens_that_all_hold(
    tokens: list[int], found: object, tmp_path: Path
) -> None:
    base, other = costing(tmp_path / "base", [1000] * 4), costing(tmp_path / "a", tokens)
    assert places("tokens", base, other) == found


def test_there_may_be_no_such_budget(tmp_path: Path) -> None:
    few, other = chains(tmp_path / "few", 2), population(tmp_path / "wide", 1)
    unmeasured = chains(tmp_path / "published", 2, record=published)
    assert places("rollouts", few, other) is None  # four at once, of two
    assert places("tokens", few, unmeasured) is None
    assert places("rollouts", few, unmeasured) == (2, [1, 1])
    with pytest.raises(UserError, match="does not record its tokens"):
        find_places([unmeasured], EqualBudget(tokens=1100))


@pytest.mark.parametrize(
    ("more", "whole"),
    [({"repeats_step": 0}, True), ({"repeats_step": 0, "over_budget": True}, False), ({}, False)],
)
def test_chains_that_have_all_stopped_by_themselves_hold_any_budget(
    more: dict[str, Any], whole: bool, tmp_path: Path
) -> None:
    """One that has used up its token budget would have gone on."""
    end = ours(0, GOLD, GOLD, **more)
    early, base = written(tmp_path / "a", ours(0, GOLD, 9), end), chains(tmp_path / "b", 4)
    largest = places("rollouts", early, base)
    assert largest is not None
    assert (largest[0] == 4) == whole
    if whole:
        assert find_places([early, base], EqualBudget(tokens=4400)) == [1, 3]
    else:
        with pytest.raises(UserError, match=r"a holds . rollouts? per problem"):
            find_places([early, base], EqualBudget(rollouts=4))


@pytest.mark.parametrize(
    ("budget", "complaint"),
    [
        (EqualBudget(rollouts=3), "holds 2 rollouts per problem: lower --at_rollouts to that"),
        (EqualBudget(tokens=2201), "holds 2,200 tokens per problem: lower --at_tokens to that"),
        (EqualBudget(tokens=1000), "1,100 tokens .* first step: raise --at_tokens to that or more"),
    ],
)
def test_a_budget_that_a_run_does_not_hold_is_refused(
    tmp_path: Path, budget: EqualBudget, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        find_places([chains(tmp_path / "a", 9), chains(tmp_path / "b", 2)], budget)


@pytest.mark.parametrize("ahead", [False, True])
def test_what_a_run_that_lacks_a_step_took_is_not_known(ahead: bool, tmp_path: Path) -> None:
    """Not of parallel thinking either: its verdict counts the attempt that is not there."""
    chains(tmp_path / "b", 4)
    write_manifest(tmp_path / "b", {}, experiment={"ahead": ahead})
    for step in (1, 2):
        (tmp_path / "b" / f"predictions_{step}.json").unlink()
    both = [chains(tmp_path / "a", 4), build_timeline(read(tmp_path / "b", "b"))]
    with pytest.raises(UserError, match="b lacks steps 1 to 2, so what it spent"):
        find_places(both, EqualBudget(rollouts=3))
    assert find_equal_budgets(both) == []
    assert find_places(both, EqualBudget()) == [3, 1]  # both are step 3
    with pytest.raises(UserError, match="completed step 1: a has steps 0 to 3; b has steps 0, 3"):
        find_places(both, EqualBudget(), 1)


def test_problems_are_matched_by_id_whatever_their_order(tmp_path: Path) -> None:
    one = run_of(tmp_path / "a", [[1, 2, 3, 9]])
    write_step(tmp_path / "b", 0, [ours(n, n + 1, n + 1) for n in (3, 1, 0, 2)])
    first, second = align([one, read(tmp_path / "b", "b")], common=False)
    assert second.problems == first.problems
    assert [record.id for record in second.rollouts[0, 0]] == [*first.problems]


def test_folders_without_ids_are_matched_by_position(tmp_path: Path) -> None:
    one = run_of(tmp_path / "a", [[1, 2, 3, 9]])
    write_run(tmp_path / "b", [[1, 2, 3, 4]], GOLDS, published)
    first, second = align([one, read(tmp_path / "b", "b")], common=False)
    assert first.problems == second.problems == ("0", "1", "2", "3")


def test_answers_of_different_types_are_not_compared(tmp_path: Path) -> None:
    one = run_of(tmp_path / "a", [GOLDS])
    other = replace(one, name="b", answers=replace(one.answers, name="choice"))  # type: ignore[type-var]
    with pytest.raises(UserError, match="of the types integer and choice"):
        align([one, other], common=True)


@pytest.mark.parametrize(
    ("golds", "record", "difference", "shared"),
    [
        ([1, 2], ours, "a has problem aime-2, b does not", 2),
        ([1, 2, 3, 4, 5], ours, "b has problem aime-4, a does not", 4),
        ([1, 5, 3, 4], ours, "the gold answer of problem aime-1 is 2 in a, 5 in b", 3),
        ([2, 3, 4], published, "the gold answer of problem 0 is 1 in a, 2 in b", 0),
    ],
)
def test_what_is_not_comparable_is_refused_by_its_first_difference(
    tmp_path: Path, golds: list[int], record: Any, difference: str, shared: int
) -> None:
    write_run(tmp_path / "b", [golds], golds, record)
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
