"""Refinement: method 1 without its list (docs/method.md, section 6).

Each step sees the question and the reference solution alone, so that the difference to method 1 is
what the list adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kflow.answers import Rule
from kflow.method import Replies, StepContext, StepNote, StepResult
from kflow.methods.notes import FIRST, SECTIONS, Notes, OneByOne, first_attempt
from kflow.sections import reference
from kflow.types import Prompt


@dataclass(frozen=True)
class Refine(OneByOne):
    """What the two families' refinement differs in: its prompts, and the rule for answers."""

    first: str
    later: str
    rule: Rule
    prefill: str | None = None
    budget: float = 0.9
    slots: ClassVar[frozenset[str]] = FIRST | {"REFERENCE"}

    def render(self, view: Notes, context: StepContext) -> Prompt:
        if view.reference is None:
            return first_attempt(context, self.first, view.question, self.budget)
        return self.ask_again(view, context, SECTIONS)

    def update(self, state: Notes, replies: Replies, context: StepContext) -> StepResult[Notes]:
        (reply,) = replies
        if reply is None:
            return StepResult(state, note=StepNote(skipped="the rollout failed"))
        notes = Notes(state.question, reference=reference(reply.visible))
        return StepResult(notes, reply.answer)
