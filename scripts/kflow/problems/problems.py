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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kflow.answers import AnswerType
from kflow.ground import hub
from kflow.ground.files import read_regular
from kflow.ground.terminal import shortened
from kflow.problems.known_datasets import Dataset, Row, describe, read_problems, unavailable
from kflow.types import Problem, UserError

BUNDLED = Path(__file__).parents[1] / "data" / "quickstart.jsonl"
LOCAL = (".json", ".jsonl", ".csv", ".parquet")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
LARGEST = 1 << 30  # bytes, of a local file


@dataclass(frozen=True)
class Source:
    """Where problems were read from; config, split, revision and files: of a hub data set.
    choice_order: `Reading.choice_order`, None where no choices were shuffled. The last three are
    of generated problems: package and version, each task's settings, what was taken off questions.
    """

    dataset: str
    split: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = ()
    config: str | None = None
    choice_order: dict[str, tuple[int, ...]] | None = None
    generator: str | None = None
    task_settings: tuple[dict[str, Any], ...] = ()
    taken_off: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProblemSet:
    """problems in data-set order, and what their answers are."""

    problems: tuple[Problem, ...]
    answers: AnswerType
    source: Source

    @property
    def hash(self) -> str:
        """The same for the same ids, questions and answers, wherever they were read from."""
        rows = [[p.id, p.question, p.answer] for p in self.problems]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def load(
    dataset: str,
    split: str | None = None,
    limit: int | None = None,
    config: str | None = None,
    problem_column: str | None = None,
    answer_column: str | None = None,
    answer_type: str | None = None,
) -> ProblemSet:
    """The first `limit` problems of a data set. Raises UserError for whatever it lacks."""
    known = describe(dataset, split, config, problem_column, answer_column, answer_type)
    rows, source = read(known)
    reading = read_problems(rows, known)
    reading.answers.check()
    if reading.choice_order:
        source = replace(source, choice_order=reading.choice_order)
    return ProblemSet(reading.problems[:limit], reading.answers, source)


def read(known: Dataset) -> tuple[list[Row], Source]:
    """All rows of a data set, unchecked, and where they came from."""
    if known.name == "quickstart":
        return read_file(BUNDLED), Source("quickstart")
    path = Path(known.name)
    if path.suffix.lower() in SPREADSHEETS:
        raise UserError(f"{path} is a spreadsheet: save it as .csv and give --dataset that file.")
    if path.suffix in LOCAL or os.path.exists(path) or hub.is_path(known.name):
        return read_file(path), Source(known.name)
    return read_hub(known)


def read_file(path: Path) -> list[Row]:
    if not os.path.exists(path):
        raise UserError(f"There is no file {path}: correct --dataset.")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give --dataset the name of a file in it.")
    if path.suffix not in LOCAL:
        raise UserError(f"{path} is not a {', '.join(LOCAL)} file: convert it to one of these.")
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
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = reader.fieldnames or ()
        if twice := [name for place, name in enumerate(names) if name in names[:place]]:
            raise ValueError(f"its header has {shortened(twice[0])} twice")
        table = list(reader)
        for number, row in enumerate(table):
            if None in row:  # where the reader puts what has no column
                raise ValueError(
                    f"row {number} has more fields than the header; quote a field that holds commas"
                )
        return table
    if suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    return json.loads(text)


def read_hub(known: Dataset) -> tuple[list[Row], Source]:
    """The rows of a data set on the Hugging Face hub."""
    name = known.name.partition("@")[0]
    hub.prepare()
    import datasets

    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(
            name, known.config, split=known.split, revision=known.revision
        )
    except Exception as error:  # the library raises many types for a network or a name
        raise hub.failure(unavailable(known, error)) from error
    files = tuple(sorted(loaded.info.download_checksums or {}))
    return loaded.to_list(), Source(name, known.split, known.revision, files, known.config)
