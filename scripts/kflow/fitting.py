"""Keeping a prompt within half of the window (METHOD.md, "Deviations").

What has to go goes in this order: the oldest knowledge entries, then the beginning of the
reference solution, by whole sentences.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from .types import Measure, Record, State


@dataclass(frozen=True)
class Fitted:
    """A prompt that fits, and what was left out of it for that (empty when nothing was)."""

    prompt_ids: tuple[int, ...]
    left_out: Record


def fit(state: State, render: Callable[[State], list[int]], measure: Measure) -> Fitted | None:
    """Render `state`, leaving out as little as makes it at most half of the window long.

    None where even the bare question is longer than that.
    """
    limit = measure.window // 2
    ids = render(state)
    if len(ids) <= limit:
        return Fitted(tuple(ids), {})
    total = len(state.knowledge)

    def without_oldest(dropped: int) -> State:
        return replace(state, knowledge=state.knowledge[dropped:])

    # Shorter lists render to shorter prompts, so the fewest entries to drop can be bisected.
    dropped = bisect_left(
        range(total), True, lo=min(1, total), key=lambda n: len(render(without_oldest(n))) <= limit
    )
    left_out: Record = {"knowledge_entries": dropped} if dropped else {}
    state = without_oldest(dropped)
    ids = render(state)
    if len(ids) > limit and state.reference:
        ids = render(replace(state, reference=""))
        budget = limit - len(ids)
        reference = ""
        while budget > 0 and (reference := measure.last_sentences(state.reference, budget)):
            longer = render(replace(state, reference=reference))
            if len(longer) <= limit:
                ids = longer
                break
            # Tokens merge differently across joins, so a sum of counts can fall a little short.
            budget -= len(longer) - limit
            reference = ""
        left_out["reference_tokens"] = measure.count(state.reference) - measure.count(reference)
    return Fitted(tuple(ids), left_out) if len(ids) <= limit else None
