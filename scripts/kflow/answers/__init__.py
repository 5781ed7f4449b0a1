"""Answer types: integer, expression, choice (docs/method.md, "Answers")."""

from __future__ import annotations

import re

from kflow.answers.base import (
    FIRST_BOXED,
    FIRST_BOXED_OR_LAST,
    LAST_BOXED_OR_LAST,
    AnswerType,
    Rule,
    Sameness,
    has_box,
)
from kflow.answers.choice import Choice
from kflow.answers.expression import Expression
from kflow.answers.integer import LONGEST, Integer, last_integer, readable

__all__ = [
    "FIRST_BOXED",
    "FIRST_BOXED_OR_LAST",
    "LAST_BOXED_OR_LAST",
    "LONGEST",
    "AnswerType",
    "Choice",
    "Expression",
    "Integer",
    "Rule",
    "Sameness",
    "by_name",
    "has_box",
    "last_integer",
    "readable",
]


def by_name(name: str) -> AnswerType:
    """The answer type that has this name. Raises ValueError."""
    if name == "integer":
        return Integer()
    if name == "expression":
        return Expression()
    match = re.fullmatch(r"choice(?:_([2-9]|10))?", name)
    if not match:
        raise ValueError(f"{name!r} is not an answer type")
    return Choice(int(match[1] or 4))
