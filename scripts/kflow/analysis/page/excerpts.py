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
from typing import Any, NamedTuple

from kflow.method import StepNote
from kflow.methods.candidates import equal_share
from kflow.results.rollout import Rollout, is_measured, split
from kflow.results.rows import TEXTS, as_text, make_row
from kflow.results.runs import SavedRun
from kflow.types import Entry

HEADER = re.compile(r"\[([A-Z][A-Za-z ]{3,50}\??)\]")
MOST_TITLES = 20
LONGEST_REMARK = 500  # characters, of a failure, or of why an update added nothing

Json = dict[str, object]
Excerpt = str | list[str | int]


def pack_texts(run: SavedRun, seed: int, allowance: int) -> Iterator[str]:
    """One base64 block per problem, in the run's order: zlib over lines of JSON, a step each.

    allowance: characters that the texts of one rollout may take. Raises UserError where a file
    cannot be read a second time.
    """
    chains = [Lines(allowance) for _ in run.problems]
    for _, step, place, record in run.records(run.steps, [seed]):
        chains[place].add(step, record)
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
        self._note: StepNote | None = None

    def add(self, step: int, record: Rollout) -> None:
        line = json.dumps(self._line(step, record)).encode() + b"\n"
        self._parts.append(self._compress.compress(line))

    def block(self) -> str:
        self._parts.append(self._compress.flush())
        return base64.b64encode(b"".join(self._parts)).decode()

    def _line(self, step: int, record: Rollout) -> Json:
        new: list[Entry] = []
        slots = [self._slot(step, record, slot, new) for slot in record.slots]
        changed = self._changes(record.slots[0].knowledge, new)
        note = None if record.note is None else self._update(record.note, new)
        self._before, self._note = record.slots[0].knowledge or self._before, record.note
        texts = [text for slot in record.slots for text in list_texts(slot)]
        texts += [entry.text for entry in new]
        most = equal_share([len(text) for text in texts], self._allowance * len(slots))
        cuts = [cut(text, most) for text in texts]
        for number, slot in enumerate(slots):
            slot["texts"] = cuts[4 * number : 4 * number + 4]
        entries = [
            [text, as_text(entry.answer)]
            for text, entry in zip(cuts[4 * len(slots) :], new, strict=True)
        ]
        return {
            "step": step,
            "slots": slots,
            "new": entries,
            **changed,
            "note": note,
            "verdict": as_text(record.verdict),
            "verdict_correct": record.verdict_correct,
            "repeats_step": record.repeats_step,
            "over_budget": record.over_budget,
            "counted": record.counted,
            "undecided": len(record.undecided),
        }

    def _slot(self, step: int, record: Rollout, slot: Rollout, new: list[Entry]) -> Json:
        """What is on record of one rollout beside its texts."""
        row = make_row("", 0, step, record, slot)
        facts = {name: trim(value) for name, value in row.items() if name not in TEXTS}
        listed = [self._number(entry, new) for entry in slot.knowledge]
        return {**facts, "sections": find_titles(slot), "list": listed}

    def _changes(self, now: tuple[Entry, ...], new: list[Entry]) -> Json:
        """How the list in the prompt differs from the one before it, in entries' numbers."""
        emptied = self._note is not None and bool(self._note.dropped)
        if not now and not emptied:  # this step shows no list
            return {"added": [], "dropped": [], "replaced": []}
        rewritten = self._note is not None and self._note.replaced
        changed = find_changes(self._before, now, rewritten)
        return {
            "added": [self._number(entry, new) for entry in changed.added],
            "dropped": [self._number(entry, new) for entry in changed.dropped],
            "replaced": [[self._number(e, new) for e in pair] for pair in changed.replaced],
        }

    def _update(self, note: StepNote, new: list[Entry]) -> Json:
        return {
            "added": [self._number(entry, new) for entry in note.added],
            "dropped": [self._number(entry, new) for entry in note.dropped],
            "replaced": note.replaced,
            "skipped": trim(note.skipped),
            "truncated": note.truncated,
            "selected": note.selected,
        }

    def _number(self, entry: Entry, new: list[Entry]) -> int:
        """An entry's number; one not seen before joins `new`."""
        text = f"{entry.answer!r}\0{entry.text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=16).digest()
        if digest not in self._numbers:
            self._numbers[digest] = len(self._numbers)
            new.append(entry)
        return self._numbers[digest]


def list_texts(rollout: Rollout) -> tuple[str, str, str, str]:
    """Prompt, carried text, thinking, visible answer."""
    return (rollout.question, rollout.continues, *split(rollout))


def cut(text: str, limit: int) -> Excerpt:
    """The text, or its beginning, how many characters are left out, and its end."""
    if len(text) <= limit:
        return text
    head = limit // 2
    return [text[:head], len(text) - limit, text[len(text) - (limit - head) :]]


def find_titles(rollout: Rollout) -> tuple[str, ...]:
    """The sections that were asked for; where that is not on record, those that the reply has."""
    if is_measured(rollout):
        return rollout.sections
    return tuple(dict.fromkeys(HEADER.findall(split(rollout)[1])))[:MOST_TITLES]


def trim(value: Any) -> Any:
    """A value without what a page has no room for: of a failure, or of why an update added
    nothing, the beginning."""
    long = isinstance(value, str) and len(value) > LONGEST_REMARK
    return f"{value[:LONGEST_REMARK]}…" if long else value


class Changes(NamedTuple):
    """How the knowledge list of one prompt differs from that of the prompt before it. replaced:
    (old, new)."""

    added: tuple[Entry, ...]
    dropped: tuple[Entry, ...]
    replaced: tuple[tuple[Entry, Entry], ...]


def find_changes(before: Sequence[Entry], now: Sequence[Entry], rewritten: bool) -> Changes:
    """An entry replaces another where both are filed under the same answer, and where the whole
    list was written anew (`rewritten`) and is one entry before and after."""
    old, new = set(before), set(now)
    added = [entry for entry in now if entry not in old]
    dropped = [entry for entry in before if entry not in new]
    alone = rewritten and len(added) == len(dropped) == 1
    replaced = []
    for entry in tuple(added):
        older = next((e for e in dropped if alone or are_filed_alike(e, entry)), None)
        if older is not None:
            replaced.append((older, entry))
            added.remove(entry)
            dropped.remove(older)
    return Changes(tuple(added), tuple(dropped), tuple(replaced))


def are_filed_alike(one: Entry, other: Entry) -> bool:
    return one.answer is not None and one.answer == other.answer
