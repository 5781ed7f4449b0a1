"""Synthetic results folders for the tests of what reads them: in our format and the published
code's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kflow.method import LeftOut, StepNote
from kflow.results.rollout import Rollout, digest_of, to_json
from kflow.types import Answer

Answers = Sequence[int | None]
GOLDS = [25, "025", 7]
STEPS: list[Answers] = [[25, 1, None], [25, 25, 7]]


def published(problem: int, gold: object, predicted: int | None, **more: object) -> dict[str, Any]:
    """A record as the published code writes it."""
    solution = (
        f"Thinking.</think>[Answer]: \\boxed{{{predicted}}}" if predicted is not None else "?"
    )
    question = f"Question {problem}\n\n## Wrong Answer List\nN/A\n\n## Instructions\nSolve it."
    base = {"question": question, "gold": gold, "predicted": predicted, "pred_solution": solution}
    return base | more


def ours(problem: int, gold: object, predicted: Answer | None, **more: Any) -> Rollout:
    """A record in today's format, 100 tokens of prompt and 1,000 of reply; what follows from the
    prediction is as it should be unless given."""
    as_published = published(problem, gold, None)
    solution = "?" if predicted is None else f"Thinking.</think>[Answer]: \\boxed{{{predicted}}}"
    right = predicted is not None and str(predicted) == str(gold).lstrip("0")
    record = Rollout(
        question=as_published["question"],
        gold=gold,
        predicted=predicted,
        pred_solution=solution,
        correct=right,
        id=f"aime-{problem}",
        slot=0,
        family="qwen",
        finish_reason="stop",
        prompt_tokens=100,
        completion_tokens=1000,
        max_tokens=2000,
        sampling_seed=1,
        reply_start=0,
        asks_answer=True,
        sections=("Summary", "Answer"),
        missing_sections=(),
        unreadable_box=False,
        knowledge=(),
        carried_tokens=None,
        left_out=LeftOut(),
        failure=None,
        digest="",
        verdict=predicted,
        verdict_correct=right,
        note=StepNote(skipped="the answer did not change"),
    )
    record = replace(record, **more)
    return replace(record, digest=digest_of(record))


def wide(slots: Sequence[Rollout], verdict: Answer | None, **more: Any) -> Rollout:
    """The record of a step of several slots, numbered in order, with its verdict."""
    numbered = tuple(replace(slot, slot=number) for number, slot in enumerate(slots))
    asks = any(slot.asks_answer for slot in slots)
    right = any(slot.correct for slot in slots if slot.predicted == verdict)
    return replace(
        numbered[0],
        predicted=verdict if asks else None,
        correct=asks and right,
        verdict=verdict,
        verdict_correct=right,
        rollouts=numbered,
        **more,
    )


def write_step(folder: Path, step: int, records: Sequence[object]) -> Path:
    """Rollouts in today's layout, a record a line; anything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"predictions_{step}.json"
    lines = [json.dumps({"accuracy": 0.0, "total": len(records)}).encode()]
    lines += [to_json(r) if isinstance(r, Rollout) else json.dumps(r).encode() for r in records]
    path.write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n")
    return path


def compress(folder: Path) -> None:
    """What `gzip` makes of the steps of a run, all seeds."""
    for path in folder.rglob("predictions_*.json"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def write_run(
    folder: Path,
    steps: Sequence[Answers] = STEPS,
    golds: Sequence[object] = GOLDS,
    record: Any = ours,
    settings: Mapping[str, object] | None = None,
    **manifest: object,
) -> Path:
    """steps: per step the answer to every problem. settings, manifest: of run.json, none written
    where neither is given."""
    for step, answers in enumerate(steps):
        rows = [
            record(n, gold, answer)
            for n, (gold, answer) in enumerate(zip(golds, answers, strict=True))
        ]
        write_step(folder, step, rows)
    if settings is not None or manifest:
        write_manifest(folder, settings or {}, **manifest)
    return folder


def write_manifest(folder: Path, settings: Mapping[str, object], **more: object) -> None:
    run = {
        "experiment": {"prefix": "vllm", "family": "qwen", "method": "m", "fields": {}},
        "answers": "integer",
        "settings": settings,
        "sessions": [{"commit": "c"}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run | more))
