"""What a reader of a run has to know besides its figures (steps that are missing, counts that are
estimates, replies of other engines), and the settings in which runs differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kflow.ground.terminal import counted
from kflow.results.find import Place
from kflow.results.recorded import IDENTITY, find_different, flatten, part
from kflow.results.rollout import Rollout

if TYPE_CHECKING:
    from kflow.results.runs import SavedRun

MOST_NAMED = 8
Rows = Mapping[tuple[int, int], Sequence[Rollout]]  # by seed and step


def list_remarks(
    folder: Path,
    places: Iterable[Place],
    steps: Sequence[int],
    manifest: dict[str, Any] | None,
    rollouts: Rows,
) -> list[str]:
    """steps: those that every seed has."""
    slots = list_slots(rollouts)
    estimates = sum(bool(slot.estimated) for slot in slots)
    lost = sum(slot.lost_context for slot in slots)
    notes = []
    if estimates:
        of = f"{estimates:,} of {len(slots):,} rollouts"
        notes.append(f"{folder}: token counts of {of} are estimates")
    notes += describe_progress(folder, places, steps, manifest)
    if lost:
        notes.append(
            f"{folder} has {counted(lost, 'rollout')} of {len(slots):,} that continued without "
            "their own reply so far: they were preempted under asynchronous scheduling, which "
            "loses it in vLLM before 0.11.2"
        )
    if engines := name_engines(rollouts):
        notes.append(f"{folder} was resumed with another engine: {engines}")
    return notes


def list_slots(rollouts: Rows) -> list[Rollout]:
    return [slot for row in rollouts.values() for record in row for slot in record.new_slots]


def describe_progress(
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


def name_engines(rollouts: Rows) -> str:
    """Which other engines than the run's first have replied, and to how many rollouts; "" for
    none."""
    slots = list_slots(rollouts)
    counts = Counter(slot.engine for slot in slots if slot.engine is not None).most_common()
    each = [f"{name[:200]} ({n:,} of {len(slots):,} rollouts)" for name, n in counts[:MOST_NAMED]]
    return ", ".join(each) + ", ..." * (len(counts) > MOST_NAMED)


def find_differing_settings(runs: Sequence[SavedRun]) -> dict[str, list[str]]:
    """Setting -> its value in each run, for those in which the runs differ; `-` where a run has
    no such setting. What only one method or family has, or only one prompt file, follows from
    those and is not shown."""
    return find_different([list_settings(run) for run in runs])


def list_settings(run: SavedRun) -> dict[str, str]:
    """All that decides a run's results, flat; the settings themselves without a prefix."""
    whole = run.manifest or {}
    parts = {k: v for k, v in whole.items() if k not in ("sessions", "settings")}
    own = part(whole, "settings") or {}
    compared = {k: v for k, v in own.items() if k in (*IDENTITY, "several_seeds")}
    words = {"wording": run.wording or "", "other engines": name_engines(run.rollouts)}
    seen = {name: value for name, value in words.items() if value}
    return flatten(compared) | flatten(parts) | seen
