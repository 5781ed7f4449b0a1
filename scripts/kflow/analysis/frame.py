"""A run as a pandas data frame, a row per rollout. Columns are named as the fields of the records
are (docs/results_and_comparing.md); an answer is an integer of any length or a text, so its column
holds objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kflow.results.rollout import Rollout
from kflow.results.rows import TYPES, row
from kflow.types import Answer, UserError

if TYPE_CHECKING:
    import pandas

DTYPES = {
    "str": "object", "str | None": "object", "int": "int64", "int | None": "Int64", "bool": "bool",
}  # fmt: skip
FIELDS = (
    "run", "seed", "step", "slot", "id", "gold", "predicted", "correct", "asks_answer",
    "unreadable_box", "finish_reason", "failure", "prompt_tokens", "completion_tokens",
    "max_tokens", "sampling_seed", "carried_tokens", "left_out_entries", "left_out_tokens",
    "verdict", "verdict_correct", "over_budget", "counted",
)  # fmt: skip
COLUMNS = {**{name: DTYPES[TYPES[name]] for name in FIELDS}, "list_entries": "int64"}
TEXTS = {"question": "object", "pred_solution": "object", "reply": "object", "visible": "object"}


class Placed(NamedTuple):
    """A record and where it stands. gold: as the answer type means it. list_entries: of the longest
    list that a prompt of the step shows."""

    seed: int
    step: int
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
    cells = [
        {name: each[name] for name in columns} for placed in records for each in rows(run, placed)
    ]
    return pandas.DataFrame(
        {
            name: pandas.Series([each[name] for each in cells], dtype=dtype)
            for name, dtype in columns.items()
        }
    )


def rows(run: str, placed: Placed) -> Iterator[dict[str, Any]]:
    """By column, of each rollout that a record stands for; answers in the data's own form. reply:
    pred_solution without what it goes on from. visible: the reply without its thinking."""
    record = placed.record
    for slot in record.new_slots:
        shown = row(run, placed.seed, placed.step, record, slot)
        yield {
            **vars(shown),
            "gold": placed.gold,
            "predicted": slot.predicted,
            "verdict": record.verdict,
            "list_entries": placed.list_entries,
            "reply": slot.reply,
            "visible": slot.pred_solution[shown.answer_start :],
        }
