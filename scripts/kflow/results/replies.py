"""A saved reply's parts."""

from __future__ import annotations

from kflow.results.rollout import Rollout
from kflow.sections import visible


def split(rollout: Rollout) -> tuple[str, str]:
    """(thinking, visible answer) (docs/method.md, "Defaults"); no thinking where there is none."""
    answer = visible(rollout.family, rollout.reply, rollout.end_of_thinking)
    return rollout.reply[: len(rollout.reply) - len(answer)], answer
