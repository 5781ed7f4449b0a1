"""The record of one rollout: the line on disk, and all that store, replay, comparison and report
read (docs/method.md, "Output").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec

from kflow.method import LeftOut, Note
from kflow.types import Answer, Entry


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout as published, then what this project records beside it; lengths in tokens unless
    stated otherwise.

    question: the prompt as sent, decoded. gold: as in the data set. predicted: the rollout's own
    answer, canonical within the chain once its step is folded. pred_solution: the text carried
    over, then the whole reply; `reply_start` is where the reply begins, in characters.

    family: whose format splits off the visible answer; end_of_thinking: what that answer follows,
    where the family's name does not say it (families.visible). sections: the headers that were
    asked for, and missing_sections those that the visible answer lacks. prompt_tokens: 0 where the
    prompt was not sent or was refused. unreadable_box: there is a
    box, and no answer in it. knowledge: the list as the prompt showed it. carried_tokens: how much
    of the text carried over the prompt really holds, None where nothing is. failure: why there is
    no reply, for good. digest: of all this, so that a file that was edited or mixed up is noticed.
    preemptions: how often the engine took the rollout out of its batch, to prefill it again later.
    lost_context: it went on from placeholders in the place of its own reply so far. engine: what
    replied, where the run had gone on with another engine than it began with.

    verdict: what the chain would answer after this step, verdict_correct whether that is right.
    note: what the step did to the chain's state; None while the step is not folded. undecided:
    comparisons of answers that were given up. repeats_step: an early-stopped chain's last step,
    which this record repeats. over_budget: this step reached the chain's token budget. counted:
    False for a rollout asked ahead of a chain that had stopped when it came.

    estimated: those of the token counts that no server or tokenizer of the model gave.

    rollouts: of a step of several slots, its rollouts in slot order; the record's own prediction is
    then the step's verdict, and its texts are those of the first slot that gave it.
    """

    question: str
    gold: Any
    predicted: Answer | None
    pred_solution: str
    correct: bool
    id: str
    slot: int
    family: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    max_tokens: int
    sampling_seed: int
    reply_start: int
    asks_answer: bool
    sections: tuple[str, ...]
    missing_sections: tuple[str, ...]
    unreadable_box: bool
    knowledge: tuple[Entry, ...]
    carried_tokens: int | None
    left_out: LeftOut
    failure: str | None
    digest: str
    verdict: Answer | None = None
    verdict_correct: bool = False
    note: Note | None = None
    undecided: tuple[tuple[Answer, Answer], ...] = ()
    repeats_step: int | None = None
    over_budget: bool = False
    counted: bool = True
    end_of_thinking: str | None = None
    rollouts: tuple[Rollout, ...] = ()
    preemptions: int = 0
    lost_context: bool = False
    engine: str | None = None
    estimated: tuple[str, ...] = ()

    @property
    def slots(self) -> tuple[Rollout, ...]:
        """The rollouts of the step, in slot order."""
        return self.rollouts or (self,)

    @property
    def new_slots(self) -> tuple[Rollout, ...]:
        """Its slots, those too that came after their chain had stopped; none where the record only
        repeats an earlier step."""
        return self.slots if self.repeats_step is None else ()

    @property
    def reply(self) -> str:
        return self.pred_solution[self.reply_start :]

    @property
    def continues(self) -> str:
        return self.pred_solution[: self.reply_start]


@dataclass(frozen=True)
class Outcome:
    """What folding a step gave a chain. predicted: the canonical answers by slot; correct: whether
    they are right."""

    id: str
    verdict: Answer | None
    verdict_correct: bool
    note: Note
    predicted: tuple[Answer | None, ...]
    correct: tuple[bool, ...]
    undecided: tuple[tuple[Answer, Answer], ...] = ()
    over_budget: bool = False
    counted: bool = True

    def __post_init__(self) -> None:
        if len(self.predicted) != len(self.correct):
            raise ValueError("an outcome needs as many answers as marks")


