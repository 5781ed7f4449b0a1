"""Recycling search experience: a bank of what was established and of what failed (docs/method.md,
section 9).

After arXiv 2601.21684. Steps of attempts and of distillations take turns: each distillation is
shown one attempt and lists propositions and pitfalls, which join the bank of the problem; the next
attempts see the bank. Items that say the same are told by their words, with no other model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

from kflow.answers import Rule
from kflow.flags import Whole, check_flags, flag
from kflow.method import LeftOut, Replies, StepContext, StepNote, StepResult
from kflow.methods.candidates import failures
from kflow.methods.notes import (
    FIRST,
    PROMPTS,
    SECTIONS,
    cut,
    empty,
    fewest_oldest,
    fill,
    first_attempt,
)
from kflow.sections import section
from kflow.types import Answer, Entry, Message, Prompt
from kflow.votes import majority

PROPOSITIONS, PITFALLS = LISTS = ("Propositions", "Pitfalls")
JSON_LISTS = ("verified_propositions", "critical_pitfalls")
OBJECT = re.compile(r'\{\s*"')
# A backslash in JSON, and what it stands before there. LaTeX is often written with a single one:
# `\frac`, whose f would be a form feed.
ESCAPE = re.compile(r'\\(["\\/n]|u[0-9a-fA-F]{4}|[bfrt](?![a-zA-Z]))?')
BULLET = re.compile(r"^([ \t]*)(?:[-*•–]|[0-9]{1,3}[.)])[ \t]+", re.MULTILINE)
NOTHING = re.compile(r"\W*(none|nothing)\W*", re.IGNORECASE)
# Of one reply: a model that has lost its way can list thousands, and each is compared with all.
MOST_ITEMS = 200
# For --force_sections: at most so many items of so many characters, or fewer in a small window.
FORCED_ITEMS, FORCED_LENGTH = 5, 400


class Phase(Enum):
    """What a step asks for."""

    ATTEMPT = "attempt"
    DISTIL = "distil"


@dataclass(frozen=True)
class Item:
    """What the bank holds. kind: one of LISTS."""

    kind: str
    text: str


@dataclass(frozen=True)
class State:
    """bank: in order of arrival. attempts: those that are to be distilled, whole, in the order of
    slots. verdict: the majority of the last attempts."""

    question: str
    phase: Phase = Phase.ATTEMPT
    bank: tuple[Item, ...] = ()
    attempts: tuple[str, ...] = ()
    verdict: Answer | None = None


@dataclass(frozen=True)
class View:
    """What one rollout is shown: the bank, without as many of its oldest items as are hidden, or,
    to be distilled, an attempt."""

    question: str
    bank: tuple[Item, ...] = ()
    hidden: int = 0
    attempt: str | None = None

    def shown(self, kind: str) -> tuple[Entry, ...]:
        return tuple(Entry(item.text) for item in self.bank[self.hidden :] if item.kind == kind)


@dataclass(frozen=True)
class Rse:
    """first, later, distil: prompts, of attempts without and with a bank, and of distillations.
    budget: a reply's share of the window."""

    first: str
    distil: str
    later: str
    rule: Rule
    budget: float = 0.9
    attempts: Whole = flag(8, "attempts per step, all of them distilled", "N")
    prompt_folder: ClassVar[str] = PROMPTS
    ahead: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_flags(self)  # at once: a budget is divided by them

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.attempts,)

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        return {
            self.first: FIRST,
            self.distil: frozenset({"QUESTION", "ATTEMPT"}),
            self.later: FIRST | {"PROPOSITIONS", "PITFALLS"},
        }

    def within(self, rollouts: int, kept: Collection[str]) -> tuple[Rse, int]:
        """An odd number of steps: a distillation that no attempt follows would be for nothing."""
        steps = rollouts // self.attempts
        return self, steps - (steps > 0 and steps % 2 == 0)

    def start(self, question: str) -> State:
        return State(question)

    def ask(self, state: State, context: StepContext) -> tuple[View, ...]:
        slots = range(self.attempts)
        if state.phase is Phase.ATTEMPT:
            return tuple(View(state.question, state.bank) for _ in slots)
        # Where attempts failed, some of the others are distilled twice: a step keeps its width.
        some = len(state.attempts)
        return tuple(View(state.question, attempt=state.attempts[slot % some]) for slot in slots)

    def render(self, view: View, context: StepContext) -> Prompt:
        if view.attempt is not None:
            text = fill(context, self.distil, view.question, ATTEMPT=view.attempt.strip() or "N/A")
            turn = (Message("user", text),)
            forms = dict.fromkeys(LISTS, forced_list(context.window))
            return Prompt(turn, self.budget, sections=LISTS, forms=forms, asks_answer=False)
        if not view.bank:
            return first_attempt(context, self.first, view.question, self.budget)
        shown = {kind: view.shown(kind) for kind in LISTS}
        slots = {kind.upper(): bulleted(shown[kind]) for kind in LISTS}
        text = fill(context, self.later, view.question, **slots)
        both = (*shown[PROPOSITIONS], *shown[PITFALLS])
        return Prompt((Message("user", text),), self.budget, sections=SECTIONS, shown=both)

    def shrink(self, view: View, excess: int, context: StepContext) -> tuple[View, LeftOut] | None:
        """Cut the attempt to its last sentences, or hide the oldest items of both lists."""
        if view.attempt:
            kept, tokens = cut(view.attempt, excess, context)
            return replace(view, attempt=kept), LeftOut(tokens=tokens)
        fewer = fewest_oldest([item.text for item in view.bank[view.hidden :]], excess, context)
        return (replace(view, hidden=view.hidden + fewer), LeftOut(fewer)) if fewer else None

    def update(self, state: State, replies: Replies, context: StepContext) -> StepResult[State]:
        failed = failures(replies)
        if state.phase is Phase.DISTIL:
            return self._distilled(state, [r.visible for r in replies if r is not None], failed)
        attempts = tuple(reply.text for reply in replies if reply is not None)
        if not attempts:  # there is nothing to distil: the next step tries again
            return StepResult(state, state.verdict, StepNote(skipped=failed))
        verdict = majority(reply.answer for reply in replies if reply is not None)
        after = replace(state, phase=Phase.DISTIL, attempts=attempts, verdict=verdict)
        return StepResult(after, verdict, StepNote(skipped=failed))

    def _distilled(self, state: State, visible: Sequence[str], failed: str) -> StepResult[State]:
        found = [read_lists(text) for text in visible]
        new = tuple(item for items in found for item in (items or ())[:MOST_ITEMS])
        surplus = sum(max(0, len(items or ()) - MOST_ITEMS) for items in found)
        every, earlier = (*state.bank, *new), len(state.bank)
        kept = distinct(state.bank, new)
        dropped = sorted(set(range(earlier)) - set(kept))
        unreadable = sum(items is None for items in found)
        says = [
            failed,
            f"{unreadable} of {len(found)} replies have no lists" if unreadable else "",
            f"{surplus} items of replies with more than {MOST_ITEMS}" if surplus else "",
        ]
        note = StepNote(
            added=tuple(Entry(every[n].text) for n in kept if n >= earlier),
            dropped=tuple(Entry(every[n].text) for n in dropped),
            skipped="; ".join(filter(None, says)),
        )
        bank = tuple(every[n] for n in kept)
        after = replace(state, phase=Phase.ATTEMPT, bank=bank, attempts=())
        return StepResult(after, state.verdict, note)


