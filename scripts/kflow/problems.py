"""Data sets of problems with integer answers: a hub name, a local file, or the bundled set.

The two AIME sets are checked for their 30 problems; what was loaded is identified in run.json by
the revision the hub served and by a hash of ids, questions and answers.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from . import hub
from .terminal import first_line
from .types import Problem, Record, UserError

BUNDLED = Path(__file__).with_name("data") / "quickstart.jsonl"
EXPECTED = {("yentinglin/aime_2025", "train"): 30, ("HuggingFaceH4/aime_2024", "train"): 30}
LOCAL = (".json", ".jsonl", ".csv", ".parquet")
INTEGER = re.compile(r"\s*[+-]?[0-9]{1,4300}\s*")


@dataclass(frozen=True)
class ProblemSet:
    """problems in data-set order; source names what they were read from, for run.json."""

    problems: list[Problem]
    source: Record

    @property
    def hash(self) -> str:
        """The same for the same ids, questions and answers, wherever they were read from."""
        rows = [[p.id, p.question, p.answer] for p in self.problems]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def load(dataset: str, split: str, limit: int | None = None) -> ProblemSet:
    """The first `limit` problems of a data set. Raises UserError for whatever it lacks."""
    rows, source = read(dataset, split)
    expected = EXPECTED.get((dataset, split))
    if expected is not None and len(rows) != expected:
        raise UserError(
            f"{dataset}, split {split}, has {len(rows)} rows instead of {expected}: clear its hub "
            "cache, or give --dataset a local file."
        )
    if not rows:
        raise UserError(f"The data set {dataset} is empty: give --dataset one with problems.")
    ids = [row.get("id") for row in rows]
    own_ids = all(i is not None for i in ids) and len({str(i) for i in ids}) == len(ids)
    problems = [
        problem(row, number, str(row["id"]) if own_ids else str(number), dataset)
        for number, row in enumerate(rows)
    ]
    return ProblemSet(problems[:limit], source)


def problem(row: Mapping[str, object], number: int, id: str, dataset: str) -> Problem:
    """One row, checked. Rows are counted from 0, as their ids are where the data has none."""
    for column in ("problem", "answer"):
        if column not in row:
            raise UserError(
                f"Row {number} of {dataset} has no column {column!r}: it needs 'problem' and "
                f"'answer', and has {', '.join(map(repr, row))}."
            )
    question, gold = row["problem"], row["answer"]
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"Row {number} of {dataset} has no text in 'problem': add the question.")
    if isinstance(gold, Decimal) and gold == gold.to_integral_value():
        gold = int(gold)  # JSON has no decimals
    text = str(int(gold)) if isinstance(gold, float) and gold.is_integer() else str(gold)
    if isinstance(gold, bool) or not INTEGER.fullmatch(text):
        raise UserError(
            f"Row {number} of {dataset} has the answer {str(gold)[:80]!r}, which is not an "
            "integer: correct it or leave the row out."
        )
    return Problem(encodable(id), encodable(question), gold, int(text))


def encodable(text: str) -> str:
    """The text with a question mark for each lone surrogate, which no file could hold."""
    return text.encode("utf-8", "replace").decode()


def read(dataset: str, split: str) -> tuple[list[dict[str, object]], Record]:
    """All rows of a data set, unchecked, and where they came from."""
    if dataset == "quickstart":
        return read_file(BUNDLED), {"dataset": "quickstart"}
    path = Path(dataset)
    if path.suffix in LOCAL or os.path.exists(path):
        return read_file(path), {"dataset": dataset}
    return read_hub(dataset, split)


def read_file(path: Path) -> list[dict[str, object]]:
    if not os.path.exists(path):
        raise UserError(f"There is no file {path}: correct --dataset.")
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            rows = pyarrow.parquet.read_table(path).to_pylist()
        elif path.suffix == ".csv":
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        elif path.suffix == ".jsonl":
            text = path.read_text(encoding="utf-8-sig")
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        elif path.suffix == ".json":
            rows = json.loads(path.read_text(encoding="utf-8-sig"))
        else:
            raise UserError(f"{path} is none of {', '.join(LOCAL)}: convert it to one of these.")
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(
            f"Cannot read --dataset {path}: {getattr(error, 'strerror', None) or error}."
        ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} is not a list of objects: give one object for each problem.")
    return rows


def read_hub(dataset: str, split: str) -> tuple[list[dict[str, object]], Record]:
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
    checksums = sorted(loaded.info.download_checksums or {})
    return loaded.to_list(), {"dataset": name, "split": split, "files": checksums}
