"""Runs as session traces, which the Hugging Face hub shows in its trace viewer: a JSONL file per
chain, first the session, then each rollout's prompt and reply (its Session Trace Simple Format).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kflow.analysis.export.card import card
from kflow.analysis.export.source import Source, StepRecord, file_name, file_names
from kflow.results.replies import split
from kflow.results.rollout import Rollout
from kflow.results.rows import answer_text

HARNESS = "knowledge-flow"


@dataclass(frozen=True)
class Session:
    """A chain; what stands after `name` is ours, which the viewer ignores."""

    type: str
    harness: str
    id: str
    name: str
    run: str
    problem: str
    seed: int
    gold: str


@dataclass(frozen=True)
class Message:
    """One turn. An assistant's reasoning is the reply's thinking."""

    role: str
    content: str
    reasoningContent: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Turn:
    """A line; what stands after `message` is ours: which rollout it is, and of a reply its answer,
    or why there is none."""

    type: str
    message: Message
    step: int
    slot: int
    predicted: str | None = None
    correct: bool | None = None
    finish_reason: str | None = None
    failure: str | None = None


def write(sources: Sequence[Source], folder: Path, texts: bool) -> int:
    """The sessions, in a folder per run, with a card; the number of their rollouts."""
    total = 0
    for source, name in zip(sources, file_names(sources), strict=True):
        (folder / name).mkdir()
        for item in source.records():
            path = folder / name / f"{file_name(item.record.id, item.place)}_seed_{item.seed}"
            with open(path.with_name(f"{path.name}.jsonl"), "ab") as file:
                if not file.tell():
                    file.write(line(session(source, item)))
                for slot in item.record.new_slots:
                    file.writelines(map(line, turns(source, item, slot)))
                    total += 1
    card(folder, sources, {"tags": [HARNESS, "agent-traces"]}, "One session per chain.")
    return total


def session(source: Source, item: StepRecord) -> Session:
    record = item.record
    identifier = f"{source.name}/{record.id}/{item.seed}"
    title = f"{record.id}, seed {item.seed}"
    return Session(
        "session", HARNESS, identifier, title, source.name, record.id, item.seed, str(record.gold)
    )


def turns(source: Source, item: StepRecord, slot: Rollout) -> tuple[Turn, Turn]:
    """A rollout's prompt and reply."""
    thinking, answer = split(slot)
    return (
        Turn("message", Message("user", slot.question), item.step, slot.slot),
        Turn(
            "message",
            Message("assistant", answer, thinking or None, source.model),
            item.step,
            slot.slot,
            answer_text(slot.predicted),
            slot.correct,
            slot.finish_reason,
            slot.failure,
        ),
    )


def line(value: Any) -> bytes:
    """A dataclass as JSON, without what is None. It is ASCII, so that lone surrogates survive."""
    fields = asdict(value, dict_factory=lambda items: {k: v for k, v in items if v is not None})
    return json.dumps(fields).encode() + b"\n"
