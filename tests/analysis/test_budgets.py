"""What the page opens on: runs at the largest budgets that all of them hold, in numbers and in
words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.pages import Page, write_page
from helpers.results_on_disk import ours, published, wide, write_run, write_step
from kflow.analysis.page.budgets import Equal, compare_at_budgets, find_move
from kflow.analysis.page.page import describe_size, points
from kflow.analysis.run_statistics import Timeline, build_timeline
from kflow.results.runs import read

GOLDS = list(range(1, 13))
WRONG = [0] * 12


def answers(right: int) -> list[int | None]:
    """Of twelve problems, the first so many are right."""
    return [*GOLDS[:right], *WRONG[right:]]


def chains(folder: Path, rights: Sequence[int], **more: Any) -> Timeline:
    """A run of one rollout a step, 1,100 tokens each."""
    return build_timeline(
        read(write_run(folder, [answers(n) for n in rights], GOLDS, **more), folder.name)
    )


def population(folder: Path, rights: Sequence[int], width: int = 4) -> Timeline:
    """A run of `width` rollouts a step that agree."""
    for step, right in enumerate(rights):
        rows = [
            wide([ours(p, gold, answer) for _ in range(width)], answer)
            for p, (gold, answer) in enumerate(zip(GOLDS, answers(right), strict=True))
        ]
        write_step(folder, step, rows)
    return build_timeline(read(folder, folder.name))


def at_equal(timelines: Sequence[Timeline], unit: str) -> Equal | None:
    """The comparison at one of the budgets, None where there is none."""
    return next((e for e in compare_at_budgets(timelines) if e.unit == unit), None)


def places(equal: Equal | None) -> tuple[int | None, list[tuple[int, int]]]:
    """The budget, and the steps of baseline and run."""
    assert equal is not None
    return equal.size, [(each.baseline_at.step, each.at.step) for each in equal.compared]


def test_each_run_at_its_last_step_within_what_all_hold(tmp_path: Path) -> None:
    base = chains(tmp_path / "base", [2] * 10)
    short = chains(tmp_path / "short", [2] * 6)
    other = population(tmp_path / "wide", [9, 9])
    assert places(at_equal([base, short], "rollouts")) == (6, [(5, 5)])
    assert places(at_equal([base, other], "rollouts")) == (8, [(7, 1)])
    assert places(at_equal([base, short, other], "rollouts")) == (6, [(5, 5), (5, 0)])
    assert places(at_equal([short, other], "tokens")) == (6600, [(5, 0)])


def test_there_may_be_no_such_budget(tmp_path: Path) -> None:
    few = chains(tmp_path / "few", [2, 2])
    other = population(tmp_path / "wide", [9])
    unmeasured = chains(tmp_path / "published", [2, 2], record=published)
    assert at_equal([few], "rollouts") is None
    assert at_equal([few, other], "rollouts") is None  # four at once, of two
    assert at_equal([few, unmeasured], "tokens") is None
    assert places(at_equal([few, unmeasured], "rollouts")) == (2, [(1, 1)])


def test_chains_that_have_all_stopped_hold_any_budget(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    for step in range(4):
        repeats = {"repeats_step": 1} if step > 1 else {}
        rows = [ours(p, gold, gold, **repeats) for p, gold in enumerate(GOLDS)]
        write_step(stopped, step, rows)
    early = build_timeline(read(stopped, "stopped"))
    assert places(at_equal([early, chains(tmp_path / "base", [2] * 4)], "rollouts")) == (
        4,
        [(3, 3)],
    )


def test_what_differs_and_what_could_have_been_seen(tmp_path: Path) -> None:
    base, better, alike = (
        chains(tmp_path / name, [right]) for name, right in (("base", 1), ("b", 12), ("c", 2))
    )
    equal = at_equal([base, alike, better], "rollouts")
    assert equal is not None
    assert [each.run for each in equal.differing] == ["b"]
    assert equal.furthest.run == "b"
    assert equal.detectable == [pytest.approx(0.6, abs=0.1)] * 2


def test_how_a_run_find_move(tmp_path: Path) -> None:
    change = find_move(chains(tmp_path / "run", [3, 1, 9]))
    assert change is not None
    assert (change.first, change.last) == (0, 2)
    assert (change.change.baseline, change.change.run) == (0.25, 0.75)
    assert find_move(chains(tmp_path / "one", [3])) is None


def headline(page: Page) -> str:
    text = page.text.partition("Accuracy\n")[2].partition("Hover over")[0]
    return re.sub(r"\s+", " ", text.replace("\N{NO-BREAK SPACE}", " "))


def test_the_headline_of_one_run(tmp_path: Path) -> None:
    chains(tmp_path / "run", [3, 1, 9])
    text = headline(write_page(tmp_path / "run", at=tmp_path / "r.html"))
    assert "from 25.0 % at step 0 to 75.0 % at step 2: a difference of +50.0 points" in text
    assert "95 % interval +" in text
    assert "would be detected four times in five" in text
    chains(tmp_path / "one", [3])
    text = headline(write_page(tmp_path / "one", at=tmp_path / "r.html"))
    assert "At step 0, 25.0 % of the answers are right, 95 % interval 8.9 % to 53.2 %." in text


def test_the_headline_of_a_comparison(tmp_path: Path) -> None:
    for name, right in (("a", 1), ("b", 12), ("c", 2)):
        chains(tmp_path / name, [right])
    two = write_page(tmp_path / "a", tmp_path / "b", at=tmp_path / "r.html")
    text = headline(two)
    assert "At 1 rollouts per problem" not in text
    assert "At 1 rollout per problem, b answers 100.0 % right and the baseline, a, 8.3 %" in text
    assert "a difference of +91.7 points" in text
    assert two.text.count("At equal") == 2
    three = write_page(*(tmp_path / name for name in "abc"), at=tmp_path / "r.html")
    assert "1 of 2 runs differs from the baseline, a," in headline(three)
    assert "The furthest from it is b: +91.7 points" in headline(three)
    alike = write_page(*(tmp_path / name for name in "ac"), at=tmp_path / "r.html")
    assert "Too few to tell: the two differ on 1 of 12 problems" in headline(alike)


def links(page: Page) -> list[str]:
    """Those that open two runs side by side."""
    every = [attributes.get("href") or "" for tag, attributes in page.tags if tag == "a"]
    return [link for link in every if "with=" in link]


def test_links_to_what_differs(tmp_path: Path) -> None:
    for name, right in (("a", 1), ("b", 3)):
        chains(tmp_path / name, [right])
    page = write_page(tmp_path / "a", tmp_path / "b", at=tmp_path / "r.html")
    assert links(page) == [f"#run=b&problem=aime-{n}&step=0&with=a" for n in (1, 2)]


def test_a_published_folder_is_linked_by_its_own_names(tmp_path: Path) -> None:
    chains(tmp_path / "a", [1])
    chains(tmp_path / "b", [2], record=published)
    for first, second, problem in (("a", "b", "1"), ("b", "a", "aime-1")):
        page = write_page(tmp_path / first, tmp_path / second, at=tmp_path / "r.html")
        assert links(page) == [f"#run={second}&problem={problem}&step=0&with={first}"]


def test_runs_of_other_problems_are_not_compared(tmp_path: Path) -> None:
    chains(tmp_path / "a", [1])
    write_run(tmp_path / "b", [[5]], [5])
    page = write_page(tmp_path / "a", tmp_path / "b", at=tmp_path / "r.html")
    assert "These runs are not compared" in headline(page)
    assert "At equal" not in page.text


def test_problems_in_another_order_are_paired_by_their_ids(tmp_path: Path) -> None:
    chains(tmp_path / "a", [3])
    rows = [ours(p, gold, gold if p == 11 else 0) for p, gold in enumerate(GOLDS)]
    write_step(tmp_path / "b", 0, rows[::-1])
    page = write_page(tmp_path / "a", tmp_path / "b", at=tmp_path / "r.html")
    assert [link.split("&")[1] for link in links(page)] == [
        f"problem=aime-{n}" for n in (11, 0, 1, 2)
    ]


def test_how_far_a_run_is(tmp_path: Path) -> None:
    chains(tmp_path / "run", [1, 2], settings={"reflex_size": 16})
    assert describe_size(read(tmp_path / "run", "run")) == "2 of 16 steps"
    folder = tmp_path / "seeds"
    for seed in range(2):
        write_run(folder / f"seed_{seed}", [answers(1)], GOLDS)
    assert describe_size(read(folder, "seeds")) == "1 step, 2 seeds"


def test_points() -> None:
    assert [points(n) for n in (0.0333, -0.1, 0, -0.0001)] == ["+3.3", "−10.0", "0.0", "0.0"]
