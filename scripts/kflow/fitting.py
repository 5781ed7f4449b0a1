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
    """A prompt that fits, the state as it shows it, and what was left out (empty: nothing)."""

    prompt_ids: tuple[int, ...]
    shown: State
    left_out: Record


def fit(state: State, render: Callable[[State], list[int]], measure: Measure) -> Fitted | None:
    """Render `state`, leaving out what makes it at most half of the window long: the fewest
    entries, then whole sentences (a last one that would just fit may go too).

    None where even the bare question is longer than that.
    """
    limit = measure.window // 2
    ids = render(state)
    if len(ids) <= limit:
        return Fitted(tuple(ids), state, {})
    total = len(state.knowledge)

    # Shorter lists render to shorter prompts, so the fewest entries to leave out can be bisected.
    fewest = bisect_left(
        range(total),
        True,
        lo=min(1, total),
        key=lambda n: len(render(replace(state, left_out=n))) <= limit,
    )
    left_out: Record = {"knowledge_entries": fewest} if fewest else {}
    state = replace(state, left_out=fewest)
    ids = render(state)
    if len(ids) > limit and state.reference:
        whole, state = state.reference, replace(state, reference="")
        ids = render(state)
        budget = limit - len(ids)
        while budget > 0 and (reference := measure.last_sentences(whole, budget)):
            longer = replace(state, reference=reference)
            longer_ids = render(longer)
            if len(longer_ids) <= limit:
                state, ids = longer, longer_ids
                break
            # Tokens merge differently across joins, so a sum of counts can fall a little short.
            budget -= len(longer_ids) - limit
        left_out["reference_tokens"] = measure.count(whole) - measure.count(state.reference or "")
    return Fitted(tuple(ids), state, left_out) if len(ids) <= limit else None
