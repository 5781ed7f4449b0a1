"""PaCoRe, inference only: rounds of fewer and fewer rollouts, then one answer (docs/method.md,
section 10).

stepfun-ai/PaCoRe, without its training. Each later rollout sees all solutions of the round before
it and writes one of its own; the last round is a single rollout.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

from kflow.answers import Rule
from kflow.flags import Must, check_flags, flag
from kflow.method import Replies, StepContext, StepNote, StepResult
from kflow.methods.candidates import Candidate, Combining, View, drawn, failures, solutions
from kflow.votes import majority

# Within a budget: the published shapes. From this many rollouts on there are two rounds, the first
# of which is this many times as wide as the second.
TWO_ROUNDS, RATIO = 37, 8


def widths(rounds: str) -> tuple[int, ...]:
    """The rollouts of each round, the last one's single rollout left out. Raises ValueError with
    the end of a sentence: "must be ..."."""
    numbers = re.fullmatch(r"[1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*", rounds)
    each = tuple(map(int, rounds.split(","))) if numbers else ()
    if not numbers or any(later > earlier for earlier, later in pairwise(each)):
        raise ValueError("must be numbers of rollouts that never increase, such as 16 or 32,4")
    return each


def check(rounds: object) -> str:
    widths(text := str(rounds))
    return text


@dataclass(frozen=True)
class Rounds:
    """number: of rounds that are done. last: what the last one of them found."""

    question: str
    number: int = 0
    last: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Pacore(Combining):
    """rounds: the rollouts of each round but the last, separated by commas."""

    first: str
    later: str
    rule: Rule
    budget: float = 0.9
    rounds: Annotated[str, Must(check)] = flag(
        "16", "the rollouts of each round, such as 32,4; one last rollout follows", "N,..."
    )

    def __post_init__(self) -> None:
        check_flags(self)  # at once: how many steps there are depends on them

    @property
    def widths(self) -> tuple[int, ...]:
        return (*widths(self.rounds), 1)

    @property
    def steps(self) -> int:
        return len(self.widths)

    def within(self, rollouts: int, kept: Collection[str]) -> tuple[Pacore, int]:
        """With other rounds where they are not to be kept; no steps where even those are too
        many."""
        method, before_last = self, rollouts - 1
        if "rounds" not in kept and before_last > 0:
            second = before_last // (RATIO + 1)
            shape = f"{before_last - second},{second}" if rollouts >= TWO_ROUNDS else before_last
            method = replace(self, rounds=str(shape))
        return method, method.steps if sum(method.widths) <= rollouts else 0

    def start(self, question: str) -> Rounds:
        return Rounds(question)

    def ask(self, state: Rounds, context: StepContext) -> tuple[View, ...]:
        # A step after the last one, which checks of a method may ask, would be like the last.
        width = self.widths[min(state.number, self.steps - 1)]
        return tuple(
            View(state.question, drawn(state.last, context.draw(slot))) for slot in range(width)
        )

    def update(self, state: Rounds, replies: Replies, context: StepContext) -> StepResult[Rounds]:
        found = solutions(replies)
        after = Rounds(state.question, state.number + 1, found)
        verdict = majority(each.answer for each in found)
        return StepResult(after, verdict, StepNote(skipped=failures(replies)))
