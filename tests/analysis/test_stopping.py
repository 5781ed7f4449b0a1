"""Stopping rules, replayed on chains on record: by hand, and against runs that really stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.fakes import ScriptedEngine
from helpers.programs import Program
from helpers.results_on_disk import ours, wide, write_step
from helpers.scripted import run_script
from helpers.small_runs import figures, run_of, thinking
from kflow.analysis.run_statistics import build_timeline
from kflow.analysis.stopping import EarlyStop, parse, replay
from kflow.results.runs import SavedRun, read, read_one
from kflow.types import UserError

STEPS = "9"


def stopped(run: SavedRun, rule: str) -> EarlyStop:
    return replay(build_timeline(run), parse(rule))


@pytest.mark.parametrize(
    ("rule", "answers", "taken"),
    [
        ("stable:2", [None, None, 9, 1], 4),
        ("stable:3", [9, 9, None, 9, 9, 9, 1], 6),
        ("first:2", [None, None, 1], 2),
        ("first:9", [9, 1], 2),
        ("majority:0.6,2", [1, 9, 9, 9], 3),
        ("majority:1,1", [None, 9, 1], 2),
        ("majority:.75,4", [9, 9, 9, 1, 1], 4),
        ("majority:0.7,10", [1] * 7 + [9] * 4, 10),  # 0.7 of 10 is more than 7 in binary
    ],
)
def test_where_a_chain_stops(
    rule: str, answers: list[int | None], taken: int, tmp_path: Path
) -> None:
    """taken: rollouts of a chain with these answers."""
    run = run_of(tmp_path, [[answer] for answer in answers], golds=[1])
    assert stopped(run, rule).rollouts == taken


def test_a_step_is_taken_whole(tmp_path: Path) -> None:
    """Two slots a step: the third answer agrees with the second, the fourth comes with it."""
    for step, (one, two) in enumerate(((1, 9), (9, 1), (1, 1))):
        write_step(tmp_path, step, [wide([ours(0, 1, one), ours(0, 1, two)], 1)])
    run = read(tmp_path, "x")
    assert stopped(run, "first:3").rollouts == 4
    assert stopped(run, "stable:2").rollouts == 6


def test_steps_without_an_answer_stop_nothing(tmp_path: Path) -> None:
    run = thinking(tmp_path)
    whole = stopped(run, "first:1000")
    assert (whole.stopped_early, whole.rollouts) == (0, whole.whole_rollouts)
    assert stopped(run, "first:1").rollouts > 1  # its first step asks for strategies


@pytest.mark.parametrize("count", [2, 3])
def test_a_live_run_stops_where_the_replay_says(count: int, tmp_path: Path) -> None:
    flags = ["--reflex_size", STEPS, "--num_seeds", "3"]
    live = [*flags, "--stop_when_stable", str(count)]
    runs = {}
    for name, argv in (("whole", flags), ("live", live)):
        ran = run_script("vllm_kflow_qwen", argv, tmp_path / name, ScriptedEngine())
        assert ran.code == 0
        runs[name] = read_one(ran.folder)
    said, happened = stopped(runs["whole"], f"stable:{count}"), figures(runs["live"]).by_step[-1]
    assert 0 < said.stopped_early <= said.chains
    assert (said.rollouts, said.tokens) == (happened.rollouts, happened.tokens)
    assert happened.own is not None
    assert said.last_answer.run == pytest.approx(happened.own.accuracy)
    assert said.rolling_majority.run == pytest.approx(happened.rolling_majority.accuracy)
    again = stopped(runs["live"], f"stable:{count}")
    assert (again.stopped_early, again.rollouts) == (0, said.rollouts)


@pytest.mark.parametrize(
    "rule",
    ["stable", "stable:1", "stable:x", "first:0", "majority:0,3", "majority:1.1,3", "majority:0.6",
     "majority:0.6,0", "majority:nan,3", "last:3", "stable:-2", "stable:3\x1b[31m", ""],
)  # fmt: skip
def test_a_rule_that_makes_no_sense(rule: str, compare: Program) -> None:
    assert "--stop" in compare.refuse("results", "--stop", rule)


def test_a_missing_step_is_refused(tmp_path: Path) -> None:
    for step in (0, 2):
        write_step(tmp_path, step, [ours(0, 1, 1)])
    with pytest.raises(UserError, match="step 1"):
        stopped(read(tmp_path, "x"), "first:1")


def test_rules_are_shown(tmp_path: Path, compare: Program) -> None:
    run_of(tmp_path / "vllm_64_a" / "m", [[9], [1], [1]], golds=[1])
    rules = ["--stop", "first:1", "--stop", "stable:2"]
    shown = compare(tmp_path, *rules)
    assert "first:1" in shown
    assert "1/3" in shown
    printed = compare.json(tmp_path, *rules)["stopped"]
    assert [each["rule"] for each in printed] == ["first:1", "stable:2"]
    assert printed[0]["rolling_majority"]["difference"] == -1
    assert "stopped" not in compare.json(tmp_path)
