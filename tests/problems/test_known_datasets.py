"""How data sets are read: the table of known ones, and what the flags say.

Rows are our own problems in the columns of the known sets.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kflow.answers import Choice, Expression, Integer
from kflow.answers.choice import order
from kflow.problems.known_datasets import (
    KNOWN,
    Dataset,
    Reading,
    describe,
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


def test_the_table_is_whole() -> None:
    assert len(KNOWN) == 10
    assert all(KNOWN[name].name == name for name in KNOWN)


def test_integers_are_read_as_published() -> None:
    reading = read(INTEGERS, "yentinglin/aime_2025")
    assert reading.answers == Integer()
    assert [p.id for p in reading.problems] == [str(n) for n in range(30)]
    assert [(p.gold, p.answer) for p in reading.problems][:2] == [(1, 1), (2, 2)]
    assert reading.choice_order == {}


def test_expressions_by_name() -> None:
    reading = read(EXPRESSIONS, "MathArena/hmmt_feb_2025")
    assert reading.answers == Expression()
    first = reading.problems[0]
    assert (first.id, first.gold, first.answer) == ("1", r"\frac{5}{8}", r"\frac{5}{8}")
    assert first.question == EXPRESSIONS[0]["problem"]


def test_ids_of_math_500() -> None:
    rows = [
        {"problem": "Q", "solution": "S", "answer": "x", "subject": "Algebra", "level": 1}
        | {"unique_id": f"test/algebra/{n}.json"}
        for n in range(500)
    ]
    reading = read(rows, "HuggingFaceH4/MATH-500")
    assert reading.problems[7].id == "test/algebra/7.json"


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
    ("gold", "kind", "reason"),
    [
        ("1/2", "integer", "not an integer"),
        (r"\frac{1}{2}", None, "not an integer"),
        ("", "expression", "empty"),
        (None, "expression", "neither text nor a number"),
        ("5", "choice", "not a letter from A to D"),
    ],
)
def test_a_type_that_does_not_fit_is_refused_by_row(
    gold: object, kind: str | None, reason: str
) -> None:
    rows = [{"problem": "Q", "answer": "C" if kind == "choice" else 1}]
    rows.append({"problem": "Q", "answer": gold})
    text = f"Row 1 of set.jsonl has the answer {str(gold)!r}, which is {reason}: correct it, leave "
    assert complaint(rows, answer_type=kind).startswith(f"{text}the row out or give ")


@pytest.mark.parametrize(
    ("gold", "kind", "flag"),
    [
        ("5/6", None, "--answer_type expression"),
        ("x+1", "integer", "--answer_type expression"),
        ("C", None, "--answer_type choice"),
        (None, None, "another --answer_type"),
        ("", "expression", "another --answer_type"),
    ],
)
def test_the_type_that_would_take_an_answer_is_named(
    gold: object, kind: str | None, flag: str
) -> None:
    rows = [{"problem": "Q", "answer": 1}, {"problem": "Q", "answer": gold}]
    assert complaint(rows, answer_type=kind).endswith(f"leave the row out or give {flag}.")


@pytest.mark.parametrize(
    ("names", "column"),
    [
        (["problem"], "problem"),
        (["question"], "question"),
        (["problem", "question"], "problem"),
        (["question", "problem"], "problem"),
    ],
)
def test_a_question_may_be_called_so(names: list[str], column: str) -> None:
    rows = [{name: f"The {name}?" for name in names} | {"answer": n} for n in (1, 2)]
    (first, _) = read_problems(rows, describe("set.jsonl")).problems
    assert first.question == f"The {column}?"


def test_what_rows_lack_is_named() -> None:
    assert complaint([{"task": "Q", "answer": 1}]) == (
        "Row 0 of set.jsonl has no column 'problem', only 'task', 'answer': name its columns "
        "with --problem_column and --answer_column."
    )
    assert complaint([{"problem": " ", "answer": 1}]) == (
        "Row 0 of set.jsonl has no text in 'problem': add the question."
    )
    assert complaint([*CHOICES, CHOICES[0] | {"Incorrect Answer 2": ""}]) == (
        "Row 10 of set.jsonl has no text in 'Incorrect Answer 2': add the wrong answer."
    )
    assert complaint([{"q": "Q", "answer": 1}], problem_column="x").startswith(
        "Row 0 of set.jsonl has no column 'x'"
    )


def test_a_known_set_of_another_size_is_refused() -> None:
    assert complaint(EXPRESSIONS[:29], "MathArena/hmmt_feb_2025") == (
        "MathArena/hmmt_feb_2025, split train, has 29 rows instead of 30: clear its hub cache, or "
        "give --dataset a local file."
    )
    assert complaint([]).startswith("The data set set.jsonl is empty")


def test_gold_values_stay_as_json_has_them() -> None:
    golds = [Decimal(4), Decimal("0.5"), 0.25, r"\frac{1}{3}", "\ud83d"]
    rows = [{"problem": "Q", "answer": gold} for gold in golds]
    problems = read(rows, answer_type="expression").problems
    assert [p.gold for p in problems] == [4, "0.5", 0.25, r"\frac{1}{3}", "?"]
    assert [p.answer for p in problems] == ["4", "0.5", "0.25", r"\frac{1}{3}", "?"]


def test_what_to_do_about_a_gate() -> None:
    message = unavailable(describe("Idavidrein/gpqa@main"), OSError("403 Forbidden\nmore"))
    assert message == (
        "Cannot load the data set Idavidrein/gpqa@main, split train: accept its terms on "
        "https://huggingface.co/datasets/Idavidrein/gpqa and set HF_TOKEN to a token of that "
        "account, or give --dataset a local copy. (403 Forbidden)"
    )
    assert unavailable(describe("some/set"), OSError("no route")) == (
        "Cannot load the data set some/set, split train: check the name and the network, or give "
        "--dataset a local file. (no route)"
    )
