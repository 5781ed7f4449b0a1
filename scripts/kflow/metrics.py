"""Numbers over the records of one step (METHOD.md, "Output")."""

from __future__ import annotations

from collections.abc import Sequence

from .types import Record


def summary(records: Sequence[Record]) -> Record:
    """The first element of `predictions_<step>.json`.

    accuracy is 0..1. no_answer: replies without an integer where the rule looks for one. cut_off:
    replies that ended at their budget. unparsed: replies lacking a section they were asked for.
    failed: rollouts without a usable reply. Lengths in tokens.
    """
    total = len(records)
    correct = sum(record["correct"] is True for record in records)
    lengths = [record["prompt_tokens"] for record in records]
    return {
        "accuracy": correct / total,
        "total": total,
        "correct": correct,
        "average_prompt_length": sum(n for n in lengths if isinstance(n, int)) / total,
        "no_answer": sum(r["predicted"] is None and r["failure"] is None for r in records),
        "cut_off": sum(record["finish_reason"] == "length" for record in records),
        "unparsed": sum("missing_sections" in dict(r["update"] or {}) for r in records),  # type: ignore[call-overload]
        "failed": sum(record["failure"] is not None for record in records),
        "completion_tokens": sum(
            n for r in records if isinstance(n := r["completion_tokens"], int)
        ),
    }
