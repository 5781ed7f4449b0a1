"""Method 2, knowledge regeneration: the list is written anew in every reply (docs/method.md,
section 2).

An ablation of method 1 with the same headings and reference solution: the model's latest list of
things to avoid replaces the one before it, also where it is truncated or empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kflow.answers import Rule
from kflow.method import Learnt, LeftOut, Note, Room
from kflow.methods.notes import FIRST, LATER, Notes, fill, shorten
from kflow.sections import prose, reference
from kflow.types import Entry, Message, Prompt, Reply

HEADER = "Things to Avoid"
LIST_FRACTION = 0.1


@dataclass(frozen=True)
class Regeneration:
    """What the two families' regeneration differs in.

    first, later: prompts, before and after the chain has a reference solution. prefill: the prompt
    that begins the model's thinking at later steps, or None. new_list: visible answer -> the list
    in it and whether its section is complete. budget: a reply's share of the window.
    """

    first: str
    later: str
    new_list: Callable[[str], tuple[str, bool]]
    rule: Rule
    budget: float
    prefill: str | None = None
    ahead: ClassVar[bool] = False
    widths: ClassVar[tuple[int, ...]] = (1,)

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        begin: dict[str, frozenset[str]] = {self.prefill: frozenset()} if self.prefill else {}
        return {self.first: FIRST, self.later: LATER} | begin

    @property
    def prompt_folder(self) -> str:
        return str(Path(__file__).parent)

    def start(self, question: str) -> Notes:
        return Notes(question)

    def ask(self, state: Notes, room: Room) -> tuple[Notes]:
        return (state,)

    def render(self, view: Notes, room: Room) -> Prompt:
        sections = (HEADER, "Summary", "Answer")
        if view.reference is None:
            text = fill(room, self.first, view.question)
            return Prompt((Message("user", text),), self.budget, sections=sections)
        text = fill(
            room,
            self.later,
            view.question,
            KNOWLEDGE="\n\n".join(entry.text for entry in view.shown) or "N/A",
            REFERENCE=view.reference,
        )
        return Prompt(
            (Message("user", text),),
            self.budget,
            prefill=room.templates[self.prefill].fill() if self.prefill else "",
            sections=sections,
            shown=view.shown,
        )

    def shrink(self, view: Notes, excess: int, room: Room) -> tuple[Notes, LeftOut] | None:
        return shorten(view, excess, room)

    def update(self, state: Notes, replies: tuple[Reply | None, ...], room: Room) -> Learnt[Notes]:
        (reply,) = replies
        if reply is None:
            return Learnt(state, note=Note(skipped="the rollout failed"))
        text, complete = self.new_list(reply.visible)
        kept = room.last_sentences(text, int(LIST_FRACTION * room.window))
        entries = (Entry(kept),) if kept else ()
        note = Note(entries, replaced=True, truncated=() if complete else (HEADER,))
        notes = Notes(state.question, entries, reference(reply.visible))
        return Learnt(notes, reply.answer, note)


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
