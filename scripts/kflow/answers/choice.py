r"""Answers that are one of several choices, by letter (docs/method.md, "Answers")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from string import ascii_uppercase

from kflow.answers.base import AnswerType, Rule
from kflow.answers.expression import boxed
from kflow.types import Answer

FEWEST, MOST = 4, 10  # beyond J letters are more often names than choices
STYLE = r"\\(?:text\w*|math(?:rm|bf|sf|it|tt)|mbox|boxed|bm|boldsymbol|underline)\s*\{"
MARKUP = rf"(?:{STYLE}|\\[(\[,;:! ]|\\q?quad\b|[\s~(){{}}\[*_$\"'`])*"
# A letter alone, or a letter and its choice, in whatever markup and however introduced:
# B, (B), \text{Option B}, B) 4 m, **B.**, B - 4 m, B (4 m)
LETTER = re.compile(
    rf"{MARKUP}(?:(?i:(?:the )?(?:(?:correct|right|final|best) )?(?:answer|option|choice)(?: is)?)"
    rf"(?=[\s:({{\[*~]):?{MARKUP})?"
    r"([A-Za-z])(?:[\s~)}\]*_$\"'`.,;:!\\]*$|[).:}]"
    rf"|(?<=[A-Z])(?:{STYLE})?\s+(?:[-–—]\s+|=\s+(?=\\text|[A-Za-z]{{3}})|\()(?!\w\W*$))"
)

# How near a letter's sentence is read, in characters before and after it.
BEFORE, AFTER = 80, 60
DECORATION = re.compile(r"\\[A-Za-z]+(?=\s*\{)|[*_`$\"“”(){}\[\]\\]")
# The answer is C. Answer: C. Final answer: option C. My choice is C.
NAMED_BEFORE = re.compile(
    r"(?<!not )\b(?:answer|option|choice)(?:[^.?!;\n]{0,40}?\b(?:is|be|are))?\s*[:=]?\s*"
    r"(?:\b(?:the|option|choice|letter)\s+)*$",
    re.IGNORECASE,
)
# C is the answer. C must be the only correct option.
NAMED_AFTER = re.compile(
    r"\s*(?:is|must be|has to be)\s+(?:\w+\s+){0,4}(?:answer|option|choice)\b", re.IGNORECASE
)
NEGATION = re.compile(r"\b(?:not|never|cannot|neither|\w*n['’]t|wrong|incorrect)\b", re.IGNORECASE)
REFUSED_AFTER = re.compile(
    r"\s*(?:(?:is|was|are|must be|would be)\s+(?:\w+\s+){0,2}"
    r"(?:not|incorrect|wrong|false|impossible|out|eliminated|excluded|ruled)\b"
    r"|cannot|can['’]t|isn['’]t|does\s?n[o'’]t|fails|contradicts)",
    re.IGNORECASE,
)
# "A" before any other word is an article, and "I" a pronoun.
WORD_AFTER = re.compile(
    r"\s+(?!(?:and|as|because|but|by|due|for|from|given|if|in|is|or|since|so|where|which|while"
    r"|with)\b)[a-z]"
)
BRACKETS = re.compile(r"(?:(?<!\w)[(\[{]|\\[A-Za-z]+\s*\{\s*\(?)\s*$"), re.compile(r"\s*[)\]}]")
LINE = re.compile(r"(?:^|\n)[ \t]*$"), re.compile(r"[.)]?[ \t]*(?:\n|$)")
SENTENCE = re.compile(r"(?:^|[.?!]\s+|\n\s*)$"), re.compile(r"\s+\w")


@dataclass(frozen=True)
class Choice(AnswerType):
    r"""An answer is one letter, in a box, or, where the rule has a fallback, the letter that the
    text names. count: how many choices a problem has, or the problem with the most."""

    count: int = FEWEST
    instruction: str = "a single letter"
    box: str = "letter"

    @property
    def name(self) -> str:
        return "choice" if self.count == FEWEST else f"choice_{self.count}"

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
        return letter or (self._named(text) if rule.fallback else None)

    def same(self, gold: Answer, other: Answer) -> bool:
        return gold == other

    def fitted(self, raws: Iterable[object]) -> Choice:
        """With as many choices as the gold letters show there to be."""
        widest = Choice(MOST)
        letters = [
            letter for raw in raws if isinstance(raw, str) if (letter := widest._letter(raw))
        ]
        return Choice(max(FEWEST, *(widest.letters.index(letter) + 1 for letter in letters), 0))

    def _letter(self, text: str) -> str | None:
        match = LETTER.match(text)
        letter = match[1].upper() if match else ""
        return letter if letter and letter in self.letters else None

    def _named(self, text: str) -> str | None:
        """The last letter that is named as the answer, else that is marked, else that is no word
        of its sentence."""
        best, found = 0, None
        for match in re.finditer(rf"(?<![\w\\'’])[{self.letters}](?![\w'’])", text):
            standing = rank(match[0], text[: match.start()][-BEFORE:], text[match.end() :][:AFTER])
            if standing and standing >= best:
                best, found = standing, match[0]
        return found


def rank(letter: str, before: str, after: str) -> int:
    """How a letter by itself stands in its sentence: named as the answer 3, marked 2, no word 1,
    a word or refused 0."""
    if letter in "AI" and WORD_AFTER.match(after):
        return 0
    said, goes_on = DECORATION.sub("", before), DECORATION.sub("", after)
    if REFUSED_AFTER.match(goes_on):
        return 0
    for part in (NAMED_BEFORE.search(said), NAMED_AFTER.match(goes_on)):
        if part and not NEGATION.search(part[0]):
            return 3
    if any(b.search(before) and a.match(after) for b, a in (BRACKETS, LINE)):
        return 2
    if re.search(r"\*\*\(?$", before):
        return 2
    first = SENTENCE[0].search(before) and SENTENCE[1].match(after)
    pronoun = letter == "I" and not re.match(r"\s*(?:[.;:)]|$)", after)
    return 0 if first or pronoun else 1
