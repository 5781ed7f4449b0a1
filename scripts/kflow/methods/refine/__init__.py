"""Refinement: method 1 without its list (docs/method.md, section 6).

Each step sees the question and the reference solution alone, so that the difference to method 1 is
what the list adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kflow.answers import Rule
from kflow.method import Learnt, LeftOut, Note, Room
from kflow.methods.notes import FIRST, SECTIONS, Notes, fill, first_attempt, shorten
from kflow.sections import reference
from kflow.types import Message, Prompt, Reply


@dataclass(frozen=True)
class Refine:
    """What the two families' refinement differs in.

    first, later: prompts, before and after the chain has a reference solution. prefill: the prompt
    that begins the model's thinking at later steps, or None. budget: a reply's share of the window.
    """

    first: str
    later: str
    rule: Rule
    prefill: str | None = None
    budget: float = 0.9
    ahead: ClassVar[bool] = False
    widths: ClassVar[tuple[int, ...]] = (1,)

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        begin: dict[str, frozenset[str]] = {self.prefill: frozenset()} if self.prefill else {}
        return {self.first: FIRST, self.later: FIRST | {"REFERENCE"}} | begin

    @property
    def prompt_folder(self) -> str:
        return str(Path(__file__).parent)

    def start(self, question: str) -> Notes:
        return Notes(question)

    def ask(self, state: Notes, room: Room) -> tuple[Notes]:
        return (state,)

    def render(self, view: Notes, room: Room) -> Prompt:
        if view.reference is None:
            return first_attempt(room, self.first, view.question, self.budget)
        text = fill(room, self.later, view.question, REFERENCE=view.reference)
        prefill = room.templates[self.prefill].fill() if self.prefill else ""
        return Prompt((Message("user", text),), self.budget, prefill, sections=SECTIONS)

    def shrink(self, view: Notes, excess: int, room: Room) -> tuple[Notes, LeftOut] | None:
        return shorten(view, excess, room)

    def update(self, state: Notes, replies: tuple[Reply | None, ...], room: Room) -> Learnt[Notes]:
        (reply,) = replies
        if reply is None:
            return Learnt(state, note=Note(skipped="the rollout failed"))
        notes = Notes(state.question, reference=reference(reply.visible))
        return Learnt(notes, reply.answer)
