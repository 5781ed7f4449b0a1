"""Rollouts as rows: what tables, data frames, exports and the page have in common. The columns are
the fields of a Rollout, so that a new one turns up in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from kflow.results.rollout import Rollout, is_measured, split
from kflow.types import Answer, LeftOut, StepNote, UserError

if TYPE_CHECKING:
    import pandas

Row = dict[str, Any]
# What stands first; the other fields follow as Rollout has them.
FIRST = {"run": "str", "seed": "int", "step": "int", "slot": "int", "id": "str"}
# In a row only as other columns, or only there for checking a file and resuming.
WITHOUT = ("digest", "undecided", "repeats_step", "end_of_thinking", "rollouts")
# Fields that become several columns, by the fields of their class.
LEFT_OUT = {f"left_out_{f.name}": str(f.type) for f in fields(LeftOut)}
NOTE = {
    {"truncated": "truncated_sections"}.get(f.name, f.name): str(f.type) for f in fields(StepNote)
}
# Of the step and not of one of its slots.
OF_STEP = ("verdict", "verdict_correct", "over_budget", "counted")
# The published code does not record them.
MEASURED = ("prompt_tokens", "completion_tokens", "max_tokens", "sampling_seed")
TEXTS = ("question", "pred_solution", "knowledge", "added", "dropped")


def list_columns() -> dict[str, str]:
    """The columns of a row by name, each with the type of its values: a text for an answer."""
    early = ("question", "gold", "predicted", "correct", "pred_solution", "reply_start")
    types = {f.name: str(f.type) for f in fields(Rollout)}
    columns = FIRST | {name: types[name] for name in early} | {"answer_start": "int"}
    for name, type_ in types.items():
        if name == "left_out":
            columns |= LEFT_OUT
        elif name == "note":
            columns |= NOTE
        elif name not in WITHOUT:
            columns.setdefault(name, f"{type_} | None" if name in MEASURED else type_)
    answers = {"Any": "str", "Answer | None": "str | None"}
    return {name: answers.get(type_, type_) for name, type_ in columns.items()}


COLUMNS = list_columns()


def make_row(run: str, seed: int, step: int, record: Rollout, slot: Rollout) -> Row:
    """One of the slots of a step's record; None: not on record."""
    note, known = record.note or StepNote(), is_measured(slot)
    left_out = {f"left_out_{name}": value for name, value in vars(slot.left_out).items()}
    changed = dict(zip(NOTE, vars(note).values(), strict=True))
    around = {
        **{"run": run, "seed": seed, "step": step},
        "answer_start": slot.reply_start + len(split(slot)[0]),
        **{"gold": str(slot.gold), "predicted": as_text(slot.predicted)},
        **left_out,
        **changed,
        **{name: getattr(record, name) for name in OF_STEP},
        "verdict": as_text(record.verdict),
        **({} if known else dict.fromkeys(MEASURED)),
    }
    return {name: around[name] if name in around else getattr(slot, name) for name in COLUMNS}


def as_text(answer: Answer | None) -> str | None:
    """An integer of any length arrives as it is wherever its text is read."""
    return None if answer is None else str(answer)


# pandas' types; an answer is an integer of any length or a text, so its column holds objects.
DTYPES = {
    "str": "object", "str | None": "object", "int": "int64", "int | None": "Int64", "bool": "bool",
}  # fmt: skip
FRAME = {
    **{
        name: DTYPES[type_]
        for name, type_ in COLUMNS.items()
        if type_ in DTYPES and name not in (*TEXTS, *NOTE, "reply_start", "answer_start")
    },
    "list_entries": "int64",
    "previous_correct": "boolean",
    "different_answers": "int64",
}
FRAME_TEXTS = dict.fromkeys(("question", "pred_solution", "reply", "visible"), "object")


def make_frame(rows: Iterable[Row], texts: bool) -> pandas.DataFrame:
    """rows: with the columns of FRAME, and of FRAME_TEXTS where `texts`. Raises UserError where
    pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise UserError("A data frame needs pandas: pip install pandas.") from error
    columns = FRAME | (FRAME_TEXTS if texts else {})
    cells = [{name: row[name] for name in columns} for row in rows]
    return pandas.DataFrame(
        {
            name: pandas.Series([row[name] for row in cells], dtype=dtype)
            for name, dtype in columns.items()
        }
    )
