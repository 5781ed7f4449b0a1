"""Runs as a data set in parquet files with its card, a row per rollout.

A record that repeats an early-stopped chain's last step is no rollout and has no row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kflow.analysis.export.folder import encodable, write_card
from kflow.results.rows import COLUMNS, TEXTS, Row, as_text, make_row
from kflow.results.runs import SavedRun
from kflow.types import Entry

BATCH = 24_000_000  # characters of text, of a row group
LARGEST_PART = 20 * BATCH  # of a file
MOST_ROWS = 20_000  # of a row group

ARROW = {
    "str": pa.string(),
    "str | None": pa.string(),
    "int": pa.int64(),
    "int | None": pa.int64(),
    "float | None": pa.float64(),
    "bool": pa.bool_(),
    "tuple[str, ...]": pa.list_(pa.string()),
    "tuple[Entry, ...]": pa.list_(pa.struct([("text", pa.string()), ("answer", pa.string())])),
}


def write_parquet(runs: Sequence[SavedRun], folder: Path, texts: bool = True) -> int:
    """The data set in `data/`, with its card; the number of its rows. texts: with prompts, replies
    and knowledge lists."""
    types = {name: ARROW[type_] for name, type_ in COLUMNS.items() if texts or name not in TEXTS}
    schema = pa.schema([*types.items(), ("escaped", pa.bool_())])
    (folder / "data").mkdir()
    total = part = in_part = 0
    writer = None
    try:
        for batch in list_batches(runs, texts):
            if writer is None:
                path = folder / "data" / f"train-{part:05}.parquet"
                writer = pq.ParquetWriter(path, schema, compression="zstd")
            table = [encode({name: row[name] for name in types}) for row in batch]
            writer.write_table(pa.Table.from_pylist(table, schema))
            total, in_part = total + len(batch), in_part + sum(map(count_characters, batch))
            if texts and in_part >= LARGEST_PART:
                writer.close()
                writer, part, in_part = None, part + 1, 0
    finally:
        if writer is not None:
            writer.close()
    data = {"configs": [{"config_name": "default", "data_files": "data/*.parquet"}]}
    columns = ", ".join(f"`{name}`" for name in schema.names)
    write_card(folder, runs, data, f"One row per rollout, {total:,} in all. Columns: {columns}.")
    return total


def list_batches(runs: Sequence[SavedRun], texts: bool) -> Iterator[list[Row]]:
    """The rows, as many at a time as a row group takes."""
    batch: list[Row] = []
    size = 0
    for run in runs:
        for seed, step, _, record in run.records():
            for slot in record.new_slots:
                batch.append(make_row(run.name, seed, step, record, slot))
                size += count_characters(batch[-1]) if texts else 0
                if size >= BATCH or len(batch) == MOST_ROWS:
                    yield batch
                    batch, size = [], 0
    if batch:
        yield batch


def count_characters(row: Row) -> int:
    """Of its texts."""
    entries: list[Entry] = [*row["knowledge"], *row["added"], *row["dropped"]]
    texts = [row["question"], row["pred_solution"], *(entry.text for entry in entries)]
    return sum(map(len, texts))


def encode(row: Row) -> Row:
    """A row as parquet takes it: entries are dictionaries, and `escaped` says whether a text had to
    be changed, since UTF-8 has no lone surrogates."""
    escaped = False

    def cell(value: Any) -> Any:
        nonlocal escaped
        if isinstance(value, str):
            safe = encodable(value)
            escaped = escaped or safe != value
            return safe
        if isinstance(value, Entry):
            return {"text": cell(value.text), "answer": cell(as_text(value.answer))}
        return [cell(each) for each in value] if isinstance(value, tuple) else value

    values = {name: cell(value) for name, value in row.items()}
    return {**values, "escaped": escaped}
