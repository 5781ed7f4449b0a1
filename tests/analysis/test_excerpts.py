"""The parts of the page: excerpts of texts, changes of a list, points of a curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.pages import (
    write_page,
)
from helpers.results_on_disk import ours, wide, write_step
from kflow.analysis.page.curve import curves
from kflow.analysis.page.excerpts import cut, find_changes
from kflow.analysis.run_statistics import build_timeline, describe
from kflow.method import StepNote
from kflow.results.runs import read
from kflow.types import Entry


def test_cuts() -> None:
    assert cut("abcdefg", 7) == "abcdefg"
    assert cut("abcdefg", 3) == ["a", 4, "fg"]
    assert cut("abc", 0) == ["", 3, ""]


ONE, TWO, SIX = Entry("one", 3), Entry("two"), Entry("six", 3)


@pytest.mark.parametrize(
    ("before", "now", "rewritten", "expected"),
    [
        ((), (ONE,), False, ((ONE,), (), ())),
        ((ONE, TWO), (TWO,), False, ((), (ONE,), ())),
        ((ONE, TWO), (SIX, TWO), False, ((), (), ((ONE, SIX),))),  # filed under the same answer
        ((ONE,), (SIX, ONE), False, ((SIX,), (), ())),
        ((TWO,), (Entry("new"),), False, ((Entry("new"),), (TWO,), ())),
        ((TWO,), (Entry("new"),), True, ((), (), ((TWO, Entry("new")),))),
        ((TWO,), (Entry("a"), Entry("b")), True, ((Entry("a"), Entry("b")), (TWO,), ())),
        ((Entry("one", 4),), (ONE,), False, ((ONE,), (Entry("one", 4),), ())),
    ],
)
def test_changes_of_a_list(before: Any, now: Any, rewritten: bool, expected: Any) -> None:
    assert find_changes(before, now, rewritten) == expected


def test_a_step_without_a_list_does_not_empty_it(tmp_path: Path) -> None:
    """As between the solving steps of a method that has others too; a list that became empty is
    another thing."""
    lists = [(ONE, TWO), (), (TWO, ONE), ()]
    notes = [StepNote(), StepNote(), StepNote(dropped=(ONE, TWO)), StepNote()]
    for step, (shown, note) in enumerate(zip(lists, notes, strict=True)):
        write_step(tmp_path, step, [ours(0, 1, 1, knowledge=shown, note=note)])
    chain = write_page(tmp_path, at=tmp_path / "r.html").chain(0, 0, 0)
    assert [line["added"] for line in chain] == [["one", "two"], [], [], []]
    assert [line["dropped"] for line in chain] == [[], [], [], ["two", "one"]]


def test_the_points_of_a_curve(tmp_path: Path) -> None:
    for step, answers in enumerate([[1, 5], [1, 2], [4, 2]]):
        records = [ours(n, n + 1, answer) for n, answer in enumerate(answers)]
        write_step(tmp_path, step, records)
    (curve,) = curves([describe(build_timeline(read(tmp_path, "run")))])
    numbers = curve.numbers()
    assert numbers["axes"] == {
        "step": [0, 1, 2],
        "rollouts": [1, 2, 3],
        "total": [1100, 2200, 3300],
        "sequential": [1100, 2200, 3300],
    }
    own: Any = numbers["own"]
    majority: Any = numbers["majority"]
    assert [point["share"] for point in own] == [0.5, 1, 0.5]
    assert [point["share"] for point in majority] == [0.5, 0.75, 1]
    assert curve.at(0).startswith("1/2, 50 % (9–91 %)")
    assert curve.at(2).startswith("1/2, 50 % (9–91 %); majority 2/2, 100 %")
    assert curve.at(1).endswith("majority 1.5/2, 75 % (20–97 %)")
    assert curve.at(3) == "–"


def test_a_curve_begins_where_an_answer_is_asked_for(tmp_path: Path) -> None:
    write_step(tmp_path, 0, [ours(0, 1, None, asks_answer=False)])
    write_step(tmp_path, 1, [wide([ours(0, 1, n) for n in (1, 1, 2)], 1)])
    (curve,) = curves([describe(build_timeline(read(tmp_path, "run")))])
    assert [bool(curve.numbers()[name][0]) for name in ("own", "majority")] == [False, False]  # type: ignore[index]
    assert curve.at(1).startswith("1/1, 100 %")
