"""Votes over answers (docs/method.md, "Rivals at equal budget")."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import eq

from kflow.types import Answer


def majority(
    answers: Iterable[Answer | None], same: Callable[[Answer, Answer], bool] = eq
) -> Answer | None:
    """The most frequent answer, of several the one that came first; None does not vote.

    same: the earlier answer first. Answers that are canonical, as those of one chain are, are the
    same where they are equal. Equal answers are never compared.
    """
    votes: dict[Answer, int] = {}
    for answer in answers:
        if answer is None:
            continue
        if answer not in votes:
            answer = next((earlier for earlier in votes if same(earlier, answer)), answer)
        votes[answer] = votes.get(answer, 0) + 1
    return max(votes, key=lambda answer: votes[answer], default=None)
