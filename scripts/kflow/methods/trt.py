"""Test-time recursive thinking with several strategies a round (docs/method.md, section 8).

After arXiv 2602.03094, whose mathematics is method 1 with one rollout a round; more of them, for
mathematics, are ours. A strategy call designs K strategies; then, in each round, K rollouts solve
the problem, each with the knowledge list and its own strategy, and a reflection call selects the
best solution so far, revises the list and designs the next strategies. Steps: 1, K, 1, K, 1...
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

from kflow.answers import Rule, last_integer
from kflow.flags import Whole, check_flags, flag
from kflow.method import LeftOut, Replies, StepContext, StepNote, StepResult
from kflow.methods import candidates
from kflow.methods.candidates import Candidate
from kflow.methods.notes import (
    FIRST,
    PROMPTS,
    SECTIONS,
    Notes,
    cut,
    empty,
    fill,
    first_attempt,
    knowledge,
    shorten,
)
from kflow.sections import body, header, section
from kflow.types import Entry, Message, Prompt
from kflow.votes import majority

MOST_ENTRIES = 5
BEST, INSIGHT, DROP = "Best", "Insight", "Drop"
FORMS = {BEST: "[0-9]{1,2}", DROP: "([0-9]{1,2}|N/A)"}


class Phase(Enum):
    """What a step asks for."""

    DESIGN = "design strategies"
    SOLVE = "solve"
    REFLECT = "reflect"


@dataclass(frozen=True)
class State:
    """strategies: for the next round, "" for a slot that has none. best: the selected solution.
    round: the solutions that are to be reflected on, in the order of slots."""

    notes: Notes
    phase: Phase = Phase.DESIGN
    strategies: tuple[str, ...] = ()
    best: Candidate | None = None
    round: tuple[Candidate, ...] = ()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return (*([self.best] if self.best else []), *self.round)


@dataclass(frozen=True)
class View:
    """What one rollout is shown: the list, and its strategy or the candidates."""

    phase: Phase
    notes: Notes
    strategy: str = ""
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trt:
    """first: the prompt of a rollout that has neither list nor strategy. solve, design, reflect:
    the other prompts, and strategy: the part of the last two that asks for one strategy. budget: a
    reply's share of the window."""

    first: str
    solve: str
    design: str
    reflect: str
    strategy: str
    rule: Rule
    budget: float = 0.9
    strategies: Whole = flag(2, "strategies, and so rollouts, per round", "K")
    prompt_folder: ClassVar[str] = PROMPTS
    ahead: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_flags(self)  # at once: a budget is divided by them

    @property
    def widths(self) -> tuple[int, ...]:
        return (1, self.strategies)

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        designing = frozenset({"QUESTION", "NUMBER", "STRATEGIES"})
        return {
            self.first: FIRST,
            self.solve: FIRST | {"KNOWLEDGE", "STRATEGY"},
            self.design: designing,
            self.reflect: designing | {"KNOWLEDGE", "CANDIDATES"},
            self.strategy: frozenset({"NUMBER"}),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The sections that hold strategies."""
        return tuple(f"Strategy {n}" for n in range(1, self.strategies + 1))

    def start(self, question: str) -> State:
        return State(Notes(question))

    def ask(self, state: State, context: StepContext) -> tuple[View, ...]:
        view = View(state.phase, state.notes)
        if state.phase is Phase.SOLVE:
            return tuple(replace(view, strategy=strategy) for strategy in state.strategies)
        return (replace(view, candidates=tuple(each.text for each in state.candidates)),)

    def render(self, view: View, context: StepContext) -> Prompt:
        notes, question = view.notes, view.notes.question
        numbered = [(n, entry.text) for n, entry in enumerate(notes.shown, notes.hidden + 1)]
        name = self.solve if view.phase is Phase.SOLVE else self.reflect
        insights = knowledge(context, name, numbered, "{0}. {1}", apart="\n")
        if view.phase is Phase.SOLVE:
            if not view.strategy and not notes.entries:
                return first_attempt(context, self.first, question, self.budget)
            strategy = view.strategy or "N/A"
            text = fill(context, self.solve, question, KNOWLEDGE=insights, STRATEGY=strategy)
            turn = (Message("user", text),)
            return Prompt(turn, self.budget, sections=SECTIONS, shown=notes.shown)
        asked = context.templates[self.strategy]
        slots = {
            "NUMBER": str(self.strategies),
            "STRATEGIES": "\n\n".join(
                asked.fill(NUMBER=str(n)) for n in range(1, self.strategies + 1)
            ),
        }
        if view.phase is Phase.DESIGN:
            turn = (Message("user", fill(context, self.design, question, **slots)),)
            return Prompt(turn, self.budget, sections=self.names, asks_answer=False)
        shown = candidates.numbered(view.candidates)
        text = fill(context, self.reflect, question, KNOWLEDGE=insights, CANDIDATES=shown, **slots)
        return Prompt(
            (Message("user", text),),
            self.budget,
            sections=(BEST, INSIGHT, DROP, *self.names),
            forms=FORMS,
            asks_answer=False,
            shown=notes.shown,
        )

    def shrink(self, view: View, excess: int, context: StepContext) -> tuple[View, LeftOut] | None:
        """Hide entries, then cut the candidates or the strategy. A strategy is long where the reply
        that designed it was truncated: all that follows its header."""
        fewer = shorten(view.notes, excess, context)
        if fewer is not None:
            return replace(view, notes=fewer[0]), fewer[1]
        shorter = candidates.shorten(view.candidates, excess, context)
        if shorter is not None:
            return replace(view, candidates=shorter[0]), LeftOut(tokens=shorter[1])
        if not view.strategy:
            return None
        kept, tokens = cut(view.strategy, excess, context)
        return replace(view, strategy=kept), LeftOut(tokens=tokens)

    def update(self, state: State, replies: Replies, context: StepContext) -> StepResult[State]:
        if state.phase is Phase.SOLVE:
            return self._solved(state, replies)
        (reply,) = replies
        visible = "" if reply is None else reply.visible
        designed = replace(
            state,
            phase=Phase.SOLVE,
            strategies=tuple(self._read(visible, name) for name in self.names),
        )
        skipped = "the rollout failed" if reply is None else ""
        if state.phase is Phase.DESIGN:
            verdict = state.best.answer if state.best else None
            return StepResult(designed, verdict, StepNote(skipped=skipped))
        result = self._reflected(designed, visible)
        return result if reply else replace(result, note=replace(result.note, skipped=skipped))

    def _solved(self, state: State, replies: Replies) -> StepResult[State]:
        solutions = candidates.solutions(replies)
        # With nothing to reflect on, the next step designs strategies anew.
        phase = Phase.REFLECT if solutions or state.best else Phase.DESIGN
        verdict = majority(solution.answer for solution in solutions)
        if verdict is None and state.best:
            verdict = state.best.answer
        note = StepNote(skipped=candidates.failures(replies))
        return StepResult(replace(state, phase=phase, round=solutions), verdict, note)

    def _reflected(self, state: State, visible: str) -> StepResult[State]:
        """Select, drop, add, in this order."""
        number = last_integer(self._read(visible, BEST))
        selected = number if number is not None and 1 <= number <= len(state.candidates) else None
        best = state.candidates[selected - 1 if selected else 0]
        entries, dropped = list(state.notes.entries), []
        drop = last_integer(self._read(visible, DROP))
        if drop is not None and 1 <= drop <= len(entries):
            dropped.append(entries.pop(drop - 1))
        insight = self._read(visible, INSIGHT)
        added = (Entry(insight),) if insight else ()
        entries += added
        while len(entries) > MOST_ENTRIES:
            dropped.append(entries.pop(0))
        notes = replace(state.notes, entries=tuple(entries))
        skipped = "" if added else "no insight"
        note = StepNote(added, tuple(dropped), skipped=skipped, selected=selected)
        return StepResult(replace(state, notes=notes, best=best, round=()), best.answer, note)

    def _read(self, visible: str, name: str) -> str:
        """The text of a section up to the next one that was asked for, "" where it says nothing."""
        ends = "|".join(re.escape(header(each)) for each in (BEST, INSIGHT, DROP, *self.names))
        text = body(re.split(ends, section(visible, name) or "")[0])
        return "" if empty(text) else text
