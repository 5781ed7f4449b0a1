"""Text for a terminal or a page."""

from __future__ import annotations

import re
import unicodedata

LONGEST_WORD, SHORT, LONGEST = 1000, 80, 2000  # characters


def printable(text: str) -> str:
    """Text a terminal can only show: control characters, line breaks too, are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def safely(text: str) -> str:
    """Text for a page: characters that are invisible, or turn the text around them, are spelt
    out."""
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c
        for c in text
    )


def shortened(value: object) -> str:
    """A value in quotes for a complaint, no longer than its first 80 characters."""
    shown = repr(value[:SHORT] if isinstance(value, str) else value)
    return shown if len(shown) <= 4 * SHORT else f"{shown[:SHORT]}..."


def brief(sentence: str) -> str:
    """A sentence for a terminal, in which a word longer than any path in use is cut short."""
    cut = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda m: f"{m.group()[:SHORT]}...", sentence)
    return printable(cut if len(cut) <= LONGEST else f"{cut[:LONGEST]}...")


def first_line(error: Exception) -> str:
    """What an error says, as far as one sentence has room for it."""
    return str(error).strip().partition("\n")[0][:300]


def counted(number: int, noun: str) -> str:
    """`1 seed`, `1,920 rollouts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
