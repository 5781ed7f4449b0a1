"""Several solutions of a problem side by side, to be combined or compared, and what the methods
share that combine them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from kflow.method import LeftOut, StepContext
from kflow.methods.notes import FIRST, PROMPTS, SECTIONS, cut, fill, first_attempt
from kflow.types import Answer, Message, Prompt, Reply


@dataclass(frozen=True)
class Candidate:
    """One solution: the visible answer of a reply, and the answer it gives."""

    text: str
    answer: Answer | None


@dataclass(frozen=True)
class View:
    """The solutions that one rollout is shown, in that order; none before there are any."""

    question: str
    shown: tuple[str, ...] = ()


class Combining:
    """The members that methods share whose later rollouts combine candidates into a solution.

    first, later: prompts, without candidates and with some. budget: a reply's share of the window.
    A method that is a dataclass has them as its fields.
    """

    first: str
    later: str
    budget: float
    prompt_folder: ClassVar[str] = PROMPTS
    ahead: ClassVar[bool] = False

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        return {self.first: FIRST, self.later: FIRST | {"CANDIDATES"}}

    def render(self, view: View, context: StepContext) -> Prompt:
        if not view.shown:
            return first_attempt(context, self.first, view.question, self.budget)
        text = fill(context, self.later, view.question, CANDIDATES=numbered(view.shown))
        return Prompt((Message("user", text),), self.budget, sections=SECTIONS)

    def shrink(self, view: View, excess: int, context: StepContext) -> tuple[View, LeftOut] | None:
        shorter = shorten(view.shown, excess, context)
        if shorter is None:
            return None
        return replace(view, shown=shorter[0]), LeftOut(tokens=shorter[1])


def solutions(replies: Sequence[Reply | None]) -> tuple[Candidate, ...]:
    """What the rollouts that did not fail found, in slot order."""
    return tuple(Candidate(r.visible.strip(), r.answer) for r in replies if r is not None)


def failures(replies: Sequence[Reply | None]) -> str:
    """How many of a step's rollouts failed, for its note; "" for none."""
    failed = sum(reply is None for reply in replies)
    return f"{failed} of {len(replies)} rollouts failed" if failed else ""


def drawn(candidates: Sequence[Candidate], draw: int) -> tuple[str, ...]:
    """The candidates' texts in the order that a slot's number gives them: that of the sha256 of
    number and index."""

    def order(index: int) -> str:
        return hashlib.sha256(f"{draw}/{index}".encode()).hexdigest()

    return tuple(candidates[index].text for index in sorted(range(len(candidates)), key=order))


def numbered(texts: Sequence[str]) -> str:
    return "\n\n".join(f"### Candidate {n}\n{text or 'N/A'}" for n, text in enumerate(texts, 1))


def shorten(
    texts: Sequence[str], excess: int, context: StepContext
) -> tuple[tuple[str, ...], int] | None:
    """Texts cut to their last sentences, so that they take `excess` tokens less: none has more than
    an equal share, and what short ones leave of theirs is the others'. Also the number of tokens
    that are gone. None where nothing is left to cut."""
    if not any(texts):
        return None
    lengths = [context.count(text) for text in texts]
    share, saved, kept = equal_share(lengths, sum(lengths) - excess), 0, list(texts)
    for n, length in enumerate(lengths):
        if texts[n] and length > share:
            kept[n], less = cut(texts[n], length - share, context)
            saved += less
    return tuple(kept), saved


def equal_share(lengths: Sequence[int], total: int) -> int:
    """The most that each may have so that all together have at most `total`."""
    left = total
    for rank, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - rank)
        if length > share:
            return share
        left -= length
    return max(lengths, default=0)
