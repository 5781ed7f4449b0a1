r"""Reading replies written as `[Header]: text` sections, and the expression that forces them.

A section that is missing or truncated is a value (None, or the text up to the end), never an
exception. Rules: docs/method.md, "The four methods".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

END_OF_THINKING = "</think>"
FINAL = "assistantfinal"  # as vLLM gives it with special tokens skipped
# The same where a server leaves harmony's markup in the text, and what it leaves at the end.
FINAL_MARKUP, ENDS = "<|channel|>final<|message|>", ("<|return|>", "<|end|>")
# What the visible answer follows in replies of a family of ours; END_OF_THINKING in any other's.
MARKS = {"gpt_oss": FINAL}


def visible(family: str, text: str, end: str | None = None) -> str:
    """The part of a reply after the thinking, else all of it. end: what ends the thinking of a
    family that is neither ours nor one with `</think>`."""
    if family == "gpt_oss" and FINAL_MARKUP in text:
        answer = text.rpartition(FINAL_MARKUP)[2]
        return next((answer.removesuffix(e) for e in ENDS if answer.endswith(e)), answer)
    return text.rpartition(end or MARKS.get(family, END_OF_THINKING))[2]


def header(name: str) -> str:
    return f"[{name}]"


def section(text: str, name: str, until: str | None = None) -> str | None:
    """The text from the last `[name]` up to the next `[until]`, or to the end where there is none.

    None where `[name]` does not occur. Nothing is stripped.
    """
    _, mark, rest = text.rpartition(header(name))
    if not mark:
        return None
    return rest.partition(header(until))[0] if until else rest


def missing(names: Sequence[str], visible: str) -> tuple[str, ...]:
    """The sections among `names` that a visible answer lacks."""
    return tuple(name for name in names if header(name) not in visible)


def body(text: str) -> str:
    """A section without its header's colon and the whitespace around it.

    The colon is the header's when nothing but whitespace and markup stands before it, so that
    `**[Summary]**: text` reads like `[Summary]: text` and a colon inside a sentence stays.
    """
    return re.sub(r"\A[\s*_]*:", "", text).strip()


def prose(text: str) -> str:
    """A section as running text: its body with the first letter lower-cased."""
    text = body(text)
    return text[:1].lower() + text[1:]


def reference(visible: str) -> str:
    """The reference solution a reply leaves: its summary, or all of it where it has none."""
    summary = section(visible, "Summary", until="Answer")
    return visible if summary is None else prose(summary)


def literal(text: str) -> str:
    """The text as a regular expression, without the escapes grammar compilers do not know."""
    return re.sub(r"[^\w\s]", r"\\\g<0>", text)


def pattern(names: Sequence[str], max_tokens: int, forms: Mapping[str, str]) -> str:
    r"""A regular expression for a reply made of exactly these sections: what `--force_sections`
    constrains a model to that does not keep the format itself.

    forms: section -> the expression for its text, for those that are not free text. The free
    sections are a line each, and bounded (in characters, about two per token of an equal share of
    the reply's budget) so that the last section is reached before the budget ends.
    """
    free = max(1, sum(name not in forms for name in names))
    text = r"[^\[\]\n]{5," + str(max(40, 2 * max_tokens // free)) + "}"
    return r"\n".join(rf"\[{literal(name)}\]: {forms.get(name, text)}" for name in names)
