"""A saved reply's parts, whichever family wrote it."""

from __future__ import annotations

from ..families import gpt_oss, qwen
def split(text: str) -> tuple[str, str]:
    """(thinking, visible answer): after the family's last mark, whichever is there (METHOD.md,
    "Defaults"); no thinking where there is none."""
    for mark in (gpt_oss.FINAL, qwen.THINKING_ENDS):
        before, found, after = text.rpartition(mark)
        if found:
            return before, after
    return "", text


def visible(text: str) -> str:
    return split(text)[1]
