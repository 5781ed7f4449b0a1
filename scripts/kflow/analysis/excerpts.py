"""The texts of a run as the page carries them: per chain one compressed block, a line of JSON per
rollout, each text whole or cut to its beginning and end.

One step's file is in memory at a time; of the steps before it there are only the compressed bytes
and the knowledge lists as they were last shown.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence

from ..terminal import first_line
from ..types import Record, UserError
from .knowledge import changes, replacements, shown
from .replies import new_text, split
from .runs import Damaged, Run, read_records

LONGEST_NOTE = 500  # characters, of a failure, or of what an update says that is no entry
ENTRIES = ("added", "dropped", "replaced")

Excerpt = str | list[str | int]


def blocks(run: Run, seed: int, allowance: int) -> Iterator[str]:
    """One base64 block per problem, in the run's order: zlib over lines of JSON, a rollout each.

    allowance: characters that the texts of one rollout may take. Raises UserError where a file
    cannot be read a second time.
    """
    chains = [Lines(allowance) for _ in run.problems]
    for step in run.steps:
        path = run.files[seed, step]
        try:
            records = read_records(path)
        except (Damaged, OSError) as error:
            raise UserError(
                f"{path} could be read at first and then not ({first_line(error)}): start again."
            ) from error
        for chain, record in zip(chains, records, strict=True):
            chain.add(step, record)
    for chain in chains:
        yield chain.block()


class Lines:
    """The lines of one chain, taken step by step.

    An entry's text is in the line where it first turns up (`new`); lines name entries by number.
    """

    def __init__(self, allowance: int) -> None:
        self._allowance = allowance
        self._compress = zlib.compressobj()
        self._parts: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self._before: tuple[str, ...] | None = None
        self._filed: dict[str, str] = {}
        self._rewritten = False

    def add(self, step: int, record: Record) -> None:
        line = json.dumps(self._line(step, record)).encode() + b"\n"
        self._parts.append(self._compress.compress(line))

    def block(self) -> str:
        self._parts.append(self._compress.flush())
        return base64.b64encode(b"".join(self._parts)).decode()

    def _line(self, step: int, record: Record) -> Record:
        prompt, reply = str(record["question"]), new_text(record)
        carried = str(record["pred_solution"]).removesuffix(reply)
        thinking, visible = split(reply)
        told = record.get("update")
        update = told if isinstance(told, dict) else {}
        fresh: list[str] = []
        listed = self._listed(prompt, fresh)
        learnt = self._update(update, fresh)
        texts = [prompt, carried, thinking, visible, *fresh]
        limits = shares([len(text) for text in texts], self._allowance)
        cuts = [cut(text, limit) for text, limit in zip(texts, limits, strict=True)]
        return {
            "step": step,
            "prompt": cuts[0],
            "carried": cuts[1],
            "thinking": cuts[2],
            "visible": cuts[3],
            "new": cuts[4:],
            **listed,
            "update": learnt,
            "predicted": written(record["predicted"]),
            "finish": note(record.get("finish_reason")),
            "prompt_tokens": note(record.get("prompt_tokens")),
            "completion_tokens": note(record.get("completion_tokens")),
            "max_tokens": note(record.get("max_tokens")),
            "failure": note(record.get("failure")),
            "left_out": pairs(record.get("left_out")),
            "carried_from": note(record.get("carried_from")),
        }

    def _listed(self, prompt: str, fresh: list[str]) -> Record:
        """The list in a prompt by numbers, and what changed since the list before it."""
        now, before = shown(prompt), self._before
        self._before = now or ()
        if now is None:
            return {"list": None}
        listed: Record = {"list": [self._number(entry, fresh) for entry in now]}
        if before is None:
            return listed
        added, dropped = changes(before, now)
        replaced = replacements(dropped, added, self._filed, self._rewritten)
        old, new = {pair[0] for pair in replaced}, {pair[1] for pair in replaced}
        kept = set(now) | old
        self._filed = {entry: answer for entry, answer in self._filed.items() if entry in kept}
        return {
            **listed,
            "added": [self._number(entry, fresh) for entry in added if entry not in new],
            "dropped": [self._number(entry, fresh) for entry in dropped if entry not in old],
            "replaced": [[self._number(entry, fresh) for entry in pair] for pair in replaced],
        }

    def _update(self, update: Record, fresh: list[str]) -> list[list[str | int]]:
        """[what, text or an entry's number], in the record's order."""
        self._rewritten = "replaced" in update
        if isinstance(update.get("added"), str) and "under_answer" in update:
            self._filed[str(update["added"]).strip()] = str(update["under_answer"])
        rows: list[list[str | int]] = []
        for name, value in update.items():
            what = name.replace("_", " ")
            for each in value if isinstance(value, list) else [value]:
                if name in ENTRIES and isinstance(each, str):
                    rows.append([what, self._number(each.strip(), fresh)])
                else:
                    rows.append([what, note(each) or "none"])
        return rows

    def _number(self, entry: str, fresh: list[str]) -> int:
        """An entry's number; one not seen before joins `fresh`."""
        digest = hashlib.blake2b(entry.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest not in self._numbers:
            self._numbers[digest] = len(self._numbers)
            fresh.append(entry)
        return self._numbers[digest]


def written(value: object) -> str | None:
    """A value as text, so that an integer of any length arrives in the browser as it is."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def note(value: object) -> str | None:
    text = written(value)
    return text if text is None or len(text) <= LONGEST_NOTE else text[:LONGEST_NOTE] + "…"


def pairs(value: object) -> list[list[str]]:
    """A record's small object as [name, value] in words."""
    items = value.items() if isinstance(value, dict) else ()
    return [[str(k).replace("_", " "), note(v) or "none"] for k, v in items]


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