@dataclass(frozen=True)
class Summary:
    """The first element of `predictions_<step>.json`; lengths in tokens, averages and sums over the
    records, tokens over all their slots.

    accuracy is 0..1 over the records' own predictions. no_answer: replies without an answer where
    the rule looks for one; unreadable_box counts those among them that have a box. truncated:
    replies that ended at their budget. missing_sections: replies lacking a section they were asked
    for. failed: rollouts without a reply. other_finish_reasons: replies that ended neither by
    themselves nor at their budget. early_stopped: records that repeat an earlier step; none of
    their rollouts is in another count. saved_tokens: what those would have cost. preemptions: of
    all rollouts together. lost_context: rollouts that went on without their own reply so far.
    asks_no_answer: records whose rollouts ask for no answer, which are neither right nor wrong.
    """

    accuracy: float
    total: int
    correct: int
    average_prompt_length: float
    no_answer: int
    unreadable_box: int
    truncated: int
    missing_sections: int
    failed: int
    other_finish_reasons: int
    early_stopped: int
    prompt_tokens: int
    completion_tokens: int
    saved_tokens: int
    preemptions: int = 0
    lost_context: int = 0
    asks_no_answer: int = 0


def merged(rollouts: Sequence[Rollout], outcome: Outcome) -> Rollout:
    """The record of a folded step (docs/method.md, "Output"); rollouts: of all its slots, in
    order."""
    own: dict[str, Any]
    if len(rollouts) == 1:
        (record,), (predicted,), (correct,) = rollouts, outcome.predicted, outcome.correct
        own = {"predicted": predicted, "correct": correct}
    else:
        slots = tuple(
            replace(rollout, predicted=answer, correct=right)
            for rollout, answer, right in zip(
                rollouts, outcome.predicted, outcome.correct, strict=True
            )
        )
        asked = any(slot.asks_answer for slot in slots)
        record = next((slot for slot in slots if slot.predicted == outcome.verdict), slots[0])
        own = {
            "predicted": outcome.verdict if asked else None,
            "correct": asked and outcome.verdict_correct,
            "rollouts": slots,
        }
    return replace(
        record,
        verdict=outcome.verdict,
        verdict_correct=outcome.verdict_correct,
        note=outcome.note,
        undecided=outcome.undecided,
        over_budget=outcome.over_budget,
        counted=outcome.counted,
        **own,
    )


def outcome_of(record: Rollout) -> Outcome | None:
    """The outcome that `merged` put into a record; None where its step is not folded."""
    if record.note is None:
        return None
    return Outcome(
        record.id,
        record.verdict,
        record.verdict_correct,
        record.note,
        tuple(slot.predicted for slot in record.slots),
        tuple(slot.correct for slot in record.slots),
        record.undecided,
        record.over_budget,
        record.counted,
    )


ENCODE = msgspec.json.Encoder()
DECODE = msgspec.json.Decoder(Rollout)
DECODE_OUTCOME = msgspec.json.Decoder(Outcome)
TEXTS = ("question", "pred_solution")
FOLDED = (
    "predicted", "correct", "verdict", "verdict_correct", "note", "undecided", "repeats_step",
    "over_budget", "counted", "rollouts", "digest",
)  # fmt: skip
# Digested only where they are there: older files keep their digests.
LATER = ("end_of_thinking", "preemptions", "lost_context", "engine", "estimated")
SUMMED_LATER = ("preemptions", "lost_context", "asks_no_answer")
DIGESTED = tuple(f.name for f in fields(Rollout) if f.name not in (*TEXTS, *FOLDED, *LATER))
ABSENT = ("rollouts", "repeats_step", *LATER)  # where they have nothing to say
RARE = {f.name: f.default for f in fields(Rollout) if f.name in ABSENT}


def to_json(rollout: Rollout) -> bytes:
    """One line of JSON, without its end. Every text must be free of lone surrogates."""
    shown = {f.name: getattr(rollout, f.name) for f in fields(rollout)}
    if rollout.rollouts:
        shown["rollouts"] = [msgspec.Raw(to_json(slot)) for slot in rollout.rollouts]
    return ENCODE.encode({k: v for k, v in shown.items() if k not in RARE or v != RARE[k]})


