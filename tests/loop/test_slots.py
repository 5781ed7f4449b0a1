"""Steps of several rollouts, and steps asked ahead: files do not depend on the order in which
replies arrive, nor on where a run is killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import ScriptedChat, contents
from helpers.panel import PROBLEMS, STEPS, Independent, Panel, plan, script, work
from kflow.answers import Integer
from kflow.loop.chain import restore
from kflow.method import Replies, StepContext, StepResult
from kflow.results.rollout import sampling_seed
from kflow.results.store import Store
from kflow.types import Completion, Key, Request, UserError


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def predictions(folder: Path) -> dict[str, bytes]:
    return contents(folder, "predictions_*.json")


def records(folder: Path, step: int) -> list[dict[str, Any]]:
    return list(json.loads((folder / f"predictions_{step}.json").read_bytes()))


both = pytest.mark.parametrize("method", [Panel(), Independent()], ids=lambda m: type(m).__name__)


@both
def test_files_do_not_depend_on_the_order_of_replies(method: Any, tmp_path: Path) -> None:
    work(tmp_path / "0", method, 0)
    whole = predictions(tmp_path / "0")
    assert len(whole) == STEPS
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == [*sorted(whole), "run.json"]
    orders = set()
    for order in range(1, 12):
        _, engine = work(tmp_path / str(order), method, order)
        orders.add(tuple(engine.delivered))
        assert predictions(tmp_path / str(order)) == whole
    assert len(orders) > 8


@both
def test_a_run_killed_between_any_two_replies_ends_the_same(method: Any, tmp_path: Path) -> None:
    _, engine = work(tmp_path / "whole", method)
    whole, total = predictions(tmp_path / "whole"), len(engine.delivered)
    assert total == (2 * STEPS if method.ahead else 2 * (3 * 3 + 2))
    for first in range(total):
        folder = tmp_path / f"after {first}"
        _, killed = work(folder, method, first, kill_after=first)
        _, resumed = work(folder, method, first + 1)
        assert predictions(folder) == whole
        assert len(killed.delivered) + len(resumed.delivered) == total
        assert not set(killed.delivered) & set(resumed.delivered)


def test_a_wide_step_on_record(tmp_path: Path) -> None:
    work(tmp_path, Panel())
    for step in range(STEPS):
        _, *rows = records(tmp_path, step)
        assert [row["id"] for row in rows] == ["first", "second"]
        for row in rows:
            if step % 2:
                assert "rollouts" not in row
                assert (row["predicted"], row["correct"]) == (None, False)
                assert row["verdict_correct"] == (row["verdict"] == 100)
                assert row["knowledge"][0]["text"].endswith("?")
                continue
            assert [slot["slot"] for slot in row["rollouts"]] == [0, 1, 2]
            seeds = [slot["sampling_seed"] for slot in row["rollouts"]]
            assert seeds == [sampling_seed(0, 0, row["id"], step, slot) for slot in range(3)]
            assert row["predicted"] == row["verdict"]
            assert row["correct"] == (row["verdict"] == 100)
            winner = next(s for s in row["rollouts"] if s["predicted"] == row["verdict"])
            assert row["pred_solution"] == winner["pred_solution"]


def stuck(key_step: int) -> Callable[[Request, str], Completion | str]:
    def answer(request: Request, prompt: str) -> Completion | str:
        if request.key.problem == "first" and request.key.step == key_step:
            return Completion(request.key, unanswered="the server was away")
        return script(request, prompt)

    return answer


@both
def test_a_rollout_given_up_leaves_its_step_open_and_the_others_go_on(
    method: Any, tmp_path: Path
) -> None:
    work(tmp_path / "whole", method)
    whole = predictions(tmp_path / "whole")
    observer, _ = work(tmp_path / "open", method, script=stuck(2))
    assert {(key.problem, key.step) for key, _ in observer.stops} == {("first", 2)}
    assert {reason for _, reason in observer.stops} == {"the server was away"}
    assert sorted(predictions(tmp_path / "open")) == sorted(whole)[:2]
    assert any(key.problem == "second" and key.step == STEPS - 1 for key in observer.rollouts)
    again, _ = work(tmp_path / "open", method)
    assert not again.stops
    assert predictions(tmp_path / "open") == whole


def test_steps_asked_ahead_are_all_in_flight_at_once(tmp_path: Path) -> None:
    in_flight = []

    def last_first(waiting: list[Key]) -> list[Key]:
        in_flight.append(len(waiting))
        return [max(waiting, key=lambda key: key.step)]

    work(tmp_path, Independent(), pick=last_first)
    assert in_flight[0] == 2 * STEPS
    assert len(predictions(tmp_path)) == STEPS


@both
def test_a_chain_that_has_not_stopped_early_holds_no_texts(method: Any, tmp_path: Path) -> None:
    work(tmp_path, method)
    store = Store(tmp_path, [problem.id for problem in PROBLEMS])
    for chain in restore(plan(method, ScriptedChat()), PROBLEMS, store):
        assert chain.state.last is not None
        assert all(slot.question + slot.pred_solution == "" for slot in chain.state.last.slots)


def test_slots_that_changed_places_are_refused(tmp_path: Path) -> None:
    work(tmp_path, Panel())
    path, rows = tmp_path / "predictions_2.json", records(tmp_path, 2)
    slots = rows[1]["rollouts"]
    slots[0], slots[1] = slots[1] | {"slot": 0}, slots[0] | {"slot": 1}
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=path.name):
        work(tmp_path, Panel())


def test_a_step_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    work(tmp_path, Panel())
    (tmp_path / "predictions_2.json").write_bytes((tmp_path / "predictions_0.json").read_bytes())
    with pytest.raises(UserError, match=r"predictions_2.*belongs to another step"):
        work(tmp_path, Panel())


@dataclass(frozen=True)
class Renamed(Panel):
    """The same prompts, other lessons."""

    def update(self, state: Any, replies: Replies, context: StepContext) -> StepResult[Any]:
        result = super().update(state, replies, context)
        return replace(result, note=replace(result.note, skipped="a new rule"))


@pytest.mark.parametrize("kill_after", [None, 8])
def test_replay_by_other_rules_is_refused(kill_after: int | None, tmp_path: Path) -> None:
    work(tmp_path, Panel(), kill_after=kill_after)
    with pytest.raises(UserError, match=r"problem .*check out the commit"):
        work(tmp_path, Renamed())


def test_an_outcome_that_a_crash_kept_off_the_disk_is_computed_again(tmp_path: Path) -> None:
    work(tmp_path / "whole", Panel())
    work(tmp_path / "torn", Panel(), kill_after=5)
    for path in (tmp_path / "torn").glob("rollouts_*.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(line for line in lines if not line.startswith(b'{"outcome"')))
    work(tmp_path / "torn", Panel())
    assert predictions(tmp_path / "torn") == predictions(tmp_path / "whole")


def tokens(rows: Iterable[dict[str, Any]]) -> int:
    slots = [slot for row in rows for slot in row.get("rollouts", [row])]
    return sum(slot["prompt_tokens"] + slot["completion_tokens"] for slot in slots)


@both
def test_a_token_budget_ends_a_chain_after_the_step_that_crosses_it(
    method: Any, tmp_path: Path
) -> None:
    work(tmp_path / "all", method)
    spent = tokens(row for row in records(tmp_path / "all", 0)[1:] if row["id"] == "first")
    for order in range(4):
        folder = tmp_path / str(order)
        work(folder, method, order, kill_after=3, token_budget=spent + 1)
        work(folder, method, order, token_budget=spent + 1)
        assert predictions(folder) == predictions(tmp_path / "0")
        rows = [row for step in range(STEPS) for row in records(folder, step)[1:]]
        chain = [row for row in rows if row["id"] == "first"]
        assert [row["over_budget"] for row in chain[:2]] == [False, True]
        later = chain[2:]
        if method.ahead:
            assert not any(row["counted"] for row in later)
        else:
            assert [row["repeats_step"] for row in later] == [1] * len(later)
        assert {row["verdict"] for row in later} == {chain[1]["verdict"]}


def test_a_stopped_chain_with_a_gap_before_steps_on_record_is_finished(tmp_path: Path) -> None:
    budget = {"token_budget": 1}  # the first step's tokens reach it
    work(tmp_path, Independent(), script=stuck(1), **budget)
    assert sorted(predictions(tmp_path)) == ["predictions_0.json"]
    _, engine = work(tmp_path, Independent(), **budget)
    assert engine.delivered == []
    assert len(predictions(tmp_path)) == STEPS
    chain = [records(tmp_path, step)[1] for step in range(STEPS)]
    assert [row.get("repeats_step") for row in chain] == [None, 0, None, None, None]
    assert [row["counted"] for row in chain] == [True, True, False, False, False]


@pytest.mark.parametrize("barrier", [False, True])
def test_steps_on_record_after_a_gap_are_not_asked_again(barrier: bool, tmp_path: Path) -> None:
    work(tmp_path / "whole", Independent())
    work(tmp_path / "gap", Independent(), script=stuck(1))
    _, engine = work(tmp_path / "gap", Independent(), barrier=barrier)
    assert [(key.problem, key.step) for key in engine.delivered] == [("first", 1)]
    assert predictions(tmp_path / "gap") == predictions(tmp_path / "whole")


def test_a_repeated_record_names_the_step_whose_record_it_is(tmp_path: Path) -> None:
    """Not the last step on record, which came after the chain had stopped."""
    for steps in (STEPS, STEPS + 1, STEPS + 3):
        work(tmp_path, Independent(), token_budget=1, reflex_size=steps)
    _, first, _ = records(tmp_path, 0)
    assert not records(tmp_path, STEPS - 1)[1]["counted"]
    for step in range(STEPS, STEPS + 3):
        assert records(tmp_path, step)[1] == first | {"repeats_step": 0}


class Near(Integer):
    """Answers that differ by one are the same, so that sameness is not transitive."""

    def same(self, gold: Any, other: Any) -> bool:
        return abs(gold - other) <= 1


def test_an_answer_is_the_earliest_of_its_chain_that_is_the_same(tmp_path: Path) -> None:
    def answering(request: Request, prompt: str) -> str:
        return f"</think> \\boxed{{{(1, 3, 2, 4, 9)[request.key.step]}}}"

    work(tmp_path, Independent(ahead=False), script=answering, answers=Near())
    first = [records(tmp_path, step)[1] for step in range(STEPS)]
    assert [record["verdict"] for record in first] == [1, 3, 1, 3, 9]
