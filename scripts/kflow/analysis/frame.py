"""A run as a pandas data frame, a row per rollout. Columns are named as the fields of the records
are (docs/results.md); an answer is an integer of any length or a text, so its column holds objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..rollout import Rollout
from ..types import Answer, UserError
from .published import measured
from .replies import split

if TYPE_CHECKING:
    import pandas

PLACE = {"run": "object", "seed": "int64", "step": "int64", "slot": "int64", "id": "object"}
FIELDS = {
    "predicted": "object",
    "correct": "bool",
    "asks_answer": "bool",
    "unreadable_box": "bool",
    "finish_reason": "object",
    "failure": "object",
    "prompt_tokens": "Int64",
    "completion_tokens": "Int64",
    "max_tokens": "Int64",
    "sampling_seed": "Int64",
    "carried_tokens": "Int64",
}
# What the published code does not record.
MEASURED = ("prompt_tokens", "completion_tokens", "max_tokens", "sampling_seed")
STEP = {
    "verdict": "object",
    "verdict_correct": "bool",
    "over_budget": "bool",
    "counted": "bool",
}
COLUMNS = {
    **PLACE,
    "gold": "object",
    **FIELDS,
    "left_out_entries": "int64",
    "left_out_tokens": "int64",
    **STEP,
    "list_entries": "int64",
}
TEXTS = {"question": "object", "pred_solution": "object", "reply": "object", "visible": "object"}


class Placed(NamedTuple):
    """A record and where it stands. gold: as the answer type means it. list_entries: of the longest
    list that a prompt of the step shows."""

    seed: int
    step: int
    id: str
    gold: Answer
    list_entries: int
    record: Rollout


def frame(run: str, records: Iterable[Placed], texts: bool) -> pandas.DataFrame:
    """Raises UserError where pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise UserError("A data frame needs pandas: pip install pandas.") from error
    columns = COLUMNS | (TEXTS if texts else {})
    rows = [
        row | (texts_of(slot) if texts else {})
        for each in records
        for slot, row in placed_rows(run, each)
    ]
    return pandas.DataFrame(
        {
            name: pandas.Series([row[name] for row in rows], dtype=dtype)
            for name, dtype in columns.items()
        }
    )


def placed_rows(run: str, placed: Placed) -> Iterator[tuple[Rollout, dict[str, Any]]]:
    """A record's rollouts with what is said of each; none for a record that repeats an earlier
    step."""
    record = placed.record
    step = {name: getattr(record, name) for name in STEP}
    for slot in record.slots if record.repeats_step is None else ():
        unknown = () if measured(slot) else MEASURED
        yield (
            slot,
            {
                "run": run,
                "seed": placed.seed,
                "step": placed.step,
                "slot": slot.slot,
                "id": placed.id,
                "gold": placed.gold,
                **{name: None if name in unknown else getattr(slot, name) for name in FIELDS},
                "left_out_entries": slot.left_out.entries,
                "left_out_tokens": slot.left_out.tokens,
                **step,
                "list_entries": placed.list_entries,
            },
        )


def texts_of(slot: Rollout) -> dict[str, str]:
    """reply: pred_solution without the text it continues. visible: the reply without its
    thinking."""
    return {
        "question": slot.question,
        "pred_solution": slot.pred_solution,
        "reply": slot.reply,
        "visible": split(slot)[1],
    }
