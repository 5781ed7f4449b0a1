"""Text for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text a terminal can only show: control characters, line breaks too, are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def first_line(error: Exception) -> str:
    """What an error says, as far as one sentence has room for it."""
    return str(error).strip().partition("\n")[0][:300]
