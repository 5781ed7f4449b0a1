r"""Reading replies written as `[Header]: text` sections, and the expression that forces them.

A section that is missing or cut off is a value (None, or the text up to the end), never an
exception. Rules: METHOD.md, "The four methods".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Sections that are not free text, as METHOD.md asks for them.
FORMS = {
    "Answer": r"\\boxed\{-?[0-9]{1,6}\}",
    "Adding?": "(Yes|No)",
    "Dropping?": "(Yes|No)",
    "Least Useful to Drop": "(Dropping Experimental Knowledge [0-9]{1,2}|N/A)",
}


def header(name: str) -> str:
    return f"[{name}]"


def section(text: str, name: str, until: str | None = None) -> str | None:
    """The text from the last `[name]` up to the next `[until]`, or to the end where there is none.

    None where `[name]` does not occur. Nothing is stripped.
    """
    _, found, rest = text.rpartition(header(name))
    if not found:
        return None
    return rest.partition(header(until))[0] if until else rest


def missing(names: Sequence[str], visible: str) -> dict[str, object]:
    """For a rollout's record: which of the sections asked for a reply lacks, {} if none."""
    lacking = [name for name in names if header(name) not in visible]
    return {"missing_sections": lacking} if lacking else {}


def prose(text: str) -> str:
    """A section as running text: its header's colon and the blanks after it dropped, the first
    letter lower-cased.

    The colon is the header's when nothing but blanks and markup stands before it, so that
    `**[Summary]**: text` reads like `[Summary]: text` and a colon inside a sentence stays.
    """
    text = re.sub(r"\A[\s*_]*:", "", text).strip()
    return text[:1].lower() + text[1:]


def reference(visible: str) -> str:
    """The reference solution a reply leaves: its summary, or all of it where it has none."""
    summary = section(visible, "Summary", until="Answer")
    return visible if summary is None else prose(summary)


def literal(text: str) -> str:
    """The text as a regular expression, without the escapes grammar compilers do not know."""
    return re.sub(r"[^\w\s]", r"\\\g<0>", text)


def pattern(names: Sequence[str], max_tokens: int) -> str:
    r"""A regular expression for a reply made of exactly these sections, `[Answer]` holding a boxed
    integer: what `--force_sections` constrains a model to that does not keep the format itself.

    The free sections are bounded (in characters, about two per token of an equal share of the
    reply's budget) so that the answer is reached before the budget ends.
    """
    free = max(1, sum(name not in FORMS for name in names))
    text = r"[^\[\]]{20," + str(max(40, 2 * max_tokens // free)) + "}"
    return r"\n".join(rf"\[{literal(name)}\]: {FORMS.get(name, text)}" for name in names)
