"""Recursive self-aggregation: a population of solutions, recombined (docs/method.md, section 7).

arXiv 2509.26626. Each rollout sees some members of the last population and combines them into one
better solution; the new replies replace the population.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from kflow.answers import Rule
from kflow.flags import Whole, flag
from kflow.method import Learnt, LeftOut, Note, Room
from kflow.methods import candidates
from kflow.methods.notes import FIRST, SECTIONS, fill, first_attempt
from kflow.types import Answer, Message, Prompt, Reply, UserError
from kflow.votes import majority


@dataclass(frozen=True)
class Member:
    """One solution: the visible answer of a reply, and the answer it gives."""

    text: str
    answer: Answer | None


@dataclass(frozen=True)
class Population:
    """The members, in the order in which they came."""

    question: str
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class View:
    """The solutions that one rollout is shown, in that order; none before there are any."""

    question: str
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rsa:
    """first, later: prompts, without a population and with one. budget: a reply's share of the
    window."""

    first: str
    later: str
    rule: Rule
    budget: float = 0.9
    rollouts_per_step: Whole = flag(16, "size of the population", "N")
    aggregate: Whole = flag(4, "members of it that each rollout combines", "K")
    ahead: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.rollouts_per_step < 1 or self.aggregate < 1:
            raise UserError("--rollouts_per_step and --aggregate must be at least 1.")
        if self.aggregate > self.rollouts_per_step:
            raise UserError(
                f"--aggregate {self.aggregate} is more than the population has: give at most "
                f"{self.rollouts_per_step}, or raise --rollouts_per_step."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.rollouts_per_step,)

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        return {self.first: FIRST, self.later: FIRST | {"CANDIDATES"}}

    @property
    def prompt_folder(self) -> str:
        return str(Path(__file__).parent)

    def start(self, question: str) -> Population:
        return Population(question)

    def ask(self, state: Population, room: Room) -> tuple[View, ...]:
        return tuple(
            View(state.question, self._drawn(state, room.draw(slot)))
            for slot in range(self.rollouts_per_step)
        )

    def _drawn(self, state: Population, draw: int) -> tuple[str, ...]:
        """The members that a slot is shown, by a stable number of the slot's."""

        def order(index: int) -> str:
            return hashlib.sha256(f"{draw}/{index}".encode()).hexdigest()

        drawn = sorted(range(len(state.members)), key=order)[: self.aggregate]
        return tuple(state.members[index].text for index in drawn)

    def render(self, view: View, room: Room) -> Prompt:
        if not view.shown:
            return first_attempt(room, self.first, view.question, self.budget)
        shown = candidates.numbered(view.shown)
        text = fill(room, self.later, view.question, CANDIDATES=shown)
        return Prompt((Message("user", text),), self.budget, sections=SECTIONS)

    def shrink(self, view: View, excess: int, room: Room) -> tuple[View, LeftOut] | None:
        shorter = candidates.shorten(view.shown, excess, room)
        if shorter is None:
            return None
        return replace(view, shown=shorter[0]), LeftOut(tokens=shorter[1])

    def update(
        self, state: Population, replies: tuple[Reply | None, ...], room: Room
    ) -> Learnt[Population]:
        """Replace the population; where fewer than K replies came, its last members stay."""
        members = tuple(Member(r.visible.strip(), r.answer) for r in replies if r is not None)
        failed = len(replies) - len(members)
        if len(members) < self.aggregate:
            members = (*state.members, *members)[-self.aggregate :]
        note = Note(skipped=f"{failed} of {len(replies)} rollouts failed") if failed else Note()
        verdict = majority(member.answer for member in members)
        return Learnt(replace(state, members=members), verdict, note)
