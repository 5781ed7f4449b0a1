"""At which budgets runs are compared, and where each of them then stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.results_on_disk import ours, published, wide, write_run, write_step
from kflow.analysis.equal_budgets import find_equal_budgets, find_places
from kflow.analysis.run_statistics import Timeline, build_timeline
from kflow.results.runs import read

GOLD = 1


def chains(folder: Path, steps: int, **more: Any) -> Timeline:
    """A run of one rollout a step, 1,100 tokens each unless `more` says otherwise."""
    return build_timeline(read(write_run(folder, [[GOLD]] * steps, [GOLD], **more), folder.name))


def population(folder: Path, steps: int, width: int = 4) -> Timeline:
    for step in range(steps):
        write_step(folder, step, [wide([ours(0, GOLD, GOLD)] * width, GOLD)])
    return build_timeline(read(folder, folder.name))


def costing(folder: Path, tokens: Sequence[int]) -> Timeline:
    """A run of one rollout a step, each of so many tokens."""
    for step, each in enumerate(tokens):
        write_step(folder, step, [ours(0, GOLD, GOLD, completion_tokens=each - 100)])
    return build_timeline(read(folder, folder.name))


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


def test_each_run_at_its_step_nearest_to_the_tokens_that_all_hold(tmp_path: Path) -> None:
    """12 tokens more than the budget cost no step; more than a twentieth of it do."""
    base = costing(tmp_path / "base", [1000] * 4)
    assert places("tokens", base, costing(tmp_path / "a", [1000, 3012, 500])) == (4000, [3, 1])
    assert places("tokens", base, costing(tmp_path / "b", [1000, 3201, 500])) == (4000, [3, 0])
    assert places("tokens", base, costing(tmp_path / "c", [3990, 110, 500])) == (4000, [3, 0])
    assert places("tokens", base, costing(tmp_path / "d", [4150, 1000])) == (4000, [3, 0])
    assert places("tokens", base, costing(tmp_path / "e", [4250, 1000])) is None


def test_there_may_be_no_such_budget(tmp_path: Path) -> None:
    few, other = chains(tmp_path / "few", 2), population(tmp_path / "wide", 1)
    unmeasured = chains(tmp_path / "published", 2, record=published)
    assert places("rollouts", few, other) is None  # four at once, of two
    assert places("tokens", few, unmeasured) is None
    assert places("rollouts", few, unmeasured) == (2, [1, 1])


def test_chains_that_have_all_stopped_hold_any_budget(tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    for step in range(4):
        repeats = {"repeats_step": 1} if step > 1 else {}
        write_step(folder, step, [ours(0, GOLD, GOLD, **repeats)])
    early = build_timeline(read(folder, "stopped"))
    assert places("rollouts", early, chains(tmp_path / "base", 4)) == (4, [3, 3])
