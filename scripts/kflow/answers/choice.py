r"""Answers that are one of several choices, by letter (docs/method.md, "Answers")."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from kflow.answers.base import Rule
from kflow.answers.expression import boxed
from kflow.types import Answer

MOST = 10  # beyond J letters are more often names than choices
# A letter alone, or a letter and its choice, in whatever markup: B, (B), \text{B}, B) 4 m, **B.**
LETTER = re.compile(r"(?:\\[a-z]+\s*\{|[\s({\[*$\"'])*([A-Za-z])(?:[\s)}\]*$\"'.,:]*$|[).:}])")


@dataclass(frozen=True)
class Choice:
    r"""An answer is one letter, in a box, or the last stand-alone capital where the rule has a
    fallback. count: how many choices a problem has, or the problem with the most."""

    count: int = 4
    instruction: str = "a single letter"
    box: str = "letter"

    @property
    def name(self) -> str:
        return "choice" if self.count == 4 else f"choice_{self.count}"

    @property
    def letters(self) -> str:
        return ascii_uppercase[: self.count]

    @property
    def form(self) -> str:
        return rf"\\boxed\{{[A-{self.letters[-1]}]\}}"

    def gold(self, raw: object) -> str:
        letter = self._letter(raw) if isinstance(raw, str) else None
        if letter is None:
            raise ValueError(f"not a letter from A to {self.letters[-1]}")
        return letter

    def extract(self, text: str, rule: Rule) -> str | None:
        letter = boxed(text, rule, self._letter)
        if letter or not rule.fallback:
            return letter
        alone: list[str] = re.findall(rf"[{self.letters}](?<![\w\\'’].)(?![\w'’])", text)
        return alone[-1] if alone else None

    def same(self, gold: Answer, other: Answer) -> bool:
        return gold == other

    def _letter(self, text: str) -> str | None:
        match = LETTER.match(text)
        letter = match[1].upper() if match else ""
        return letter if letter and letter in self.letters else None


def order(id: str, count: int) -> tuple[int, ...]:
    """The order in which a problem's choices are shown, the same wherever it is asked."""

    def draw(index: int) -> bytes:
        return hashlib.sha256(f"{id}\0{index}".encode()).digest()

    return tuple(sorted(range(count), key=draw))


def lettered(question: str, choices: Sequence[str]) -> str:
    """The question, then a line for each choice."""
    lines = (f"({letter}) {text}" for letter, text in zip(ascii_uppercase, choices, strict=False))
    return "\n".join([question.rstrip(), "", *lines])
