"""What prompts show of a chain's earlier attempts: a knowledge list and a reference solution, and
what the methods have in common that work with these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from kflow.method import LeftOut, StepContext
from kflow.types import Entry, Message, Prompt

FIRST = frozenset({"QUESTION", "ANSWER", "BOX"})
LATER = FIRST | {"KNOWLEDGE", "REFERENCE"}
SECTIONS = ("Summary", "Answer")
PROMPTS = str(Path(__file__).parent / "prompts")

# Tokens, more than the number and the blank line of an entry take.
NUMBERING = 16


@dataclass(frozen=True)
class Notes:
    """What a chain carries from step to step and its prompts show.

    entries: the knowledge list, oldest first. reference: the reference solution, None before there
    is one. hidden: how many of the oldest entries are not shown.
    """

    question: str
    entries: tuple[Entry, ...] = ()
    reference: str | None = None
    hidden: int = 0

    @property
    def shown(self) -> tuple[Entry, ...]:
        return self.entries[self.hidden :]


class OneByOne:
    """The members that methods share whose steps are one rollout each, asked with the notes that
    the ones before it left.

    first, later: prompts, before and after the chain has a reference solution. budget: a reply's
    share of the window. prefill: the prompt that begins the model's thinking at later steps, or
    None. A method that is a dataclass has them as its fields.
    """

    first: str
    later: str
    budget: float
    prefill: str | None = None
    slots: ClassVar[frozenset[str]] = LATER
    prompt_folder: ClassVar[str] = PROMPTS
    ahead: ClassVar[bool] = False
    widths: ClassVar[tuple[int, ...]] = (1,)

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        begin: dict[str, frozenset[str]] = {self.prefill: frozenset()} if self.prefill else {}
        return {self.first: FIRST, self.later: self.slots} | begin

    def start(self, question: str) -> Notes:
        return Notes(question)

    def ask(self, state: Notes, context: StepContext) -> tuple[Notes]:
        return (state,)

    def ask_again(
        self,
        view: Notes,
        context: StepContext,
        sections: tuple[str, ...],
        numbered: Sequence[tuple[int, Entry]] = (),
        entry: str = "",
        nothing: str = "N/A",
        forms: Mapping[str, str] | None = None,
    ) -> Prompt:
        """The later prompt. numbered, entry, nothing: what it shows of the list (`knowledge`).
        sections, forms: as in Prompt."""
        slots = {"REFERENCE": view.reference or ""}
        if "KNOWLEDGE" in self.slots:
            texts = [(n, each.text) for n, each in numbered]
            slots["KNOWLEDGE"] = knowledge(context, self.later, texts, entry, empty=nothing)
        text = fill(context, self.later, view.question, **slots)
        return Prompt(
            (Message("user", text),),
            self.budget,
            prefill=context.templates[self.prefill].fill() if self.prefill else "",
            sections=sections,
            forms=forms or {},
            shown=tuple(each for _, each in numbered),
        )

    def shrink(
        self, view: Notes, excess: int, context: StepContext
    ) -> tuple[Notes, LeftOut] | None:
        return shorten(view, excess, context)


def fill(context: StepContext, name: str, question: str, **slots: str) -> str:
    """The text of the prompt `name` with its slots replaced."""
    about = {"ANSWER": context.answers.instruction, "BOX": context.answers.box}
    return context.templates[name].fill(QUESTION=question, **about, **slots)


def knowledge(
    context: StepContext,
    name: str,
    entries: Sequence[tuple[int, str]],
    entry: str,
    apart: str = "\n\n",
    empty: str = "N/A",
) -> str:
    """What stands for [[KNOWLEDGE]] in the prompt `name`: numbered entries, or `empty`. The two
    files that may stand beside it (loop/prompts.py) come before what the method says here.

    entry: the form of one, `{0}` its number and `{1}` its text. apart: what stands between two.
    """
    own = context.templates.get(f"{name}_list" if entries else f"{name}_empty")
    if own is not None:
        return own.fill_lines(entries) if entries else own.fill()
    return apart.join(entry.format(n, text) for n, text in entries) or empty


def first_attempt(
    context: StepContext,
    name: str,
    question: str,
    budget: float,
    sections: tuple[str, ...] = SECTIONS,
) -> Prompt:
    """The prompt of a chain that has nothing to show yet."""
    text = fill(context, name, question)
    return Prompt((Message("user", text),), budget, sections=sections)


def shorten(notes: Notes, excess: int, context: StepContext) -> tuple[Notes, LeftOut] | None:
    """Hide the oldest entries, as few as make up for `excess` tokens or one; with all of them
    hidden, cut the reference solution to its last sentences. None where both are gone."""
    if notes.shown:
        hidden = fewest_oldest([entry.text for entry in notes.shown], excess, context)
        return replace(notes, hidden=notes.hidden + hidden), LeftOut(entries=hidden)
    if not notes.reference:
        return None
    kept, tokens = cut(notes.reference, excess, context)
    return replace(notes, reference=kept), LeftOut(tokens=tokens)


def fewest_oldest(texts: Sequence[str], excess: int, context: StepContext) -> int:
    """How many entries, the oldest ones first, make up for `excess` tokens; or all of them."""
    fewer, tokens = 0, 0
    while fewer < len(texts) and tokens < excess:
        tokens += context.count(texts[fewer]) + NUMBERING
        fewer += 1
    return fewer


def cut(text: str, excess: int, context: StepContext) -> tuple[str, int]:
    """The last sentences of a text that is not empty, at least `excess` tokens less or nothing at
    all, and how many tokens less."""
    length = context.count(text)
    budget, step = length - excess, 0
    while True:
        kept = context.last_sentences(text, budget)
        saved = length - context.count(kept)
        if not kept or saved >= excess:
            return kept, saved
        # Sentences are counted without what joins them, so that too many seemed to have room.
        step = max(excess - saved, 2 * step)
        budget -= step


def empty(text: str) -> bool:
    """Whether a section says nothing: no word, or N/A."""
    return not re.search(r"\w", text) or bool(re.fullmatch(r"\W*n/?a\W*", text, re.IGNORECASE))
