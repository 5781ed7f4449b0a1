"""Method 4, Markovian thinking: the baseline without a knowledge list (docs/method.md, section 4).

A chain is one long text. Each step sees the question and the text's tail, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from kflow.answers import Rule
from kflow.method import LeftOut, Replies, StepContext, StepNote, StepResult
from kflow.methods.notes import PROMPTS, cut
from kflow.sections import FINAL, FINAL_MARKUP
from kflow.types import Message, Prompt

TAIL_FRACTION = 0.45
FIRST_FRACTION = 0.9
LATER_FRACTION = 0.5


@dataclass(frozen=True)
class Tail:
    """What a chain carries, and what a prompt shows of it. text: the text so far, as far as it was
    carried; in a view, its last sentences; None before there is one."""

    question: str
    text: str | None = None


@dataclass(frozen=True)
class Markovian:
    """What the baselines differ in.

    nudge: the prompt that follows the tail and asks for more thought, or that has the tail in its
    slot. appended: a later step's reply -> the part of it that joins the text. whole_tail: the tail
    begins the turn in which the reply goes on, rather than being a turn of its own, of which a chat
    template may drop parts.
    """

    nudge: str
    appended: Callable[[str], str]
    rule: Rule
    whole_tail: bool = False
    prompt_folder: ClassVar[str] = PROMPTS
    ahead: ClassVar[bool] = False
    widths: ClassVar[tuple[int, ...]] = (1,)

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        return {self.nudge: frozenset({"TAIL"})}

    def start(self, question: str) -> Tail:
        return Tail(question)

    def ask(self, state: Tail, context: StepContext) -> tuple[Tail]:
        if state.text is None:
            return (state,)
        # Where the last sentence alone is over the budget the tail is empty: the step sees the
        # question and the nudge.
        tail = context.last_sentences(state.text, int(TAIL_FRACTION * context.window))
        return (Tail(state.question, tail),)

    def render(self, view: Tail, context: StepContext) -> Prompt:
        question = Message("user", view.question)
        if view.text is None:
            return Prompt((question,), FIRST_FRACTION)
        template = context.templates[self.nudge]
        form = "{}" if "TAIL" in template.slots else "{TAIL}\n{}\n"
        carried, nudge = (
            form.format(template.fill(TAIL=tail), TAIL=tail) for tail in (view.text, "")
        )
        if self.whole_tail:
            return Prompt((question,), LATER_FRACTION, carried, carried, nudge)
        turns = (question, Message("assistant", carried))
        return Prompt(turns, LATER_FRACTION, continues=carried, nudge=nudge)

    def shrink(self, view: Tail, excess: int, context: StepContext) -> tuple[Tail, LeftOut] | None:
        if not view.text:
            return None
        kept, tokens = cut(view.text, excess, context)
        return replace(view, text=kept), LeftOut(tokens=tokens)

    def update(self, state: Tail, replies: Replies, context: StepContext) -> StepResult[Tail]:
        """Join the reply to the text that it goes on from."""
        (reply,) = replies
        if reply is None:
            return StepResult(state, note=StepNote(skipped="the rollout failed"))
        new = reply.text if state.text is None else self.appended(reply.text)
        return StepResult(replace(state, text=reply.continues + new), reply.answer)


def before_final(text: str) -> str:
    """gpt-oss: only what precedes its final message, the thinking."""
    mark = FINAL_MARKUP if FINAL_MARKUP in text else FINAL
    return text.partition(mark)[0].removesuffix("<|end|><|start|>assistant")


def everything(text: str) -> str:
    """Qwen: the whole reply."""
    return text
