"""Text for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text a terminal can only show: control characters, line breaks too, are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
