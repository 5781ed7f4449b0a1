"""Results folders made up for the tests of what reads them: ours and the published code's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Answers = Sequence[int | None]


def published(problem: int, gold: object, predicted: int | None, **more: object) -> dict[str, Any]:
    """A record as the published code writes it."""
    solution = (
        f"Thinking.</think>[Answer]: \\boxed{{{predicted}}}" if predicted is not None else "?"
    )
    question = f"Question {problem}\n\n## Wrong Answer List\nN/A\n\n## Instructions\nSolve it."
    base = {"question": question, "gold": gold, "predicted": predicted, "pred_solution": solution}
    return base | more


def ours(problem: int, gold: object, predicted: int | None, **more: object) -> dict[str, Any]:
    """A record as this project writes it."""
    return published(problem, gold, predicted) | {
        "correct": str(predicted) == str(gold),
        "id": f"aime-{problem}",
        "finish_reason": "stop",
        "prompt_tokens": 100,
        "completion_tokens": 1000,
        "max_tokens": 2000,
        "sampling_seed": 1,
        "reply_start": 0,
        "update": {"kept": "the answer did not change"},
        "left_out": {},
        "failure": None,
        **more,
    }


def write_step(folder: Path, step: int, records: Sequence[object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"predictions_{step}.json"
    path.write_text(json.dumps([{"accuracy": 0.0, "total": len(records)}, *records]))
    return path


def write_run(
    folder: Path,
    steps: Sequence[Answers],
    golds: Sequence[object],
    record: Any = ours,
    settings: Mapping[str, object] | None = None,
    reflex_size: int | None = None,
) -> Path:
    """steps: per step the answer to every problem. settings: of run.json, none written if None."""
    for step, answers in enumerate(steps):
        rows = [
            record(n, gold, answer)
            for n, (gold, answer) in enumerate(zip(golds, answers, strict=True))
        ]
        write_step(folder, step, rows)
    if settings is not None:
        flags = {"reflex_size": len(steps) if reflex_size is None else reflex_size}
        run = {"settings": settings, "sessions": [{"flags": flags}]}
        (folder / "run.json").write_text(json.dumps(run))
    return folder
