"""Runs as tables, a row per rollout: a data set in parquet files with its card, or one csv file.

A record that repeats an early-stopped chain's last step is no rollout and has no row.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..method import Note
from ..rollout import Rollout
from ..types import Entry
from .card import card
from .published import measured
from .replies import split
from .source import Source, Taken, answer_text, encodable, rollouts_of

BATCH = 24_000_000  # characters of text, of a row group
LARGEST_PART = 20 * BATCH  # of a file
MOST_ROWS = 20_000  # of a row group
TEXTS = ("question", "pred_solution", "knowledge", "added", "dropped")
# What a spreadsheet takes for a formula where a cell begins with it; and what marks such a cell.
FORMULA = re.compile(r"['=+\-@\t\r\n＝＋－＠]")
NUMBER = re.compile(r"-?\d{1,300}")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Row:
    """A rollout, and what its step did; docs/exporting.md says what each column holds. None: not
    on record."""

    run: str
    seed: int
    step: int
    slot: int
    id: str
    question: str
    gold: str
    predicted: str | None
    correct: bool
    pred_solution: str
    reply_start: int
    answer_start: int
    family: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    max_tokens: int | None
    sampling_seed: int | None
    asks_answer: bool
    sections: tuple[str, ...]
    missing_sections: tuple[str, ...]
    unreadable_box: bool
    knowledge: tuple[Entry, ...]
    carried_tokens: int | None
    left_out_entries: int
    left_out_tokens: int
    failure: str | None
    verdict: str | None
    verdict_correct: bool
    added: tuple[Entry, ...]
    dropped: tuple[Entry, ...]
    replaced: bool
    skipped: str
    truncated_sections: tuple[str, ...]
    selected: int | None
    over_budget: bool
    counted: bool
    preemptions: int
    lost_context: bool
    engine: str | None
    estimated: tuple[str, ...]
    escaped: bool = False

    @property
    def size(self) -> int:
        """Characters of its texts."""
        entries = (*self.knowledge, *self.added, *self.dropped)
        return len(self.question) + len(self.pred_solution) + sum(len(e.text) for e in entries)


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
    for taken in source.records():
        for slot in rollouts_of(taken.record):
            yield row(source, taken, slot)


def row(source: Source, taken: Taken, slot: Rollout) -> Row:
    record, has_tokens = taken.record, measured(slot)
    note = record.note or Note()
    return Row(
        run=source.name,
        seed=taken.seed,
        step=taken.step,
        slot=slot.slot,
        id=slot.id,
        question=slot.question,
        gold=str(slot.gold),
        predicted=answer_text(slot.predicted),
        correct=slot.correct,
        pred_solution=slot.pred_solution,
        reply_start=slot.reply_start,
        answer_start=slot.reply_start + len(split(slot)[0]),
        family=slot.family,
        finish_reason=slot.finish_reason,
        prompt_tokens=slot.prompt_tokens if has_tokens else None,
        completion_tokens=slot.completion_tokens if has_tokens else None,
        max_tokens=slot.max_tokens if has_tokens else None,
        sampling_seed=slot.sampling_seed if has_tokens else None,
        asks_answer=slot.asks_answer,
        sections=slot.sections,
        missing_sections=slot.missing_sections,
        unreadable_box=slot.unreadable_box,
        knowledge=slot.knowledge,
        carried_tokens=slot.carried_tokens,
        left_out_entries=slot.left_out.entries,
        left_out_tokens=slot.left_out.tokens,
        failure=slot.failure,
        verdict=answer_text(record.verdict),
        verdict_correct=record.verdict_correct,
        added=note.added,
        dropped=note.dropped,
        replaced=note.replaced,
        skipped=note.skipped,
        truncated_sections=note.truncated,
        selected=note.selected,
        over_budget=record.over_budget,
        counted=record.counted,
        preemptions=slot.preemptions,
        lost_context=slot.lost_context,
        engine=slot.engine,
        estimated=slot.estimated,
    )


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
    return [each.name for each in fields(Row) if texts or each.name not in TEXTS]


def write_parquet(sources: Sequence[Source], folder: Path, texts: bool) -> int:
    """The data set in `data/`, with its card; the number of its rows."""
    names = columns(texts)
    types = {each.name: ARROW[str(each.type)] for each in fields(Row)}
    schema = pa.schema([(name, types[name]) for name in names])
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
