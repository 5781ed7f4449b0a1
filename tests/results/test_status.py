"""What status.json and the status line say, from scripted figures, hostile ones among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kflow.results.status import (
    EngineStatus,
    Status,
    StatusFile,
    duration,
    engine_status,
    line,
)
from kflow.types import EngineState

ENGINE = EngineStatus(5310.4, 28, 2, 1_204_000, 0.634, 4)
STATUS = Status(1920, 412, seconds_left=11_400, engine=ENGINE)
WHOLE = (
    "412/1,920 steps, 3 h 10 min left, 28 running, 2 waiting, 5,310 tokens/s, KV cache 63%, "
    "4 preemptions, 1,204,000 tokens in flight"
)
LINES: dict[str, tuple[list[Status], int | None, str]] = {
    "all": ([STATUS], None, WHOLE),
    "just enough room": ([STATUS], len(WHOLE), WHOLE),
    "a column less": ([STATUS], len(WHOLE) - 1, WHOLE.rpartition(", 1,204")[0]),
    "80 columns": ([STATUS], 80, WHOLE.partition(", KV")[0]),
    "none": ([STATUS], 0, ""),
    "nothing known yet": ([Status(9, 0)], None, "0/9 steps"),
    "a server": ([Status(9, 1, engine=EngineStatus(12.6))], None, "1/9 steps, 13 tokens/s"),
    "an idle engine": (
        [Status(9, 1, engine=EngineStatus(0.0, 0, 0, 0, 0.0, 0))],
        None,
        "1/9 steps, 0 running, 0 tokens/s, KV cache 0%",
    ),
    "side by side": (
        [STATUS, Status(80, 8, seconds_left=20_000, engine=ENGINE)],
        40,
        "420/2,000 steps, 5 h 34 min left",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_the_line(case: str) -> None:
    statuses, width, expected = LINES[case]
    assert line(statuses, width) == expected


def test_what_an_engine_waits_for_is_made_printable_and_short() -> None:
    state = EngineState(3, 1, 900, 0.5, 2, "\x1b[2J" + 400 * "a")
    status = engine_status(state, 1.0)
    assert status == EngineStatus(1.0, 3, 1, 900, 0.5, 2, r"\x1b[2J" + 293 * "a")
    assert engine_status(None, 1.0) == EngineStatus(1.0)
    assert "waiting for" in line([Status(9, 1, engine=status)])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 min"), (1, "1 min"), (60, "1 min"), (3540.5, "1 h 0 min"), (11_400, "3 h 10 min"),
        (86_399, "1 d 0 h"), (180_000, "2 d 2 h"),
    ],
)  # fmt: skip
def test_a_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_the_file_holds_what_is_known(tmp_path: Path) -> None:
    file = StatusFile(tmp_path)
    file.update(STATUS)
    file.update(Status(1, 1))  # too soon after it
    content = json.loads((tmp_path / "status.json").read_bytes())
    assert content.pop("updated") < content.pop("estimated_end")
    known = {name: value for name, value in vars(ENGINE).items() if value is not None}
    assert content == {
        "steps_total": 1920, "steps_done": 412, "state": "running", "rollouts": 0, "failures": 0,
        "stopped": [], "rollouts_by_step": [], "seconds_left": 11_400, "engine": known,
    }  # fmt: skip
    file.update(Status(9, 9, "complete"), at_once=True)
    last = json.loads((tmp_path / "status.json").read_bytes())
    assert (last["state"], "engine" in last, "estimated_end" in last) == ("complete", False, False)
