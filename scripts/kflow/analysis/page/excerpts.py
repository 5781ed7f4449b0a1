"""The texts of a run as the page carries them: per chain one compressed block, a line of JSON per
step, each text whole or cut to its beginning and end.

One record is in memory at a time; of the steps before it there are only the compressed bytes and
the knowledge list as it was last shown.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence

from kflow.analysis.page.changes import Changes, changes
from kflow.analysis.runs import Run
from kflow.ground.terminal import first_line
from kflow.method import Note
from kflow.results.published import foreign, measured
from kflow.results.reading import Damaged, records
from kflow.results.replies import split
from kflow.results.rollout import Rollout
from kflow.results.rows import answer_text
from kflow.types import Entry, UserError

HEADER = re.compile(r"\[([A-Z][A-Za-z ]{3,50}\??)\]")
MOST_TITLES = 20
LONGEST_REMARK = 500  # characters, of a failure, or of why an update added nothing

Excerpt = str | list[str | int]
Json = dict[str, object]


def blocks(run: Run, seed: int, allowance: int) -> Iterator[str]:
    """One base64 block per problem, in the run's order: zlib over lines of JSON, a step each.

    allowance: characters that the texts of one rollout may take. Raises UserError where a file
    cannot be read a second time.
    """
    chains = [Lines(allowance) for _ in run.problems]
    for step in run.steps:
        path = run.files[seed, step]
        try:
            for chain, record in zip(chains, records(path), strict=True):
                chain.add(step, record)
        except (Damaged, OSError, ValueError) as error:
            raise UserError(
                f"{path} changed while it was read ({first_line(error)}): run the same command "
                "again."
            ) from error
    for chain in chains:
        yield chain.block()


class Lines:
    """The lines of one chain, taken step by step.

    An entry is in the line where it first turns up (`new`); lines name entries by number.
    """

    def __init__(self, allowance: int) -> None:
        self._allowance = allowance
        self._compress = zlib.compressobj()
        self._parts: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self._before: tuple[Entry, ...] = ()
        self._note: Note | None = None

    def add(self, step: int, record: Rollout) -> None:
        line = json.dumps(self._line(step, record)).encode() + b"\n"
        self._parts.append(self._compress.compress(line))

    def block(self) -> str:
        self._parts.append(self._compress.flush())
        return base64.b64encode(b"".join(self._parts)).decode()

    def _line(self, step: int, record: Rollout) -> Json:
        fresh: list[Entry] = []
        slots = [self._slot(slot, fresh) for slot in record.slots]
        changed = self._changes(record.slots[0].knowledge, fresh)
        note = None if record.note is None else self._update(record.note, fresh)
        self._before, self._note = record.slots[0].knowledge or self._before, record.note
        texts = [text for slot in record.slots for text in parts(slot)]
        texts += [entry.text for entry in fresh]
        limits = shares([len(text) for text in texts], self._allowance * len(slots))
        cuts = [cut(text, limit) for text, limit in zip(texts, limits, strict=True)]
        for number, slot in enumerate(slots):
            slot["texts"] = cuts[4 * number : 4 * number + 4]
        new = [
            [text, answer_text(entry.answer)]
            for text, entry in zip(cuts[4 * len(slots) :], fresh, strict=True)
        ]
        return {
            "step": step,
            "slots": slots,
            "new": new,
            **changed,
            "note": note,
            "verdict": answer_text(record.verdict),
            "verdict_correct": record.verdict_correct,
            "repeats_step": record.repeats_step,
            "over_budget": record.over_budget,
            "counted": record.counted,
            "undecided": len(record.undecided),
        }

    def _slot(self, slot: Rollout, fresh: list[Entry]) -> Json:
        """The figures of one rollout beside its texts."""
        has_tokens = measured(slot)
        return {
            "list": [self._number(entry, fresh) for entry in slot.knowledge],
            "asks_answer": slot.asks_answer,
            "predicted": answer_text(slot.predicted),
            "correct": slot.correct,
            "finish": remark(slot.finish_reason),
            "prompt_tokens": slot.prompt_tokens if has_tokens else None,
            "completion_tokens": slot.completion_tokens if has_tokens else None,
            "max_tokens": slot.max_tokens or None,
            "failure": remark(slot.failure),
            "engine": remark(slot.engine),
            "sections": titles(slot),
            "missing_sections": slot.missing_sections,
            "unreadable_box": slot.unreadable_box,
            "carried_tokens": slot.carried_tokens,
            "left_out": [slot.left_out.entries, slot.left_out.tokens],
        }

    def _changes(self, now: tuple[Entry, ...], fresh: list[Entry]) -> Json:
        """How the list in the prompt differs from the one before it, in entries' numbers."""
        emptied = self._note is not None and bool(self._note.dropped)
        if not now and not emptied:  # this step shows no list
            return {"added": [], "dropped": [], "replaced": []}
        rewritten = self._note is not None and self._note.replaced
        changed: Changes = changes(self._before, now, rewritten)
        return {
            "added": [self._number(entry, fresh) for entry in changed.added],
            "dropped": [self._number(entry, fresh) for entry in changed.dropped],
            "replaced": [[self._number(e, fresh) for e in pair] for pair in changed.replaced],
        }

    def _update(self, note: Note, fresh: list[Entry]) -> Json:
        return {
            "added": [self._number(entry, fresh) for entry in note.added],
            "dropped": [self._number(entry, fresh) for entry in note.dropped],
            "replaced": note.replaced,
            "skipped": remark(note.skipped),
            "truncated": note.truncated,
            "selected": note.selected,
        }

    def _number(self, entry: Entry, fresh: list[Entry]) -> int:
        """An entry's number; one not seen before joins `fresh`."""
        text = f"{entry.answer!r}\0{entry.text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=16).digest()
        if digest not in self._numbers:
            self._numbers[digest] = len(self._numbers)
            fresh.append(entry)
        return self._numbers[digest]


def parts(rollout: Rollout) -> tuple[str, str, str, str]:
    """Prompt, carried text, thinking, visible answer."""
    return (rollout.question, rollout.continues, *split(rollout))


def titles(rollout: Rollout) -> tuple[str, ...]:
    """The sections that were asked for; where that is not on record, those that the reply has."""
    if not foreign(rollout):
        return rollout.sections
    return tuple(dict.fromkeys(HEADER.findall(split(rollout)[1])))[:MOST_TITLES]


def remark(text: str | None) -> str | None:
    if text is None or len(text) <= LONGEST_REMARK:
        return text
    return text[:LONGEST_REMARK] + "…"


def shares(lengths: Sequence[int], allowance: int) -> list[int]:
    """What each text may take: short ones all they need, long ones an equal share of the rest."""
    limits = [0] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda number: lengths[number])
    for done, number in enumerate(order):
        limits[number] = min(lengths[number], allowance // (len(order) - done))
        allowance -= limits[number]
    return limits


def cut(text: str, limit: int) -> Excerpt:
    """The text, or its beginning, how many characters are left out, and its end."""
    if len(text) <= limit:
        return text
    head = limit // 2
    return [text[:head], len(text) - limit, text[len(text) - (limit - head) :]]
