"""How far a run is: status.json, for whoever watches its folder, and the line on the terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec

from kflow.ground.files import read_regular, write_whole
from kflow.ground.price import money
from kflow.ground.terminal import counted, printable
from kflow.types import EngineState

EVERY = 10.0  # seconds
LARGEST_FILE = 1 << 20  # bytes
LONGEST_WAIT = 300  # characters of what is waited for


@dataclass(frozen=True)
class StalledChain:
    """A chain that the engine gave up for now: where it stands and why."""

    problem: str
    seed: int
    step: int
    slot: int
    reason: str


@dataclass(frozen=True)
class EngineStatus:
    """The engine's state (types.EngineState), of all runs that share it. tokens_per_second: of the
    last minute. waits: what it waits for and why."""

    tokens_per_second: float | None = None
    running: int | None = None
    waiting: int | None = None
    tokens_in_flight: int | None = None
    kv_usage: float | None = None
    preemptions: int | None = None
    waits: str | None = None

    @property
    def stands_still(self) -> bool:
        """Whether nothing runs from which the time left could be estimated."""
        return self.waits is not None and not self.running


@dataclass(frozen=True)
class Status:
    """state: `running`, `complete`, or how the program ended. steps_done, steps_total: of all
    chains; a step is one rollout where a method has one per step. rollouts, failures: of this start
    of the program, failures for good only. rollouts_by_step: on record, from step 0, by all starts.
    seconds_left: estimated, None where nothing is known yet. estimated_end: the same as a time.
    cost: of what is on record, None where nothing says what tokens cost.
    """

    steps_total: int
    steps_done: int
    state: str = "running"
    rollouts: int = 0
    failures: int = 0
    stopped: tuple[StalledChain, ...] = ()
    updated: str = ""
    rollouts_by_step: tuple[int, ...] = ()
    seconds_left: float | None = None
    estimated_end: str | None = None
    cost: float | None = None
    engine: EngineStatus | None = None


def engine_status(state: EngineState | None, tokens_per_second: float | None) -> EngineStatus:
    """What an engine waits for may be in a server's words, which are made printable."""
    running, waiting, tokens, usage, preemptions, waits = state or (None,) * 6
    shown = None if waits is None else printable(waits)[:LONGEST_WAIT]
    return EngineStatus(tokens_per_second, running, waiting, tokens, usage, preemptions, shown)


def line(statuses: Sequence[Status], width: int | None = None) -> str:
    """Where the runs are, all in one line of at most `width` characters, the most important first;
    what has no room is left out as a whole."""
    done = sum(status.steps_done for status in statuses)
    total = sum(status.steps_total for status in statuses)
    left = [status.seconds_left for status in statuses if status.seconds_left is not None]
    parts, engine = [f"{done:,}/{total:,} steps"], statuses[0].engine
    if engine is not None and engine.waits is not None:
        parts.append(f"waiting for {engine.waits}"[: LONGEST_WAIT if width is None else width // 2])
    if left:
        parts.append(f"{duration(max(left))} left")
    if costs := [status.cost for status in statuses if status.cost is not None]:
        parts.append(f"cost {money(sum(costs))}")
    if engine is not None:
        parts += engine_parts(engine)
    shown = ""
    for part in parts:
        longer = f"{shown}, {part}" if shown else part
        if width is not None and len(longer) > width:
            break
        shown = longer
    return shown or parts[0][: max(0, width or 0)]


def engine_parts(engine: EngineStatus) -> list[str]:
    parts = []
    if engine.running is not None:
        parts.append(f"{engine.running:,} running")
    if engine.waiting:
        parts.append(f"{engine.waiting:,} waiting")
    if engine.tokens_per_second is not None:
        parts.append(f"{engine.tokens_per_second:,.0f} tokens/s")
    if engine.kv_usage is not None:
        parts.append(f"KV cache {engine.kv_usage:.0%}")
    if engine.preemptions:
        parts.append(counted(engine.preemptions, "preemption"))
    if engine.tokens_in_flight:
        parts.append(f"{engine.tokens_in_flight:,} tokens in flight")
    return parts


def duration(seconds: float) -> str:
    """`2 d 3 h`, `3 h 10 min`, `7 min`."""
    minutes = math.ceil(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days:,} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


class StatusFile:
    """Writes the status at the end of a run, and before that at most every ten seconds."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "status.json"
        self._last = -EVERY

    def update(self, status: Status, at_once: bool = False) -> None:
        if time.monotonic() - self._last < EVERY and not at_once:
            return
        self._last = time.monotonic()
        now = datetime.now(timezone.utc)
        end = None
        if status.seconds_left is not None:
            end = (now + timedelta(seconds=status.seconds_left)).isoformat(timespec="seconds")
        stamp = now.isoformat(timespec="seconds")
        content = to_json(replace(status, updated=stamp, estimated_end=end))
        write_whole(self._path, [content], sync=at_once)


def to_json(status: Status) -> bytes:
    """Without what is not known."""
    shown = drop_unknown(asdict(status))
    return msgspec.json.format(msgspec.json.encode(shown), indent=2) + b"\n"


def read(folder: Path) -> Status:
    """A run's status.json. Raises OSError, and ValueError for what is no status."""
    content = read_regular(folder / "status.json", LARGEST_FILE, follow=False)
    try:
        return msgspec.json.decode(content, type=Status)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def drop_unknown(values: dict[str, object]) -> dict[str, object]:
    return {
        name: drop_unknown(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }
