r"""Answers that are one integer, as published (docs/method.md, "Defaults")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from kflow.answers.base import AnswerType, Rule
from kflow.types import Answer

BOXED = re.compile(r"\\boxed\{([+-]?[0-9]+)\}", re.IGNORECASE)
DIGITS = re.compile(r"-?[0-9]+")
INTEGER = re.compile(r"\s*[+-]?[0-9]{1,4299}\s*")
LONGEST = 4300  # characters: a record is not read with more, and such a model is in a loop


@dataclass(frozen=True)
class Integer(AnswerType):
    r"""The published behaviour. An answer is `\boxed{<integer>}`; "the last integer anywhere" is
    the last run of digits with a minus sign directly before it."""

    name: str = "integer"
    instruction: str = "a single integer"
    box: str = "integer"
    form: str = r"\\boxed\{-?[0-9]{1,6}\}"

    def gold(self, raw: object) -> int:
        if isinstance(raw, Decimal) and raw == raw.to_integral_value():
            raw = int(raw)  # JSON has no decimals
        text = str(int(raw)) if isinstance(raw, float) and raw.is_integer() else str(raw)
        if isinstance(raw, bool) or not INTEGER.fullmatch(text):
            raise ValueError("not an integer")
        return int(text)

    def extract(self, text: str, rule: Rule) -> int | None:
        boxed = [int(digits) for digits in BOXED.findall(text) if readable(digits)]
        if boxed:
            return boxed[0] if rule.first else boxed[-1]
        return last_integer(text) if rule.fallback else None

    def same(self, gold: Answer, other: Answer) -> bool:
        return gold == other


def last_integer(text: str) -> int | None:
    last = None
    for match in DIGITS.finditer(text):
        last = match.group()
    return int(last) if last is not None and readable(last) else None


def readable(digits: str) -> bool:
    return len(digits) <= LONGEST
