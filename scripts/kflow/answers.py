r"""What an answer is: a property of the data (METHOD.md, "Answers").

An AnswerType says how a gold value is read, how an answer is extracted from text and when two
answers are the same. Everything that compares answers asks `same`: grading, "the answer changed",
filing, early stopping, votes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from .types import Answer

BOXED = re.compile(r"\\boxed\{([+-]?[0-9]+)\}", re.IGNORECASE)
ANY_BOX = re.compile(r"\\boxed\s*\{", re.IGNORECASE)
DIGITS = re.compile(r"-?[0-9]+")
INTEGER = re.compile(r"\s*[+-]?[0-9]{1,4300}\s*")
LONGEST = 4300  # digits; Python refuses to read more, and a model that writes them is in a loop


@dataclass(frozen=True)
class Rule:
    """A script's extraction rule (METHOD.md, "Defaults"): the first or the last boxed answer, and
    whether the last answer anywhere counts where there is no box."""

    first: bool
    fallback: bool


FIRST_BOXED = Rule(first=True, fallback=False)
FIRST_BOXED_OR_LAST = Rule(first=True, fallback=True)
LAST_BOXED_OR_LAST = Rule(first=False, fallback=True)


class AnswerType(Protocol):
    """instruction: completes "The answer is ..." in a prompt. box: what stands in the box that a
    reply is asked for, `\\boxed{<box>}`. form: a regular expression for the answer section, for
    --force_sections.

    gold: a data set's value -> answer; raises ValueError for a value of another type.
    same: gold or earlier answer first; None where the comparison was given up (undecided).
    """

    @property
    def name(self) -> str: ...

    @property
    def instruction(self) -> str: ...

    @property
    def box(self) -> str: ...

    @property
    def form(self) -> str: ...

    def gold(self, raw: object) -> Answer: ...

    def extract(self, text: str, rule: Rule) -> Answer | None: ...

    def same(self, gold: Answer, other: Answer) -> bool | None: ...


@dataclass(frozen=True)
class Integer:
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
    found = None
    for match in DIGITS.finditer(text):
        found = match.group()
    return int(found) if found is not None and readable(found) else None


def readable(digits: str) -> bool:
    return len(digits.lstrip("+-")) <= LONGEST


def has_box(text: str) -> bool:
    """Whether a reply holds a box of any content."""
    return ANY_BOX.search(text) is not None


class Sameness:
    """Sameness of a chain's answers, in which an undecided comparison counts as different.

    undecided: the comparisons given up so far, those on record when a chain is replayed, which are
    not tried again.
    """

    def __init__(
        self, answers: AnswerType, undecided: Iterable[tuple[Answer, Answer]] = ()
    ) -> None:
        self._answers = answers
        self.undecided = list(undecided)

    def __call__(self, first: Answer, other: Answer) -> bool:
        if (first, other) in self.undecided:
            return False
        verdict = self._answers.same(first, other)
        if verdict is None:
            self.undecided.append((first, other))
        return verdict is True

    def canonical(self, answer: Answer | None, earlier: Iterable[Answer]) -> Answer | None:
        """The earliest of a chain's answers that is the same, else the answer itself."""
        if answer is None:
            return None
        return next((old for old in earlier if self(old, answer)), answer)
