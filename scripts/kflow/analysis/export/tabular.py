"""Runs as tables, a row per rollout: a data set in parquet files with its card, or one csv file.

A record that repeats an early-stopped chain's last step is no rollout and has no row.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kflow.analysis.export.card import card
from kflow.analysis.export.source import Source, encodable
from kflow.results.rows import TYPES, Row, answer_text, row
from kflow.types import Entry

BATCH = 24_000_000  # characters of text, of a row group
LARGEST_PART = 20 * BATCH  # of a file
MOST_ROWS = 20_000  # of a row group
TEXTS = ("question", "pred_solution", "knowledge", "added", "dropped")
# What a spreadsheet takes for a formula where a cell begins with it; and what marks such a cell.
FORMULA = re.compile(r"['=+\-@\t\r\n＝＋－＠]")
NUMBER = re.compile(r"-?\d{1,300}")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


ENTRIES = pa.list_(pa.struct([("text", pa.string()), ("answer", pa.string())]))
ARROW = {
    "str": pa.string(),
    "str | None": pa.string(),
    "int": pa.int64(),
    "int | None": pa.int64(),
    "bool": pa.bool_(),
    "tuple[str, ...]": pa.list_(pa.string()),
    "tuple[Entry, ...]": ENTRIES,
}


def rows(source: Source) -> Iterator[Row]:
    for item in source.records():
        for slot in item.record.new_slots:
            yield row(source.name, item.seed, item.step, item.record, slot)


def cells(row: Row, names: Sequence[str], escape: Callable[[str], str]) -> dict[str, Any]:
    """A row by column, every text escaped: entries are dictionaries, and `escaped` says whether a
    text had to be changed."""
    changed = False

    def cell(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, str):
            safe = escape(value)
            changed = changed or safe != value
            return safe
        if isinstance(value, Entry):
            return {"text": cell(value.text), "answer": cell(answer_text(value.answer))}
        return [cell(each) for each in value] if isinstance(value, tuple) else value

    values = {name: cell(getattr(row, name)) for name in names}
    return {**values, "escaped": changed}


def columns(texts: bool) -> list[str]:
    return [name for name in TYPES if texts or name not in TEXTS]


def write_parquet(sources: Sequence[Source], folder: Path, texts: bool) -> int:
    """The data set in `data/`, with its card; the number of its rows."""
    names = columns(texts)
    schema = pa.schema([(name, ARROW[TYPES[name]]) for name in names])
    (folder / "data").mkdir()
    total = part = in_part = 0
    writer = None
    try:
        for batch in batches(sources, texts):
            if writer is None:
                path = folder / "data" / f"train-{part:05}.parquet"
                writer = pq.ParquetWriter(path, schema, compression="zstd")
            table = [cells(row, names, encodable) for row in batch]
            writer.write_table(pa.Table.from_pylist(table, schema))
            total, in_part = total + len(batch), in_part + sum(row.size for row in batch)
            if texts and in_part >= LARGEST_PART:
                writer.close()
                writer, part, in_part = None, part + 1, 0
    finally:
        if writer is not None:
            writer.close()
    data = {"configs": [{"config_name": "default", "data_files": "data/*.parquet"}]}
    about = f"One row per rollout, {total:,} in all."
    card(folder, sources, data, f"{about} Columns: {', '.join(f'`{name}`' for name in names)}.")
    return total


def batches(sources: Sequence[Source], texts: bool) -> Iterator[list[Row]]:
    """The rows, as many at a time as a row group takes."""
    batch: list[Row] = []
    size = 0
    for source in sources:
        for each in rows(source):
            batch.append(each)
            size += each.size if texts else 0
            if size >= BATCH or len(batch) == MOST_ROWS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def write_csv(sources: Sequence[Source], folder: Path, texts: bool) -> int:
    """`rollouts.csv`; the number of its rows."""
    names, total = columns(texts), 0
    with open(folder / "rollouts.csv", "x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for source in sources:
            for each in rows(source):
                values = cells(each, names, printable_cell)
                writer.writerow([in_csv(values[name]) for name in names])
                total += 1
    return total


def in_csv(cell: Any) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe stands before one that begins
    like one, or with an apostrophe; a list is JSON."""
    if cell is None:
        return ""
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def printable_cell(text: str) -> str:
    """The text with control characters but for line breaks and tabs, which readers of csv drop or
    refuse, and lone surrogates, spelt as Python spells them."""
    return CONTROL.sub(lambda match: repr(match[0])[1:-1], text)
