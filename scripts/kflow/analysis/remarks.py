"""What a reader of a run has to know besides its figures: steps that are missing, counts that are
estimates, replies of other engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kflow.ground.terminal import counted
from kflow.results.find import Place
from kflow.results.recorded import part
from kflow.results.rollout import Rollout

MOST_NAMED = 8


def estimates(folder: Path, records: Sequence[Rollout]) -> list[str]:
    """A note on token counts that are estimates."""
    slots = [slot for record in records for slot in record.new_slots]
    number = sum(bool(slot.estimated) for slot in slots)
    if not number:
        return []
    return [f"{folder}: token counts of {number:,} of {len(slots):,} rollouts are estimates"]


def progress(
    folder: Path, places: Iterable[Place], steps: Sequence[int], manifest: dict[str, Any] | None
) -> list[str]:
    """Notes on steps that are not there: still to come, or missing in between."""
    most = part(manifest, "settings", "reflex_size")
    journals = {step for place in places for step in place.journals}
    there = journals.union(steps)
    lacking = list(islice((step for step in range(steps[-1]) if step not in there), MOST_NAMED + 1))
    notes = []
    if lacking:
        numbers = ", ".join(map(str, lacking[:MOST_NAMED]))
        noun = "step" if len(lacking) == 1 else "steps"
        notes.append(f"{folder} lacks {noun} {numbers}{', ...' * (len(lacking) > MOST_NAMED)}")
    complete = most == steps[-1] + 1 and not journals  # the last step is there
    if isinstance(most, int) and len(steps) < most and not complete:
        notes.append(f"{folder} is in progress: {len(steps)} of {most} steps are complete")
    elif journals:
        notes.append(f"{folder} is in progress: {counted(len(steps), 'step')} complete")
    return notes


def lost_context(folder: Path, records: Sequence[Rollout]) -> list[str]:
    """A note on replies that vLLM has damaged."""
    fresh = [slot for record in records for slot in record.new_slots]
    lost = sum(slot.lost_context for slot in fresh)
    if not lost:
        return []
    return [
        f"{folder} has {counted(lost, 'rollout')} of {len(fresh):,} that continued without their "
        "own reply so far: they were preempted under asynchronous scheduling, which loses it in "
        "vLLM before 0.11.2"
    ]


def engines(rollouts: Mapping[tuple[int, int], Sequence[Rollout]]) -> str:
    """Which other engines than the run's first have replied, and to how many rollouts; "" for
    none."""
    records = [record for row in rollouts.values() for record in row]
    slots = [slot for record in records for slot in record.new_slots]
    counts = Counter(slot.engine for slot in slots if slot.engine is not None).most_common()
    each = [f"{name[:200]} ({n:,} of {len(slots):,} rollouts)" for name, n in counts[:MOST_NAMED]]
    return ", ".join(each) + ", ..." * (len(counts) > MOST_NAMED)
