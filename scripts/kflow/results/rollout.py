"""The record of one rollout: the line on disk, and all that store, replay, comparison and report
read (docs/method.md, "Output").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

import msgspec

from kflow.sections import visible
from kflow.types import Answer, Entry, LeftOut, StepNote

EMPTY = "the reply is empty"  # how the failure of such a rollout begins


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout: the fields of the published code, then what this project records beside them.

    Lengths are in tokens unless stated otherwise. The record of a step of several slots holds their
    rollouts in `rollouts`; its own prediction is then the step's verdict, and its texts are those
    of the first slot that gave it.
    """

    question: str
    """the prompt as sent, decoded"""
    gold: Any
    """as in the data set"""
    predicted: Answer | None
    """the rollout's own answer, canonical within the chain once its step is folded"""
    pred_solution: str
    """the text carried over, if any, then the whole reply"""
    correct: bool
    """whether `predicted` is right"""
    id: str
    """of the problem"""
    slot: int
    """which of the step's rollouts, from 0"""
    family: str
    """whose format separates thinking from the visible answer (sections.visible)"""
    finish_reason: str | None
    """the engine's word: `stop`, `length` (truncated at the budget), ...; None without a reply"""
    prompt_tokens: int
    """0 where the prompt was not sent or was refused"""
    completion_tokens: int
    """of the reply"""
    max_tokens: int
    """the reply's budget"""
    sampling_seed: int
    """of this request"""
    reply_start: int
    """where the reply begins in `pred_solution`, in characters"""
    asks_answer: bool
    """False for a step without an answer of its own"""
    sections: tuple[str, ...]
    """the headers that the prompt asks for"""
    missing_sections: tuple[str, ...]
    """those of them that the visible answer lacks"""
    unreadable_box: bool
    """there is a box, and no answer in it"""
    knowledge: tuple[Entry, ...]
    """the list as the prompt shows it"""
    carried_tokens: int | None
    """how much of the text carried over the prompt really holds; None where nothing is"""
    left_out: LeftOut
    """what the prompt does not show for lack of room"""
    failure: str | None
    """why there is no reply, for good"""
    digest: str
    """of what was written before the step was folded: an edited or misplaced file is noticed"""
    verdict: Answer | None = None
    """what the chain would answer after this step"""
    verdict_correct: bool = False
    """whether the verdict is right"""
    note: StepNote | None = None
    """what the step did to the chain's state; None while the step is not folded"""
    undecided: tuple[tuple[Answer, Answer], ...] = ()
    """comparisons of answers that were given up"""
    repeats_step: int | None = None
    """an early-stopped chain's last step, which this record repeats"""
    over_budget: bool = False
    """this step reached the chain's token budget"""
    counted: bool = True
    """False for a rollout asked ahead that came after its chain had stopped"""
    end_of_thinking: str | None = None
    """what the visible answer follows, where the family's name does not say it"""
    rollouts: tuple[Rollout, ...] = ()
    """of a step of several slots, their rollouts in slot order"""
    preemptions: int = 0
    """how often the engine took the rollout out of its batch, to prefill it again later"""
    lost_context: bool = False
    """it went on from placeholders in the place of its own reply so far"""
    engine: str | None = None
    """what replied, where the run had gone on with another engine than it began with"""
    estimated: tuple[str, ...] = ()
    """those of the token counts that no server or tokenizer of the model gave"""
    cost: float | None = None
    """what the server says that it charged, in its currency"""
    provider: str | None = None
    """who replied, where a server says that it has passed the request on"""

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
    def empty(self) -> bool:
        """Whether it failed because its reply has no text."""
        return self.failure is not None and self.failure.startswith(EMPTY)

    @property
    def reply(self) -> str:
        return self.pred_solution[self.reply_start :]

    @property
    def continues(self) -> str:
        return self.pred_solution[: self.reply_start]


def is_measured(record: Rollout) -> bool:
    """Whether a record says its tokens, finish reason and sections: the published code's do not,
    and have zeros and nothing there."""
    return bool(record.digest)


def split(rollout: Rollout) -> tuple[str, str]:
    """(thinking, visible answer) of a reply (docs/method.md, "Defaults"); no thinking where there
    is none."""
    answer = visible(rollout.family, rollout.reply, rollout.end_of_thinking)
    return rollout.reply[: len(rollout.reply) - len(answer)], answer


@dataclass(frozen=True)
class Outcome:
    """What folding a step gave a chain; the fields are those of its record (Rollout)."""

    id: str
    verdict: Answer | None
    verdict_correct: bool
    note: StepNote
    predicted: tuple[Answer | None, ...]
    """the canonical answers by slot"""
    correct: tuple[bool, ...]
    """whether they are right"""
    undecided: tuple[tuple[Answer, Answer], ...] = ()
    over_budget: bool = False
    counted: bool = True

    def __post_init__(self) -> None:
        if len(self.predicted) != len(self.correct):
            raise ValueError("an outcome needs as many answers as marks")