def bulleted(entries: Sequence[Entry]) -> str:
    return "\n".join(f"- {entry.text}" for entry in entries) or "N/A"


def forced_list(window: int) -> str:
    """The expression for a section that is a list (sections.pattern), such that both lists end
    before a reply's budget does."""
    length = min(FORCED_LENGTH, max(40, window // 2 // FORCED_ITEMS))
    return rf"(N/A|(\n- [^\[\]\n]{{5,{length}}}){{1,{FORCED_ITEMS}}})"


def read_lists(visible: str) -> tuple[Item, ...] | None:
    """The items of a distillation, propositions first; None where it has neither list."""
    written = (section(visible, PROPOSITIONS, PITFALLS), section(visible, PITFALLS, PROPOSITIONS))
    lists: Sequence[Sequence[str]] | None = read_json(visible)  # whatever header is beside it
    if lists is None:
        if all(text is None for text in written):
            return None
        lists = [split_items(text or "") for text in written]
    said = [[text.strip() for text in texts] for texts in lists]
    return tuple(
        Item(kind, text)
        for kind, texts in zip(LISTS, said, strict=True)
        for text in texts
        if not (empty(text) or NOTHING.fullmatch(text))
    )


def split_items(text: str) -> list[str]:
    """The items of a list with bullets or numbers; an item holds what is indented below it. Without
    any bullet every line is an item."""
    text = re.sub(r"\A[\s*_]*:|\n[ \t]*[*_#]+[ \t]*\Z", "", text)  # of this and the next header
    marks = list(BULLET.finditer(text))
    if not marks:
        return text.splitlines()
    least = min(len(mark[1]) for mark in marks)
    marks = [mark for mark in marks if len(mark[1]) < least + 2]
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    return [text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]


def read_json(visible: str) -> list[list[str]] | None:
    """The lists of a JSON object in the text that has one of them, the last such; None where there
    is none, or one of which no item is a text."""
    text = ESCAPE.sub(lambda match: match[0] if match[1] else r"\\", visible)
    decoder, lists, end = json.JSONDecoder(strict=False), None, 0
    for match in OBJECT.finditer(text):
        if match.start() < end:  # within an object that was read
            continue
        try:
            found, end = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        except RecursionError:
            return None
        both = [found.get(name) for name in JSON_LISTS]
        if any(isinstance(texts, list) for texts in both):
            lists = [texts if isinstance(texts, list) else [] for texts in both]
    items = [item for texts in lists or () for item in texts]
    if lists is None or (items and not any(isinstance(item, str) for item in items)):
        return None
    # An escape in JSON can be half a character, which no file can hold.
    return [
        [text.encode(errors="replace").decode() for text in texts if isinstance(text, str)]
        for texts in lists
    ]


@dataclass(frozen=True)
class Words:
    """A text for comparing: its words and signs, in lower case; line: between blanks."""

    line: str
    distinct: frozenset[str]

    def is_like(self, kept: Words) -> bool:
        """Whether this is in the other, or they share at least 0.8 of their words."""
        if self.line in kept.line:
            return True
        shared = len(self.distinct & kept.distinct)
        return 10 * shared >= 8 * len(self.distinct | kept.distinct)


def words(text: str) -> Words:
    each = re.findall(r"\w+|[^\w\s]", text.casefold())
    return Words(f" {' '.join(each)} ", frozenset(each))


def distinct(bank: tuple[Item, ...], new: tuple[Item, ...]) -> list[int]:
    """Which items to keep, by their place among those of the bank and then the new ones, in this
    order: none that is like another of its kind that is kept. The new ones come before the bank's,
    and of either the longer before the shorter."""
    every = (*bank, *new)
    by_rank = sorted(range(len(every)), key=lambda n: (n < len(bank), -len(every[n].text)))
    kept: dict[str, list[Words]] = {kind: [] for kind in LISTS}
    chosen = []
    for n in by_rank:
        item, same_kind = words(every[n].text), kept[every[n].kind]
        if not any(item.is_like(other) for other in same_kind):
            same_kind.append(item)
            chosen.append(n)
    return sorted(chosen)
