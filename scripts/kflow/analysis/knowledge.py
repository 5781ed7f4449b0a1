"""The knowledge list a prompt shows, read back from the prompt as it was sent.

The headings and numbers are METHOD.md's ("The four methods"), so the lists of the published
code's folders read alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

ALIKE = 0.6  # the share of their words that two versions of an entry have in common
MOST_PAIRS = 10_000

BEFORE_REFERENCE = ("## Empirical Mistakes List", "## Experimental Knowledge List")
AFTER_REFERENCE = "## Wrong Answer List"
REFERENCE = "\n## Reference Solution\n"
ENDS = (REFERENCE, "\n## Instructions\n")
NUMBERED = re.compile(r"(?:\A|\n)[ \t]*\*\*(?:Wrong Answer|EK) \d+\*\*:[ \t]*")
NOTHING = re.compile(r"\W*(n/?a|none|the list is empty)\W*", re.IGNORECASE)
ITEM = re.compile(r"\n+|(?<=[.!?;:])\s+(?=(?:[-*•]|\d{1,2}[.)])\s)")


def shown(prompt: str) -> tuple[str, ...] | None:
    """The entries of the list in a prompt, in the order shown; None where it has no list.

    A list without numbers (METHOD.md, section 2) is split into its items where it marks them.
    """
    text = listed(prompt)
    if text is None:
        return None
    before, *entries = NUMBERED.split(text)
    if not entries:
        entries = [] if NOTHING.fullmatch(before) else ITEM.split(before)
    return tuple(entry for each in entries if (entry := each.strip()))


def listed(prompt: str) -> str | None:
    """The text under the list's heading.

    A reference solution is a model's text and may spell any heading: a list that comes before it
    is looked for up to there, the one that comes after it from the end.
    """
    before, _, _ = prompt.partition(REFERENCE)
    for heading in BEFORE_REFERENCE:
        if f"\n{heading}\n" in before:
            return up_to_end(prompt.partition(f"\n{heading}")[2])
    _, found, rest = prompt.rpartition(f"\n{AFTER_REFERENCE}\n")
    return up_to_end(f"\n{rest}") if found else None


def up_to_end(text: str) -> str:
    """A section up to the next one: those our prompts end a list with, else any heading."""
    ends = [at for end in ENDS if (at := text.find(end)) >= 0]
    other = text.find("\n## ")
    return text[: min(ends, default=other if other >= 0 else len(text))].strip()


def changes(
    before: tuple[str, ...], now: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(added, dropped): the entries that one list has and the other has not."""
    old, new = set(before), set(now)
    return (
        tuple(entry for entry in now if entry not in old),
        tuple(entry for entry in before if entry not in new),
    )


def replacements(
    dropped: Sequence[str], added: Sequence[str], filed: Mapping[str, str], rewritten: bool
) -> list[tuple[str, str]]:
    """(old, new) for the entries dropped and added that are versions of one another.

    Those filed under the same abandoned answer, those that share most of their words, the closest
    first, and, where the whole list was written anew (`rewritten`), an only one with an only one.
    filed: entry -> the answer it is filed under, where it is known. Lists of hundreds of entries,
    which no method makes on purpose, are not looked into.
    """
    if len(dropped) * len(added) > MOST_PAIRS:
        return []
    words = {entry: Counter(entry.split()) for entry in {*dropped, *added}}
    found = []
    for old in dropped:
        for new in added:
            same_answer = old in filed and filed[old] == filed.get(new)
            alone = rewritten and len(dropped) == len(added) == 1
            shared = 2 * (words[old] & words[new]).total()
            likeness = shared / max(1, words[old].total() + words[new].total())
            if same_answer or alone or likeness >= ALIKE:
                found.append((same_answer, likeness, old, new))
    pairs: dict[str, str] = {}
    for _, _, old, new in sorted(found, key=lambda each: each[:2], reverse=True):
        if old not in pairs and new not in pairs.values():
            pairs[old] = new
    return list(pairs.items())
