"""How the knowledge list of one prompt differs from that of the prompt before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kflow.types import Entry


class Changes(NamedTuple):
    """replaced: (old, new)."""

    added: tuple[Entry, ...]
    dropped: tuple[Entry, ...]
    replaced: tuple[tuple[Entry, Entry], ...]


def changes(before: Sequence[Entry], now: Sequence[Entry], rewritten: bool) -> Changes:
    """An entry replaces another where both are filed under the same answer, and where the whole
    list was written anew (`rewritten`) and is one entry before and after."""
    old, new = set(before), set(now)
    added = [entry for entry in now if entry not in old]
    dropped = [entry for entry in before if entry not in new]
    alone = rewritten and len(added) == len(dropped) == 1
    replaced = []
    for entry in tuple(added):
        older = next((e for e in dropped if alone or filed_alike(e, entry)), None)
        if older is not None:
            replaced.append((older, entry))
            added.remove(entry)
            dropped.remove(older)
    return Changes(tuple(added), tuple(dropped), tuple(replaced))


def filed_alike(one: Entry, other: Entry) -> bool:
    return one.answer is not None and one.answer == other.answer
