"""How data sets are read: the table of known ones, and what the flags say.

Rows are our own problems in the columns of the known sets.
"""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kflow.answers import Choice, Expression, Integer
from kflow.problems.known_datasets import (
    KNOWN,
    Dataset,
    Reading,
    describe,
    lettered,
    order,
    read_problems,
    unavailable,
)
from kflow.types import UserError

DATA = Path(__file__).parents[1] / "data"
Rows = list[dict[str, Any]]


def stored(name: str) -> Rows:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


EXPRESSIONS, CHOICES = stored("expressions.jsonl"), stored("choices.jsonl")
INTEGERS: Rows = [{"problem": f"What is {n} + 1?", "answer": n + 1} for n in range(30)]


def read(rows: Rows, dataset: str = "set.jsonl", **flags: Any) -> Reading:
    return read_problems(rows, describe(dataset, **flags))


def complaint(rows: Rows, dataset: str = "set.jsonl", **flags: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(rows, dataset, **flags)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "split", "rows", "config", "gated"),
    [
        ("yentinglin/aime_2025", Integer(), "train", 30, None, False),
        ("HuggingFaceH4/aime_2024", Integer(), "train", 30, None, False),
        ("MathArena/aime_2026", Integer(), "train", 30, None, False),
        ("ByteDance-Seed/BeyondAIME", Integer(), "test", None, None, False),
        ("MathArena/hmmt_feb_2025", Expression(), "train", 30, None, False),
        ("MathArena/hmmt_nov_2025", Expression(), "train", 30, None, False),
        ("MathArena/hmmt_feb_2026", Expression(), "train", 33, None, False),
        ("MathArena/brumo_2025", Expression(), "train", 30, None, False),
        ("HuggingFaceH4/MATH-500", Expression(), "test", 500, None, False),
        ("Idavidrein/gpqa", Choice(), "train", 198, "gpqa_diamond", True),
    ],
)
def test_the_table(
    name: str, kind: object, split: str, rows: int | None, config: str | None, gated: bool
) -> None:
    dataset = describe(name)
    assert (dataset.answers, dataset.split, dataset.rows) == (kind, split, rows)
    assert (dataset.config, dataset.gated, dataset.revision) == (config, gated, None)
    assert len(KNOWN) == 10


def test_ids_gold_values_and_answers_by_name() -> None:
    aime = read(INTEGERS, "yentinglin/aime_2025")
    assert (aime.answers, aime.choice_order) == (Integer(), {})
    first, second, *_ = aime.problems
    assert [(p.id, p.gold, p.answer) for p in (first, second)] == [("0", 1, 1), ("1", 2, 2)]
    hmmt = read(EXPRESSIONS, "MathArena/hmmt_feb_2025")
    first = hmmt.problems[0]
    assert hmmt.answers == Expression()
    assert (first.id, first.gold, first.answer) == ("1", r"\frac{5}{8}", r"\frac{5}{8}")
    assert first.question == EXPRESSIONS[0]["problem"]
    rows = [
        {"problem": "Q", "answer": "x", "level": 1, "unique_id": f"test/algebra/{n}.json"}
        for n in range(500)
    ]
    assert read(rows, "HuggingFaceH4/MATH-500").problems[7].id == "test/algebra/7.json"


@pytest.mark.parametrize("dataset", ["Idavidrein/gpqa", "copy.csv"])
def test_choices_are_shuffled_by_the_problems_id(dataset: str) -> None:
    flags = {"config": "gpqa_main"} if dataset in KNOWN else {}
    reading = read(CHOICES, dataset, **flags)
    assert reading.answers == Choice()
    assert list(reading.choice_order) == [str(n) for n in range(10)]
    for number, (problem, row) in enumerate(zip(reading.problems, CHOICES, strict=True)):
        shuffled = reading.choice_order[problem.id]
        assert shuffled == order(str(number), 4)
        texts = [row["Correct Answer"], *(row[f"Incorrect Answer {n}"] for n in (1, 2, 3))]
        lines = problem.question.splitlines()
        assert lines[:2] == [row["Question"], ""]
        assert lines[2:] == [
            f"({letter}) {texts[place]}" for letter, place in zip("ABCD", shuffled, strict=True)
        ]
        assert f"({problem.answer}) {row['Correct Answer']}" in lines
        assert problem.gold == problem.answer
    assert len({p.answer for p in reading.problems}) > 2


def test_choices_go_by_the_record_where_it_has_an_id() -> None:
    rows = [row | {"Record ID": f"rec{n}"} for n, row in enumerate(CHOICES)]
    reading = read(rows)
    assert reading.problems[0].id == "rec0"
    assert read(rows[::-1]).problems[::-1] == reading.problems


def test_letters_of_other_sets() -> None:
    rows = [{"problem": "Which?\n(A) one\n(B) two", "answer": letter} for letter in "ab"]
    reading = read(rows, answer_type="choice")
    assert ([p.answer for p in reading.problems], reading.answers) == (["A", "B"], Choice())
    assert reading.problems[0].question == rows[0]["problem"]
    assert read([*rows, {"problem": "Q", "answer": "G"}], answer_type="choice").answers == Choice(7)


