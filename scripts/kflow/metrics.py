"""Numbers over the records of one step (METHOD.md, "Output")."""

from __future__ import annotations

from collections.abc import Sequence

from .types import Record


def summary(records: Sequence[Record]) -> Record:
    """The first element of `predictions_<step>.json`; lengths in tokens.

    accuracy is 0..1. no_answer: replies without an integer where the rule looks for one. cut_off:
    replies that ended at their budget. unparsed: replies lacking a section they were asked for.
    failed: rollouts without a usable reply. carried: records that resting chains repeat; what
    they would have cost counts as saved.
    """
    total = len(records)
    correct = sum(record["correct"] is True for record in records)
    asked = [record for record in records if "carried_from" not in record]
    return {
        "accuracy": correct / total,
        "total": total,
        "correct": correct,
        "average_prompt_length": added(records, "prompt_tokens") / total,
        "no_answer": sum(r["predicted"] is None and r["failure"] is None for r in records),
        "cut_off": sum(record["finish_reason"] == "length" for record in records),
        "unparsed": sum("missing_sections" in dict(r["update"]) for r in records),  # type: ignore[call-overload]
        "failed": sum(record["failure"] is not None for record in records),
        "carried": total - len(asked),
        "completion_tokens": added(asked, "completion_tokens"),
        "saved_tokens": added(records, "completion_tokens") - added(asked, "completion_tokens"),
    }


def added(records: Sequence[Record], field: str) -> int:
    return sum(value for record in records if isinstance(value := record[field], int))
