"""A saved reply's parts."""

from __future__ import annotations

from ..rollout import Rollout

MARKS = {"gpt_oss": "assistantfinal", "qwen": "</think>"}


def split(rollout: Rollout) -> tuple[str, str]:
    """(thinking, visible answer): after the family's last mark (METHOD.md, "Defaults"); no thinking
    where there is none."""
    before, mark, after = rollout.reply.rpartition(MARKS.get(rollout.family, MARKS["qwen"]))
    return (before, after) if mark else ("", rollout.reply)
