r"""What an answer is: a property of the data (docs/method.md, "Answers").

An AnswerType says how a gold value is read, how an answer is extracted from text and when two
answers are the same. Everything that compares answers asks `same`: grading, "the answer changed",
filing, early stopping, votes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from kflow.types import Answer

ANY_BOX = re.compile(r"\\boxed\s*\{", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """A script's extraction rule (docs/method.md, "Defaults"): the first or the last boxed answer,
    and whether the last answer anywhere counts where there is no box."""

    first: bool
    fallback: bool


FIRST_BOXED = Rule(first=True, fallback=False)
FIRST_BOXED_OR_LAST = Rule(first=True, fallback=True)
LAST_BOXED_OR_LAST = Rule(first=False, fallback=True)


class AnswerType(Protocol):
    """What an answer is. A type of your own inherits from this; its name is where it is found,
    `package.module:Type` (`by_name`).

    instruction: completes "The answer is ..." in a prompt. box: what stands in the box that a
    reply is asked for, `\\boxed{<box>}`. form: a regular expression for the answer section, for
    --force_sections.

    gold: a data set's value -> answer; raises ValueError for a value of another type.
    same: gold or earlier answer first; None where the comparison was given up (undecided).
    """

    latex: ClassVar[bool] = False  # whether answers are LaTeX, for whoever shows them

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

    def fitted(self, raws: Iterable[object]) -> AnswerType:
        """The type for a data set with these gold values."""
        return self

    def check(self) -> None:
        """Raise UserError where answers cannot be compared on this machine."""
        return None


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
        same = self._answers.same(first, other)
        if same is None:
            self.undecided.append((first, other))
        return same is True

    def canonical(self, answer: Answer | None, earlier: Iterable[Answer]) -> Answer | None:
        """The earliest of a chain's answers that is the same, else the answer itself."""
        if answer is None:
            return None
        return next((old for old in earlier if self(old, answer)), answer)