def test_flags_name_columns_and_type() -> None:
    rows = [{"q": "How many?", "a": "1/2", "problem": "no", "answer": 5}]
    reading = read(rows, problem_column="q", answer_column="a", answer_type="expression")
    problem = reading.problems[0]
    assert (problem.question, problem.answer, reading.answers) == ("How many?", "1/2", Expression())


def test_flags_go_before_the_table() -> None:
    changed = describe("MathArena/hmmt_feb_2025", split="test", answer_type="integer")
    assert (changed.split, changed.answers, changed.rows) == ("test", Integer(), None)
    gpqa = describe("Idavidrein/gpqa", answer_column="Letter")
    assert (gpqa.columns.wrong, gpqa.columns.problem) == ((), "Question")
    assert describe("Idavidrein/gpqa", config="gpqa_main").rows is None
    assert describe("some/set", config="hard").config == "hard"


def test_a_revision_pins_the_data() -> None:
    pinned = describe("MathArena/hmmt_feb_2025@abc")
    assert (pinned.revision, pinned.answers, pinned.rows) == ("abc", Expression(), None)
    assert describe("some/set").revision is None


def test_a_file_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("MathArena").mkdir()
    Path("MathArena/hmmt_feb_2025").touch()
    Path("a@b.jsonl").touch()
    assert describe("MathArena/hmmt_feb_2025").answers == Integer()
    assert describe("a@b.jsonl") == Dataset("a@b.jsonl")
    with pytest.raises(UserError, match="drop --dataset_config"):
        describe("a@b.jsonl", config="hard")


@pytest.mark.parametrize(
    ("gold", "kind", "reason", "flag"),
    [
        (r"\frac{1}{2}", None, "not an integer", "--answer_type expression"),
        ("x+1", "integer", "not an integer", "--answer_type expression"),
        ("C", None, "not an integer", "--answer_type choice"),
        (None, None, "not an integer", "another --answer_type"),
        ("", "expression", "empty", "another --answer_type"),
        ("5", "choice", "not a letter from A to D", "another --answer_type"),
    ],
)
def test_an_answer_of_another_type_is_named_with_the_type_that_takes_it(
    gold: object, kind: str | None, reason: str, flag: str
) -> None:
    rows = [{"problem": "Q", "answer": "C" if kind == "choice" else 1}]
    sentence = complaint([*rows, {"problem": "Q", "answer": gold}], answer_type=kind)
    assert sentence.startswith(
        f"Row 1 of set.jsonl has the answer {str(gold)!r}, which is {reason}"
    )
    assert sentence.endswith(f"or give {flag}.")


@pytest.mark.parametrize(
    ("names", "column"),
    [(["problem"], "problem"), (["question"], "question"), (["question", "problem"], "problem")],
)
def test_a_question_may_be_called_so(names: list[str], column: str) -> None:
    rows = [{name: f"The {name}?" for name in names} | {"answer": n} for n in (1, 2)]
    assert read(rows).problems[0].question == f"The {column}?"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"task": "Q", "answer": 1}], "Row 0 of set.jsonl has no column 'problem', only 'task', "),
        ([{"problem": " ", "answer": 1}], "Row 0 of set.jsonl has no text in 'problem'"),
        ([{"problem": 5, "answer": 1}], "Row 0 of set.jsonl has no text in 'problem'"),
        (
            [*CHOICES, CHOICES[0] | {"Incorrect Answer 2": ""}],
            "Row 10 of set.jsonl has no text in 'Incorrect Answer 2'",
        ),
        ([], "set.jsonl is empty"),
    ],
)
def test_what_rows_lack_is_named(rows: Rows, words: str) -> None:
    assert words in complaint(rows)


def test_a_known_set_of_another_size_is_refused() -> None:
    words = complaint(EXPRESSIONS[:29], "MathArena/hmmt_feb_2025")
    assert "split train, has 29 rows instead of 30" in words


def test_gold_values_stay_as_json_has_them() -> None:
    golds = [Decimal(4), Decimal("0.5"), 0.25, r"\frac{1}{3}", "\ud83d"]
    rows = [{"problem": "Q", "answer": gold} for gold in golds]
    problems = read(rows, answer_type="expression").problems
    assert [p.gold for p in problems] == [4, "0.5", 0.25, r"\frac{1}{3}", "?"]
    assert [p.answer for p in problems] == ["4", "0.5", "0.25", r"\frac{1}{3}", "?"]


def test_what_to_do_about_a_gate() -> None:
    message = unavailable(describe("Idavidrein/gpqa@main"), OSError("403 Forbidden\nmore"))
    assert "https://huggingface.co/datasets/Idavidrein/gpqa and set HF_TOKEN" in message
    assert message.endswith("(403 Forbidden)")
    assert "check the name" in unavailable(describe("some/set"), OSError("no route"))


def test_the_order_of_choices_never_changes() -> None:
    assert [order(id, 4) for id in ("0", "1", "rec7")] == [(1, 0, 3, 2), (2, 3, 1, 0), (3, 0, 1, 2)]
    assert order("0", 10)[:3] == (8, 1, 4)
    assert lettered("Which?\n", ["one", "two"]) == "Which?\n\n(A) one\n(B) two"


def test_the_right_choice_stands_everywhere_equally_often() -> None:
    places = Counter(order(str(number), 4).index(0) for number in range(4000))
    assert all(900 < places[place] < 1100 for place in range(4))
    assert len({order(str(number), 4) for number in range(1000)}) == 24
