"""Data sets of problems: a hub name, a local file, or the bundled set.

What was loaded is identified in run.json by the revision the hub served and by a hash of ids,
questions and answers.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from . import hub
from .answers import AnswerType, Integer
from .files import read_regular
from .terminal import first_line, shortened
from .types import Problem, UserError

BUNDLED = Path(__file__).with_name("data") / "quickstart.jsonl"
LOCAL = (".json", ".jsonl", ".csv", ".parquet")
LARGEST = 1 << 30  # bytes, of a local file
Row = Mapping[str, object]


@dataclass(frozen=True)
class DataSet:
    """How a data set's rows are read. rows: how many its published split has, None: any number."""

    answers: AnswerType
    question: str = "problem"
    gold: str = "answer"
    rows: int | None = None


UNKNOWN = DataSet(Integer())
KNOWN = {
    ("yentinglin/aime_2025", "train"): DataSet(Integer(), rows=30),
    ("HuggingFaceH4/aime_2024", "train"): DataSet(Integer(), rows=30),
}


@dataclass(frozen=True)
class Source:
    """Where problems were read from; split, revision and files: of a hub data set."""

    dataset: str
    split: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProblemSet:
    """problems in data-set order, and what their answers are."""

    problems: list[Problem]
    answers: AnswerType
    source: Source

    @property
    def hash(self) -> str:
        """The same for the same ids, questions and answers, wherever they were read from."""
        rows = [[p.id, p.question, p.answer] for p in self.problems]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def load(dataset: str, split: str, limit: int | None = None) -> ProblemSet:
    """The first `limit` problems of a data set. Raises UserError for whatever it lacks."""
    rows, source = read(dataset, split)
    known = KNOWN.get((dataset.partition("@")[0], split), UNKNOWN)
    if known.rows is not None and len(rows) != known.rows:
        raise UserError(
            f"{dataset}, split {split}, has {len(rows)} rows instead of {known.rows}: clear its "
            "hub cache, or give --dataset a local file."
        )
    if not rows:
        raise UserError(f"The data set {dataset} is empty: give --dataset one with problems.")
    problems = [
        problem(row, number, id, dataset, known)
        for number, (row, id) in enumerate(zip(rows, ids(rows), strict=True))
    ]
    return ProblemSet(problems[:limit], known.answers, source)


def ids(rows: Sequence[Row]) -> list[str]:
    """The data's own ids where they tell its rows apart, else the rows' numbers."""
    own = [encodable(str(row["id"])) for row in rows if row.get("id") is not None]
    return own if len(set(own)) == len(rows) else [str(number) for number in range(len(rows))]


def problem(row: Row, number: int, id: str, dataset: str, known: DataSet) -> Problem:
    """One row, checked. Rows are counted from 0, as their ids are where the data has none."""
    for column in (known.question, known.gold):
        if column not in row:
            raise UserError(
                f"Row {number} of {dataset} has no column {column!r}: it needs {known.question!r} "
                f"and {known.gold!r}, and has {', '.join(map(shortened, row))}."
            )
    question, gold = row[known.question], row[known.gold]
    if not isinstance(question, str) or not question.strip():
        raise UserError(
            f"Row {number} of {dataset} has no text in {known.question!r}: add the question."
        )
    try:
        answer = known.answers.gold(gold)
    except ValueError as error:
        raise UserError(
            f"Row {number} of {dataset} has the answer {str(gold)[:80]!r}, which is {error}: "
            "correct it or leave the row out."
        ) from error
    return Problem(id, encodable(question), recorded(gold), answer)


def recorded(gold: object) -> object:
    """A gold value as JSON can hold it."""
    if isinstance(gold, str):
        return encodable(gold)
    return int(gold) if isinstance(gold, Decimal) else gold


def encodable(text: str) -> str:
    """The text with a question mark for each lone surrogate, which no file could hold."""
    return text.encode("utf-8", "replace").decode()


def read(dataset: str, split: str) -> tuple[list[Row], Source]:
    """All rows of a data set, unchecked, and where they came from."""
    if dataset == "quickstart":
        return read_file(BUNDLED), Source("quickstart")
    path = Path(dataset)
    if path.suffix in LOCAL or os.path.exists(path):
        return read_file(path), Source(dataset)
    return read_hub(dataset, split)


def read_file(path: Path) -> list[Row]:
    if not os.path.exists(path):
        raise UserError(f"There is no file {path}: correct --dataset.")
    if path.suffix not in LOCAL:
        raise UserError(f"{path} is none of {', '.join(LOCAL)}: convert it to one of these.")
    try:
        rows = rows_in(read_regular(path, LARGEST), path.suffix)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Cannot read --dataset {path}: {reason}.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} is not a list of objects: give one object for each problem.")
    return rows


def rows_in(content: bytes, suffix: str) -> object:
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        return pyarrow.parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    text = content.decode("utf-8-sig")
    if suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text, newline="")))
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    return json.loads(text)


def read_hub(dataset: str, split: str) -> tuple[list[Row], Source]:
    """`name` or `name@revision` from the Hugging Face hub."""
    name, _, revision = dataset.partition("@")
    hub.prepare()
    import datasets

    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(name, split=split, revision=revision or None)
    except Exception as error:  # the library raises many types for a network or a name
        raise UserError(
            f"Cannot load the data set {dataset}, split {split}: check the name and the network, "
            f"or give --dataset a local file. ({first_line(error)})"
        ) from error
    files = tuple(sorted(loaded.info.download_checksums or {}))
    return loaded.to_list(), Source(name, split, revision or None, files)
