"""How data sets are read: which columns, split and answer type (docs/method.md, "Data sets by
name").

The table holds no rows: licences, and contamination of models that are trained on what is public.
Revisions are pinned where one is known; `--dataset NAME@REVISION` pins any.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from importlib import import_module
from string import ascii_uppercase

from kflow.answers import AnswerType, Choice, Expression, Integer, by_name
from kflow.ground import hub
from kflow.ground.terminal import shortened
from kflow.types import Problem, UserError

Row = Mapping[str, object]


@dataclass(frozen=True)
class Columns:
    """problem: where no row has this one, `question` will do. id: its values name the problems
    where they tell all of them apart; else the rows' numbers do, from 0. wrong: the other choices,
    where `answer` is the right one and not its letter."""

    problem: str = "problem"
    answer: str = "answer"
    id: str = "id"
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """How a data set is read. name: a hub name, a file, or `quickstart`. rows: how many it must
    have, None where that is not known. gated: its terms are accepted on the hub first."""

    name: str
    answers: AnswerType = field(default_factory=Integer)
    split: str = "train"
    rows: int | None = None
    columns: Columns = field(default_factory=Columns)
    config: str | None = None
    revision: str | None = None
    gated: bool = False


@dataclass(frozen=True)
class Reading:
    """A data set's problems. choice_order: problem id -> the places (from 0, the right one first)
    of its choices in the order in which they are shown."""

    problems: tuple[Problem, ...]
    answers: AnswerType
    choice_order: dict[str, tuple[int, ...]] = field(default_factory=dict)


MATH_ARENA = Columns(id="problem_idx")
GPQA = Columns(
    "Question", "Correct Answer", "Record ID", tuple(f"Incorrect Answer {n}" for n in (1, 2, 3))
)
KNOWN = {
    known.name: known
    for known in (
        Dataset("yentinglin/aime_2025", rows=30),
        Dataset("HuggingFaceH4/aime_2024", rows=30),
        Dataset("MathArena/aime_2026", rows=30, columns=MATH_ARENA),
        Dataset("ByteDance-Seed/BeyondAIME", split="test"),
        *(
            Dataset(f"MathArena/{name}", Expression(), rows=rows, columns=MATH_ARENA)
            for name, rows in (
                ("hmmt_feb_2025", 30),
                ("hmmt_nov_2025", 30),
                ("hmmt_feb_2026", 33),
                ("brumo_2025", 30),
            )
        ),
        Dataset(
            "HuggingFaceH4/MATH-500",
            Expression(),
            split="test",
            rows=500,
            columns=Columns(id="unique_id"),
        ),
        Dataset(
            "Idavidrein/gpqa", Choice(), rows=198, columns=GPQA, config="gpqa_diamond", gated=True
        ),
    )
}


def describe(
    dataset: str,
    split: str | None = None,
    config: str | None = None,
    problem_column: str | None = None,
    answer_column: str | None = None,
    answer_type: str | None = None,
) -> Dataset:
    """How `--dataset` is read: what the user says, else the table, else as the published sets.

    dataset: a hub name (NAME or NAME@REVISION), a local file, or `quickstart`. None stands for what
    the user leaves open. Raises UserError.
    """
    if os.path.exists(dataset):
        known, revision = Dataset(dataset), ""
        if config:
            raise UserError(f"{dataset} is local and has no configurations: drop --dataset_config.")
    else:
        name, _, revision = dataset.partition("@")
        known = KNOWN.get(name, Dataset(name))
    part = (split or known.split, config or known.config)
    columns = known.columns
    if answer_column or (answer_type and not answer_type.startswith("choice")):
        columns = replace(columns, wrong=())
    return replace(
        known,
        name=dataset,
        answers=named(answer_type) if answer_type else known.answers,
        split=part[0],
        rows=None if revision or part != (known.split, known.config) else known.rows,
        columns=replace(
            columns,
            problem=problem_column or columns.problem,
            answer=answer_column or columns.answer,
        ),
        config=part[1],
        revision=revision or known.revision,
    )


def named(answer_type: str) -> AnswerType:
    """The type that `--answer_type` names, of whatever module. Raises UserError."""
    try:
        if ":" in answer_type:
            import_module(answer_type.partition(":")[0])
        return by_name(answer_type)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"Cannot use --answer_type {answer_type} ({error}): give integer, expression, choice, "
            "or package.module:Type."
        ) from error


def read_problems(rows: Sequence[Row], dataset: Dataset) -> Reading:
    """All rows as problems. Raises UserError, which names the row, for what does not fit."""
    if not rows:
        raise UserError(f"The data set {dataset.name} is empty: give --dataset one with problems.")
    if dataset.rows is not None and len(rows) != dataset.rows:
        raise UserError(
            f"{dataset.name}, split {dataset.split}, has {len(rows)} rows instead of "
            f"{dataset.rows}: clear its hub cache, or give --dataset a local file."
        )
    columns, answers = dataset.columns, dataset.answers
    plain = columns == Columns() and answers in (Integer(), Choice())  # no other type was asked for
    if plain and {GPQA.problem, GPQA.answer, *GPQA.wrong} <= set(rows[0]):
        columns, answers = GPQA, Choice()  # a copy of it
    unnamed = columns.problem == Columns.problem and not any(columns.problem in r for r in rows)
    if unnamed and "question" in rows[0]:
        columns = replace(columns, problem="question")
    if columns.wrong:
        answers = Choice(len(columns.wrong) + 1)
    else:
        answers = answers.fitted(row.get(columns.answer) for row in rows)
    ids = [encodable(str(row[columns.id])) for row in rows if row.get(columns.id) is not None]
    if len(set(ids)) < len(rows):
        ids = [str(number) for number in range(len(rows))]
    shown = {id: order(id, len(columns.wrong) + 1) for id in ids if columns.wrong}
    problems = tuple(
        read_problem(f"Row {number} of {dataset.name}", row, columns, answers, id, shown.get(id))
        for number, (id, row) in enumerate(zip(ids, rows, strict=True))
    )
    return Reading(problems, answers, shown)


def read_problem(
    where: str,
    row: Row,
    columns: Columns,
    answers: AnswerType,
    id: str,
    shown: tuple[int, ...] | None,
) -> Problem:
    """where: the row, in complaints; counted from 0, as the problems' ids are. shown: the order of
    its choices, where they are in columns of their own."""

    def text(column: str, what: str) -> str:
        found = row[column]
        if not isinstance(found, str) or not found.strip():
            raise UserError(f"{where} has no text in {column!r}: add the {what}.")
        return encodable(found)

    for column in (columns.problem, columns.answer, *columns.wrong):
        if column not in row:
            raise UserError(
                f"{where} has no column {column!r}, only {', '.join(map(shortened, row))}: name "
                "its columns with --problem_column and --answer_column."
            )
    question, raw = text(columns.problem, "question"), row[columns.answer]
    if shown:
        texts = [text(columns.answer, "right answer")]
        texts += [text(column, "wrong answer") for column in columns.wrong]
        question = lettered(question, [texts[place].strip() for place in shown])
        raw = Choice(len(texts)).letters[shown.index(0)]
    try:
        answer = answers.gold(encodable(raw) if isinstance(raw, str) else raw)
    except ValueError as error:
        raise UserError(
            f"{where} has the answer {str(raw)[:80]!r}, which is {error}: correct it, leave the "
            f"row out or give {other_type(answers, raw)}."
        ) from error
    return Problem(id, question, as_stored(raw), answer)


def other_type(answers: AnswerType, raw: object) -> str:
    """The flag for an answer that this type does not take."""
    if not isinstance(answers, Integer) or not isinstance(raw, str):
        return "another --answer_type"
    letter = len(raw.strip()) == 1 and raw.strip().isalpha()
    return f"--answer_type {Choice().name if letter else Expression().name}"


def as_stored(raw: object) -> object:
    """The data set's own value, as far as JSON has it."""
    if isinstance(raw, Decimal):
        return int(raw) if raw == raw.to_integral_value() else str(raw)
    return encodable(raw) if isinstance(raw, str) else raw


def encodable(text: str) -> str:
    """The text with a question mark for each lone surrogate, which no file could hold."""
    return text.encode("utf-8", "replace").decode()


def unavailable(dataset: Dataset, error: Exception) -> str:
    """What to do about a hub data set that cannot be loaded."""
    remedy = "check the name and the network, or give --dataset a local file"
    if dataset.gated:
        name = dataset.name.partition("@")[0]
        remedy = (
            f"accept its terms on https://huggingface.co/datasets/{name} and set HF_TOKEN to a "
            "token of that account, or give --dataset a local copy"
        )
    return (
        f"Cannot load the data set {dataset.name}, split {dataset.split}: {remedy}. "
        f"({hub.reason(error)})"
    )


def order(id: str, count: int) -> tuple[int, ...]:
    """The order in which a problem's choices are shown, the same wherever it is asked."""

    def draw(index: int) -> bytes:
        return hashlib.sha256(f"{id}\0{index}".encode()).digest()

    return tuple(sorted(range(count), key=draw))


def lettered(question: str, choices: Sequence[str]) -> str:
    """The question, then a line for each choice."""
    lines = (f"({letter}) {text}" for letter, text in zip(ascii_uppercase, choices, strict=False))
    return "\n".join([question.rstrip(), "", *lines])
