"""Data sets: what is read from which file, what identifies it, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from helpers.fakes import ScriptedEngine
from helpers.scripted import run_script
from kflow.answers import Integer
from kflow.problems import problems
from kflow.problems.problems import Source
from kflow.types import UserError

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"problem": "What is $6 + 6$?", "answer": "12"},
    {"problem": "Was ist «½ · 146», in\nZahlen?", "answer": "073"},
    {"problem": 'How cold is "cold", here?', "answer": " -4 "},
]


def write_json(path: Path, rows: Rows) -> None:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def write_jsonl(path: Path, rows: Rows) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")


def write_csv(path: Path, rows: Rows) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: Rows) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    ".json": write_json,
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


def load(tmp_path: Path, rows: Rows, suffix: str = ".jsonl", limit: int | None = None) -> Any:
    path = tmp_path / f"set{suffix}"
    WRITERS[suffix](path, rows)
    return problems.load(str(path), "train", limit)


def complaint(dataset: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        problems.load(str(dataset), "train")
    return str(caught.value)


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_problems(suffix: str, tmp_path: Path) -> None:
    loaded = load(tmp_path, ROWS, suffix)
    assert [p.question for p in loaded.problems] == [row["problem"] for row in ROWS]
    assert [p.answer for p in loaded.problems] == [12, 73, -4]
    assert [p.gold for p in loaded.problems] == ["12", "073", " -4 "]
    assert [p.id for p in loaded.problems] == ["0", "1", "2"]
    assert loaded.source == Source(str(tmp_path / f"set{suffix}"))
    assert loaded.answers == Integer()
    (tmp_path / "other").mkdir()
    assert loaded.hash == load(tmp_path / "other", ROWS).hash


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_a_byte_order_mark_is_no_part_of_the_data(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"set{suffix}"
    WRITERS[suffix](path, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert problems.load(str(path), "train").problems[1].gold == "073"


def test_the_bundled_set() -> None:
    loaded = problems.load("quickstart", "train")
    assert len(loaded.problems) == 24
    assert loaded.problems[0].id == "quickstart-01"
    assert (loaded.problems[0].gold, loaded.source) == (15, Source("quickstart"))


@pytest.mark.parametrize(("gold", "answer"), [(73, 73), ("073", 73), (4.0, 4), (10**30, 10**30)])
def test_gold_stays_as_it_is_in_the_file(gold: object, answer: int, tmp_path: Path) -> None:
    (problem,) = load(tmp_path, [{"problem": "Q", "answer": gold}]).problems
    assert (problem.gold, type(problem.gold)) == (gold, type(gold))
    assert problem.answer == answer


@pytest.mark.parametrize(
    ("own", "ids"),
    [
        (["b", "a", "c"], ["b", "a", "c"]),
        ([1, "1", 2], ["0", "1", "2"]),
        (["a", None, "c"], ["0", "1", "2"]),
    ],
)
def test_ids_are_the_datas_own_where_they_tell_its_rows_apart(
    own: list[object], ids: list[str], tmp_path: Path
) -> None:
    rows = [{"id": each, **row} for each, row in zip(own, ROWS, strict=True)]
    assert [p.id for p in load(tmp_path, rows).problems] == ids


def test_a_limit_keeps_the_first_problems_as_they_are(tmp_path: Path) -> None:
    whole = load(tmp_path, ROWS)
    assert load(tmp_path, ROWS, limit=2).problems == whole.problems[:2]
    assert load(tmp_path, ROWS, limit=2).hash != whole.hash
    assert load(tmp_path, ROWS, limit=9).hash == whole.hash


@pytest.mark.parametrize("change", [{"problem": "What?"}, {"answer": "13"}, {"id": "x"}])
def test_the_hash_tells_other_problems_apart(change: dict[str, str], tmp_path: Path) -> None:
    rows = [{"id": str(number), **row} for number, row in enumerate(ROWS)]
    assert load(tmp_path, [{**rows[0], **change}, *rows[1:]]).hash != load(tmp_path, rows).hash
    assert load(tmp_path, rows[::-1]).hash != load(tmp_path, rows).hash
    assert load(tmp_path, [{**row, "more": 1} for row in rows]).hash == load(tmp_path, rows).hash


@pytest.mark.parametrize(("column", "other"), [("problem", "task"), ("answer", "solution")])
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_column_that_is_missing_is_named(
    suffix: str, column: str, other: str, tmp_path: Path
) -> None:
    rows = [{other if name == column else name: row[name] for name in row} for row in ROWS]
    WRITERS[suffix](tmp_path / f"set{suffix}", rows)
    error = complaint(tmp_path / f"set{suffix}")
    assert f"has no column {column!r}" in error
    assert repr(other) in error


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("set.csv", b"problem,answer\n", "is empty"),
        ("set.jsonl", b'{"problem": "Q", "answer": 1}\n{"problem"\n', "Cannot read --dataset"),
        ("set.csv", b"problem,answer\nWhat?,1\nOne, two?,3\n", "row 1 has more fields"),
        ("set.csv", b'problem,answer\n"What?,1\n"What" now?,3\n', "expected after"),
        ("set.csv", b'problem,answer\nWhat?,"1\nWhat now?,3\n', "unexpected end of data"),
        ("set.csv", b"problem,answer,answer\nWhat?,1,2\n", "its header has 'answer' twice"),
        ("set.json", b'{"problem": "Q", "answer": 1}', "is not a list of objects"),
        ("set.ODS", b"PK", "is a spreadsheet: save it as .csv"),
        ("set", b"", "is not a .json, .jsonl, .csv, .parquet file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    name: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    whole = complaint(tmp_path / name)
    assert sentence in whole
    assert str(tmp_path / name) in whole


def test_a_parquet_file_may_hold_decimals(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set.parquet", [{"problem": "How many?", "answer": Decimal(4)}])
    flags = ["--reflex_size", "2", "--dataset", str(tmp_path / "set.parquet")]
    ran = run_script("vllm_kflow_qwen", flags, tmp_path, ScriptedEngine())
    assert (ran.code, ran.complaints) == (0, [])
    assert ran.step(1)[1]["failure"] is None


def test_a_file_that_is_too_large_or_missing_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problems, "LARGEST", 10)
    write_jsonl(tmp_path / "set.jsonl", ROWS)
    assert "is larger than 10 bytes" in complaint(tmp_path / "set.jsonl")
    assert "There is no file" in complaint(tmp_path / "gone.csv")
