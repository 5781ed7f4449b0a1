"""status.json: how far a run is, for whoever watches its folder."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from .files import write_whole

EVERY = 10.0  # seconds


@dataclass(frozen=True)
class Stopped:
    """A chain that the engine gave up for now: where it stands and why."""

    problem: str
    seed: int
    step: int
    slot: int
    reason: str


@dataclass
class Status:
    """state: `running`, `complete`, or how the program ended. steps_done, steps_total: of all
    chains; a step is one rollout where a method has one per step. rollouts, failures: of this start
    of the program, failures for good only."""

    steps_total: int
    steps_done: int
    state: str = "running"
    rollouts: int = 0
    failures: int = 0
    stopped: list[Stopped] = field(default_factory=list)
    updated: str = ""


class StatusFile:
    """Writes the status at the end of a run, and before that at most every ten seconds."""

    def __init__(self, folder: Path, status: Status) -> None:
        self._path, self._status = folder / "status.json", status
        self._last = -EVERY

    def update(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if now - self._last < EVERY and not at_once:
            return
        self._last = now
        self._status.updated = datetime.now(timezone.utc).isoformat(timespec="seconds")
        content = msgspec.json.format(msgspec.json.encode(asdict(self._status)), indent=2)
        write_whole(self._path, [content, b"\n"], sync=at_once)
