"""A rollout as a row of a table: what the exports and the data frame have in common."""

from __future__ import annotations

from dataclasses import dataclass, fields

from kflow.method import Note
from kflow.results.published import measured
from kflow.results.replies import split
from kflow.results.rollout import Rollout
from kflow.types import Answer, Entry


@dataclass(frozen=True)
class Row:
    """A rollout, and what its step did; docs/results_and_comparing.md says what each column holds.
    None: not on record."""

    run: str
    seed: int
    step: int
    slot: int
    id: str
    question: str
    gold: str
    predicted: str | None
    correct: bool
    pred_solution: str
    reply_start: int
    answer_start: int
    family: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    max_tokens: int | None
    sampling_seed: int | None
    asks_answer: bool
    sections: tuple[str, ...]
    missing_sections: tuple[str, ...]
    unreadable_box: bool
    knowledge: tuple[Entry, ...]
    carried_tokens: int | None
    left_out_entries: int
    left_out_tokens: int
    failure: str | None
    verdict: str | None
    verdict_correct: bool
    added: tuple[Entry, ...]
    dropped: tuple[Entry, ...]
    replaced: bool
    skipped: str
    truncated_sections: tuple[str, ...]
    selected: int | None
    over_budget: bool
    counted: bool
    preemptions: int
    lost_context: bool
    engine: str | None
    estimated: tuple[str, ...]
    escaped: bool = False

    @property
    def size(self) -> int:
        """Characters of its texts."""
        entries = (*self.knowledge, *self.added, *self.dropped)
        return len(self.question) + len(self.pred_solution) + sum(len(e.text) for e in entries)


TYPES = {each.name: str(each.type) for each in fields(Row)}


def row(run: str, seed: int, step: int, record: Rollout, slot: Rollout) -> Row:
    """Of one of the slots of a step's record."""
    known, note = measured(slot), record.note or Note()
    return Row(
        run=run,
        seed=seed,
        step=step,
        slot=slot.slot,
        id=slot.id,
        question=slot.question,
        gold=str(slot.gold),
        predicted=answer_text(slot.predicted),
        correct=slot.correct,
        pred_solution=slot.pred_solution,
        reply_start=slot.reply_start,
        answer_start=slot.reply_start + len(split(slot)[0]),
        family=slot.family,
        finish_reason=slot.finish_reason,
        prompt_tokens=slot.prompt_tokens if known else None,
        completion_tokens=slot.completion_tokens if known else None,
        max_tokens=slot.max_tokens if known else None,
        sampling_seed=slot.sampling_seed if known else None,
        asks_answer=slot.asks_answer,
        sections=slot.sections,
        missing_sections=slot.missing_sections,
        unreadable_box=slot.unreadable_box,
        knowledge=slot.knowledge,
        carried_tokens=slot.carried_tokens,
        left_out_entries=slot.left_out.entries,
        left_out_tokens=slot.left_out.tokens,
        failure=slot.failure,
        verdict=answer_text(record.verdict),
        verdict_correct=record.verdict_correct,
        added=note.added,
        dropped=note.dropped,
        replaced=note.replaced,
        skipped=note.skipped,
        truncated_sections=note.truncated,
        selected=note.selected,
        over_budget=record.over_budget,
        counted=record.counted,
        preemptions=slot.preemptions,
        lost_context=slot.lost_context,
        engine=slot.engine,
        estimated=slot.estimated,
    )


def answer_text(answer: Answer | None) -> str | None:
    """As text, so that an integer of any length arrives as it is wherever it is read."""
    return None if answer is None else str(answer)
