r"""Answers that are mathematical expressions, compared by math-verify (docs/method.md,
"Answers")."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from kflow.answers import worker
from kflow.answers.base import ANY_BOX, AnswerType, Rule
from kflow.types import Answer

LONGEST = 2000  # characters
TAIL = 2 * LONGEST
MARKS = re.compile(r"\\boxed\s*\{|\\\\(?!boxed\s*\{)|\\?[{}]", re.IGNORECASE)
# What a reply boxes that speaks of the box it is asked for.
PLACEHOLDERS = frozenset({"", "...", "…", r"\ldots", r"\dots", r"\cdots"})

# Braces are balanced, two deep, and everything is bounded: otherwise a grammar compiler takes
# minutes, and a small model goes on until its budget ends.
FORM = r"\\boxed\{([^\n{}]|\{([^\n{}]|\{[^\n{}]{0,8}\}){0,16}\}){1,40}\}"


@dataclass(frozen=True)
class Expression(AnswerType):
    r"""An answer is the content of a balanced `\boxed{}`, stripped of whitespace; without a box
    there is none, whatever the rule's fallback."""

    latex: ClassVar[bool] = True

    name: str = "expression"
    instruction: str = "a mathematical expression, exact and simplified"
    box: str = "expression"
    form: str = FORM

    def gold(self, raw: object) -> str:
        number = isinstance(raw, int | float | Decimal) and not isinstance(raw, bool)
        if not number and not isinstance(raw, str):
            raise ValueError("neither text nor a number")
        if isinstance(raw, float | Decimal) and not math.isfinite(raw):
            raise ValueError("not a finite number")
        if isinstance(raw, Decimal) and raw == raw.to_integral_value():
            raw = int(raw)  # JSON has no decimals
        # As a decimal: to math-verify, 1e-07 is a product with Euler's number.
        text = format(Decimal(repr(raw)), "f") if isinstance(raw, float) else str(raw).strip()
        if not text:
            raise ValueError("empty")
        if len(text) > LONGEST:
            raise ValueError(f"longer than {LONGEST:,} characters")
        return text

    def extract(self, text: str, rule: Rule) -> str | None:
        def answer(content: str) -> str | None:
            return None if content in PLACEHOLDERS or content == self.box else content

        content = boxed(text, rule, answer)
        return content if content is not None and len(content) <= LONGEST else None

    def same(self, gold: Answer, other: Answer) -> bool | None:
        if gold == other or max(len(str(gold)), len(str(other))) > LONGEST:
            return gold == other
        return worker.same(str(gold), str(other))

    def check(self) -> None:
        worker.same("1", "2")  # now, where the process cannot start, and not after a day


def boxed(text: str, rule: Rule, answer: Callable[[str], str | None]) -> str | None:
    """What the first or the last balanced box that holds an answer holds."""
    if rule.first:
        return next(filter(None, map(answer, boxes(text))), None)
    # Nearly always near the end; a box that begins there is the same without what precedes it.
    for part in (text[-TAIL:], text):
        answers = list(filter(None, map(answer, boxes(part))))
        if answers:
            return answers[-1]
    return None


def boxes(text: str) -> Iterator[str]:
    """The contents of the balanced boxes, stripped of whitespace, in the order in which the
    boxes begin, in one pass over the text."""
    first = ANY_BOX.search(text)
    opened: list[tuple[int, int] | None] = []
    closed: list[tuple[int, int]] = []
    unclosed = 0  # boxes among the opened braces
    for mark in MARKS.finditer(text, first.start() if first else len(text)):
        if mark[0] == "}":
            box = opened.pop() if opened else None
            if box:
                unclosed -= 1
                closed.append((box[1], mark.start()))
                if not unclosed:  # none that begins before these can follow
                    yield from (text[a:b].strip() for a, b in sorted(closed))
                    closed = []
        elif mark[0].endswith("{") and mark[0] != r"\{":
            opened.append(mark.span() if mark[0] != "{" else None)
            unclosed += mark[0] != "{"
    yield from (text[a:b].strip() for a, b in sorted(closed))