def summary_to_json(summary: Summary) -> bytes:
    """One line of JSON, without its end."""
    return ENCODE.encode({k: v for k, v in vars(summary).items() if k not in SUMMED_LATER or v})


def from_json(data: bytes | memoryview) -> Rollout:
    """Raises ValueError for anything but a rollout, with the field that is wrong."""
    try:
        rollout = DECODE.decode(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    for slot in rollout.slots:
        check(slot)
    return rollout


def check(rollout: Rollout) -> None:
    """Raises ValueError where a rollout contradicts itself."""
    if not 0 <= rollout.reply_start <= len(rollout.pred_solution):
        raise ValueError("reply_start lies outside pred_solution")
    for name in ("prompt_tokens", "completion_tokens", "max_tokens", "slot", "preemptions"):
        if not 0 <= getattr(rollout, name) < 1 << 40:
            raise ValueError(f"{name} is out of range")


def sampling_seed(seed: int, chain: int, problem: str, step: int, slot: int = 0) -> int:
    """A stable 32-bit number for (run seed, number of the chain, problem id, step, slot): no clock,
    no global generator."""
    base = f"{seed}/{chain}" if chain else f"{seed}"
    last = f"\0{slot}" if slot else ""
    digest = hashlib.sha256(f"{base}\0{problem}\0{step}{last}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def digest_of(rollout: Rollout) -> str:
    """16 hexadecimal digits over what was written of a rollout before its step was folded, but for
    the answer, which is read from the reply again. The sampling seed says whose it is."""
    later = [[name, getattr(rollout, name)] for name in LATER]
    later = [pair for pair in later if pair[1] != RARE[pair[0]]]
    whole = hashlib.sha256(ENCODE.encode([getattr(rollout, name) for name in DIGESTED] + later))
    for text in (rollout.question, rollout.pred_solution):
        whole.update(b"\0")
        whole.update(text.encode())
    return whole.hexdigest()[:16]


def summary(records: Sequence[Rollout]) -> Summary:
    """records: of one step, at least one."""
    total = len(records)
    correct = sum(record.correct for record in records)
    fresh = [slot for record in records for slot in record.new_slots]
    repeated = [r for record in records if record.repeats_step is not None for r in record.slots]
    replies = [rollout for rollout in fresh if rollout.failure is None]
    unanswered = [r for r in replies if r.asks_answer and r.predicted is None]
    return Summary(
        accuracy=correct / total,
        total=total,
        correct=correct,
        average_prompt_length=sum(record.prompt_tokens for record in records) / total,
        no_answer=len(unanswered),
        unreadable_box=sum(rollout.unreadable_box for rollout in unanswered),
        truncated=sum(rollout.finish_reason == "length" for rollout in replies),
        missing_sections=sum(bool(rollout.missing_sections) for rollout in replies),
        failed=len(fresh) - len(replies),
        other_finish_reasons=sum(r.finish_reason not in ("stop", "length") for r in replies),
        early_stopped=sum(record.repeats_step is not None for record in records),
        prompt_tokens=sum(rollout.prompt_tokens for rollout in fresh),
        completion_tokens=sum(rollout.completion_tokens for rollout in fresh),
        saved_tokens=sum(rollout.completion_tokens for rollout in repeated),
        preemptions=sum(rollout.preemptions for rollout in fresh),
        lost_context=sum(rollout.lost_context for rollout in fresh),
        asks_no_answer=sum(not any(r.asks_answer for r in record.slots) for record in records),
    )


def without_texts(rollout: Rollout) -> Rollout:
    """For what only counts: keeps memory flat however long the replies are."""
    slots = tuple(map(without_texts, rollout.rollouts))
    return replace(rollout, question="", pred_solution="", reply_start=0, rollouts=slots)