@dataclass(frozen=True)
class Summary:
    """The first element of `predictions_<step>.json`; lengths in tokens.

    Averages are over the records, counts over the new rollouts of all their slots: none of a record
    that repeats an earlier step is in another count than `early_stopped` and `saved_tokens`.
    """

    accuracy: float
    """0 to 1, of the records' own predictions"""
    total: int
    """records"""
    correct: int
    """records whose prediction is right"""
    average_prompt_length: float
    """of the records"""
    no_answer: int
    """replies without an answer where the rule looks for one"""
    unreadable_box: int
    """those of them that have a box"""
    truncated: int
    """replies that ended at their budget"""
    missing_sections: int
    """replies lacking a section they were asked for"""
    failed: int
    """rollouts without a reply"""
    other_finish_reasons: int
    """replies that ended neither by themselves nor at their budget"""
    early_stopped: int
    """records that repeat an earlier step"""
    prompt_tokens: int
    completion_tokens: int
    saved_tokens: int
    """what the replies of repeated records would have cost"""
    preemptions: int = 0
    lost_context: int = 0
    """rollouts that went on without their own reply so far"""
    asks_no_answer: int = 0
    """records whose rollouts ask for no answer, which are neither right nor wrong"""
    empty: int = 0
    """of the failed rollouts, those whose reply has no text"""


# What a record has from its step's outcome, beside the slots' answers.
FROM_OUTCOME = ("verdict", "verdict_correct", "note", "undecided", "over_budget", "counted")


def merge_step(rollouts: Sequence[Rollout], outcome: Outcome) -> Rollout:
    """The record of a folded step (docs/method.md, "Output"); rollouts: of all its slots, in
    order."""
    changes: dict[str, Any] = {name: getattr(outcome, name) for name in FROM_OUTCOME}
    if len(rollouts) == 1:
        (record,), (predicted,), (correct,) = rollouts, outcome.predicted, outcome.correct
        changes |= {"predicted": predicted, "correct": correct}
    else:
        slots = tuple(
            replace(rollout, predicted=answer, correct=right)
            for rollout, answer, right in zip(
                rollouts, outcome.predicted, outcome.correct, strict=True
            )
        )
        asked = any(slot.asks_answer for slot in slots)
        record = next((slot for slot in slots if slot.predicted == outcome.verdict), slots[0])
        changes |= {
            "predicted": outcome.verdict if asked else None,
            "correct": asked and outcome.verdict_correct,
            "rollouts": slots,
        }
    return replace(record, **changes)


def outcome_of(record: Rollout) -> Outcome | None:
    """The outcome that `merge_step` put into a record; None where its step is not folded."""
    if record.note is None:
        return None
    return Outcome(
        id=record.id,
        predicted=tuple(slot.predicted for slot in record.slots),
        correct=tuple(slot.correct for slot in record.slots),
        **{name: getattr(record, name) for name in FROM_OUTCOME},
    )


ENCODE = msgspec.json.Encoder()
DECODE = msgspec.json.Decoder(Rollout)
DECODE_OUTCOME = msgspec.json.Decoder(Outcome)
TEXTS = ("question", "pred_solution")
FOLDED = (*FROM_OUTCOME, "predicted", "correct", "repeats_step", "rollouts", "digest")
# Digested only where they are there: older files keep their digests.
LATER = (
    "end_of_thinking", "preemptions", "lost_context", "engine", "estimated", "cost", "provider",
)  # fmt: skip
SUMMED_LATER = ("preemptions", "lost_context", "asks_no_answer", "empty")
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
    if not 0 <= (rollout.cost or 0) < 1e9:
        raise ValueError("cost is out of range")


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
        empty=sum(rollout.empty for rollout in fresh),
    )


NAMES = tuple(f.name for f in fields(Rollout))
VALUES = attrgetter(*NAMES)
WITHOUT_TEXTS: dict[str, Any] = {"question": "", "pred_solution": "", "reply_start": 0}
# Also without what comparing does not read: the texts of lists, and those of their changes.
NUMBERS = {**WITHOUT_TEXTS, "knowledge": (), "note": None, "sections": (), "gold": None}


def without_texts(rollout: Rollout, empty: dict[str, Any] = WITHOUT_TEXTS) -> Rollout:
    """A copy in which the fields of `empty` have its values: keeps memory flat however long the
    replies are."""
    values = {**dict(zip(NAMES, VALUES(rollout), strict=True)), **empty}
    if rollout.rollouts:
        values["rollouts"] = tuple(without_texts(slot, empty) for slot in rollout.rollouts)
    return Rollout(*values.values())  # faster than dataclasses.replace, and there are many
