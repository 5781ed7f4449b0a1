"""Method 2, knowledge regeneration: the list is written anew in every reply (docs/method.md,
section 2).

An ablation of method 1 with the same headings and reference solution: the model's latest list of
things to avoid replaces the one before it, also where it is truncated or empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kflow.answers import Rule
from kflow.method import Replies, StepContext, StepNote, StepResult
from kflow.methods.notes import SECTIONS, Notes, OneByOne, first_attempt
from kflow.sections import prose, reference
from kflow.types import Entry, Prompt

HEADER = "Things to Avoid"
LIST_FRACTION = 0.1


@dataclass(frozen=True)
class Regeneration(OneByOne):
    """What the two families' regeneration differs in, beside the prompts.

    new_list: visible answer -> the list in it and whether its section is complete.
    """

    first: str
    later: str
    new_list: Callable[[str], tuple[str, bool]]
    rule: Rule
    budget: float
    prefill: str | None = None

    def render(self, view: Notes, context: StepContext) -> Prompt:
        sections = (HEADER, *SECTIONS)
        if view.reference is None:
            return first_attempt(context, self.first, view.question, self.budget, sections)
        shown = list(enumerate(view.shown, 1))
        return self.ask_again(view, context, sections, shown, "{1}")

    def update(self, state: Notes, replies: Replies, context: StepContext) -> StepResult[Notes]:
        (reply,) = replies
        if reply is None:
            return StepResult(state, note=StepNote(skipped="the rollout failed"))
        text, complete = self.new_list(reply.visible)
        kept = context.last_sentences(text, int(LIST_FRACTION * context.window))
        entries = (Entry(kept),) if kept else ()
        note = StepNote(entries, replaced=True, truncated=() if complete else (HEADER,))
        notes = Notes(state.question, entries, reference(reply.visible))
        return StepResult(notes, reply.answer, note)


def after_header_with_colon(visible: str) -> tuple[str, bool]:
    """gpt-oss: the header counts only with its colon."""
    return latest_list(visible, f"[{HEADER}]:")


def after_header(visible: str) -> tuple[str, bool]:
    """Qwen: the first colon dropped, the first letter lower-cased."""
    text, ended = latest_list(visible, f"[{HEADER}]")
    return prose(text), ended and prose(text) != ""


def latest_list(visible: str, header: str) -> tuple[str, bool]:
    """What follows the last `header`, or all there is without it, up to `[Summary]` or the end; and
    whether it is there and ended by `[Summary]`."""
    text, summary, _ = visible.rpartition(header)[2].partition("[Summary]")
    return text.strip(), bool(text.strip() and summary)
