"""Parallel thinking: independent attempts and their majority (docs/method.md, section 5).

Self-consistency, arXiv 2203.11171. Nothing is carried from one attempt to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from kflow.answers import Rule
from kflow.method import LeftOut, Replies, StepContext, StepNote, StepResult
from kflow.methods.notes import FIRST, PROMPTS, first_attempt
from kflow.types import Answer, Prompt
from kflow.votes import majority


@dataclass(frozen=True)
class Attempts:
    """The chain's own answers so far, in the order of steps."""

    question: str
    answers: tuple[Answer | None, ...] = ()


@dataclass(frozen=True)
class Parallel:
    """first: the prompt of every attempt. budget: a reply's share of the window."""

    first: str
    rule: Rule
    budget: float = 0.9
    prompt_folder: ClassVar[str] = PROMPTS
    ahead: ClassVar[bool] = True
    widths: ClassVar[tuple[int, ...]] = (1,)

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        return {self.first: FIRST}

    def start(self, question: str) -> Attempts:
        return Attempts(question)

    def ask(self, state: Attempts, context: StepContext) -> tuple[str]:
        return (state.question,)

    def render(self, view: str, context: StepContext) -> Prompt:
        return first_attempt(context, self.first, view, self.budget)

    def shrink(self, view: str, excess: int, context: StepContext) -> tuple[str, LeftOut] | None:
        return None

    def update(
        self, state: Attempts, replies: Replies, context: StepContext
    ) -> StepResult[Attempts]:
        (reply,) = replies
        note = StepNote() if reply else StepNote(skipped="the rollout failed")
        answers = (*state.answers, reply.answer if reply else None)
        return StepResult(replace(state, answers=answers), majority(answers), note)
