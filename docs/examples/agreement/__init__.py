"""Agreement: a lesson joins the list only where two rollouts of a step give the same answer.

Every step asks the same question several times, each time with the list so far. The answer that
most rollouts gave, at least two of them, is the chain's; the first of them adds its lesson.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from msgspec import Meta

from kflow.answers import LAST_BOXED_OR_LAST, Rule
from kflow.flags import flag
from kflow.method import LeftOut, Replies, StepContext, StepNote, StepResult
from kflow.methods.notes import FIRST, Notes, empty, fill, shorten
from kflow.sections import prose, section
from kflow.types import Answer, Entry, Message, Prompt
from kflow.votes import majority


@dataclass(frozen=True)
class State:
    notes: Notes
    agreed: Answer | None = None


@dataclass(frozen=True)
class Agreement:
    """most_entries: of the list, the newest ones. budget: a reply's share of the window."""

    rollouts_per_step: Annotated[int, Meta(ge=2)] = flag(
        2, "rollouts of a step, two of which must agree"
    )
    most_entries: int = 5
    budget: float = 0.9
    rule: ClassVar[Rule] = LAST_BOXED_OR_LAST
    ahead: ClassVar[bool] = False
    prompts: ClassVar[dict[str, frozenset[str]]] = {"agreement": FIRST | {"KNOWLEDGE"}}
    prompt_folder: ClassVar[str] = str(Path(__file__).parent)

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.rollouts_per_step,)

    def start(self, question: str) -> State:
        return State(Notes(question))

    def ask(self, state: State, context: StepContext) -> tuple[Notes, ...]:
        return (state.notes,) * self.rollouts_per_step

    def render(self, view: Notes, context: StepContext) -> Prompt:
        lessons = [f"**Lesson {n}**: {entry.text}" for n, entry in enumerate(view.shown, 1)]
        listed = "\n\n".join(lessons) or "N/A"
        text = fill(context, "agreement", view.question, KNOWLEDGE=listed)
        sections = ("Lesson", "Answer")
        return Prompt((Message("user", text),), self.budget, sections=sections, shown=view.shown)

    def shrink(
        self, view: Notes, excess: int, context: StepContext
    ) -> tuple[Notes, LeftOut] | None:
        return shorten(view, excess, context)

    def update(self, state: State, replies: Replies, context: StepContext) -> StepResult[State]:
        answered = [reply for reply in replies if reply and reply.answer is not None]
        most = majority(reply.answer for reply in answered)
        agreeing = [reply for reply in answered if reply.answer == most]
        if len(agreeing) < 2:
            return StepResult(state, state.agreed, StepNote(skipped="no two rollouts agree"))
        lesson = prose(section(agreeing[0].visible, "Lesson", until="Answer") or "")
        if empty(lesson):
            note = StepNote(skipped="no [Lesson] section")
            return StepResult(replace(state, agreed=most), most, note)
        entries = (*state.notes.entries, Entry(lesson, most))
        dropped, kept = entries[: -self.most_entries], entries[-self.most_entries :]
        notes = replace(state.notes, entries=kept)
        return StepResult(State(notes, most), most, StepNote(added=entries[-1:], dropped=dropped))
