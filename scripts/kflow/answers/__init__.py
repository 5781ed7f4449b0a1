"""Answer types: integer, expression, choice (docs/method.md, "Answers")."""

from __future__ import annotations

import re
import sys

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
    """The answer type that has this name. Raises ValueError.

    A type from outside is named by where it is found, `package.module:Type`. Its module must have
    been imported: names come from results folders too, and no file decides what is run.
    """
    if name == "integer":
        return Integer()
    if name == "expression":
        return Expression()
    if match := re.fullmatch(r"choice(?:_([2-9]|10))?", name):
        return Choice(int(match[1] or 4))
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"{name!r} is not an answer type")
    if module not in sys.modules:
        raise ValueError(f"{name!r} is an answer type of a module that is not imported")
    kind = getattr(sys.modules[module], attribute, None)
    if not isinstance(kind, type) or AnswerType not in kind.__mro__:
        raise ValueError(f"{name!r} is not an answer type")
    found: AnswerType = kind()
    if found.name != name:
        raise ValueError(f"{name!r} is the answer type {found.name!r}")
    return found
