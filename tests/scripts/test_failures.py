"""Rollouts that failed for good: what they cost, how many a run may have, and how one ends in which
nothing else came."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import Script, ScriptedEngine, brief, obliging
from helpers.results_on_disk import compress
from helpers.scripted import QUESTIONS, Ran, refused, run_script, write_problems
from kflow.types import Completion, Key, Request

QWEN, TRT = "vllm_kflow_qwen", "vllm_qwen_trt"
REMEDY = "see the failure fields of its records; --overwrite starts anew."


def failing(at: Callable[[Key], bool], words: str = "refused") -> Script:
    def script(request: Request, prompt: str) -> Completion | str:
        failed = Completion(request.key, failure=words.format(request.key))
        return failed if at(request.key) else obliging(request, prompt)

    return script


REFUSED = failing(lambda key: True)


def in_order(waiting: list[Key]) -> list[Key]:
    return [min(waiting, key=lambda key: (key.step, key.problem))]


def empty(request: Request, prompt: str) -> Completion:
    """As vLLM ends with a lone end-of-sequence token."""
    return Completion(request.key, "", 1, "stop")


@pytest.mark.parametrize(
    ("name", "flags", "script", "width"),
    [
        (QWEN, [], empty, 1),
        ("vllm_qwen_rsa", ["--rollouts_per_step", "4", "--aggregate", "2"], REFUSED, 4),
    ],
)
def test_a_run_without_a_single_reply_is_no_success(
    name: str, flags: list[str], script: Script, width: int, tmp_path: Path
) -> None:
    flags = [*flags, "--limit", "1", "--reflex_size", "1"]
    engine = ScriptedEngine(script)
    ran = run_script(name, flags, tmp_path, engine)
    assert (ran.code, len(engine.delivered)) == (1, width)
    assert ran.complaints == [f"Every rollout of {ran.folder} failed: {REMEDY}"]
    again = run_script(name, flags, tmp_path)
    refused(again, "is complete (1 step of 1 chain), and every rollout failed", REMEDY)


def test_a_step_that_fails_in_the_same_words_ends_the_run(tmp_path: Path) -> None:
    flags = ["--reflex_size", "3"]
    script = failing(lambda key: key.step == 1)
    ran = run_script(QWEN, flags, tmp_path, ScriptedEngine(script, pick=in_order))
    assert ran.code == 1
    assert "All 3 rollouts of step 1 failed with the same message (refused)" in ran.complaints[-1]
    assert "--retry_failed" in ran.complaints[-1]
    path = ran.folder / "predictions_1.json"
    published = path.read_bytes()
    compress(ran.folder)
    path.write_bytes(published)  # as where gzip was stopped: both are to go
    again = run_script(QWEN, [*flags, "--retry_failed"], tmp_path, ScriptedEngine())
    assert (again.code, again.step(1)[0]["failed"]) == (0, 0)
    assert sorted(path.name for path in ran.folder.glob("predictions_*")) == [
        "predictions_0.json.gz", "predictions_1.json", "predictions_2.json"
    ]  # fmt: skip


def test_a_step_without_room_for_its_prompts_ends_the_run_with_the_windows_flag(
    tmp_path: Path,
) -> None:
    flags = ["--limit", "2", "--reflex_size", "3", "--max_new_tokens", "500"]
    ran = run_script(QWEN, flags, tmp_path, ScriptedEngine())
    assert ran.code == 1
    assert "All 2 rollouts of step 1 failed with the same message (the prompt" in ran.complaints[-1]
    assert ran.complaints[-1].endswith("the window of 500): give a larger --max_new_tokens.")


def test_one_reply_among_empty_ones_is_a_success(tmp_path: Path) -> None:
    def script(request: Request, prompt: str) -> Completion | str:
        last = request.key.problem == "third"
        return obliging(request, prompt) if last else empty(request, prompt)

    ran = run_script(QWEN, ["--reflex_size", "1"], tmp_path, ScriptedEngine(script))
    assert (ran.code, ran.step(0)[0]["failed"]) == (0, 2)


@pytest.mark.parametrize(
    ("empties", "steps", "said"),
    [
        pytest.param(
            [(3, "first"), (3, "second")], 5, "Empty replies: 2 of 11 rollouts", id="one in ten"
        ),
        pytest.param([(2, "first")], 5, "", id="a single one"),
        pytest.param([(0, "first")], 1, "Empty replies: 1 of 3 rollouts", id="at the end"),
        pytest.param(
            [(3, "first"), (3, "third"), (4, "first")], 5, "Empty replies: 2 of 12", id="once"
        ),
    ],
)
def test_a_run_of_which_one_in_ten_replies_is_empty_says_so_once(
    tmp_path: Path, empties: list[tuple[int, str]], steps: int, said: str
) -> None:
    """Three problems, step by step, so that the tenth rollout is the first of step 3."""

    def script(request: Request, prompt: str) -> Completion | str:
        at = (request.key.step, request.key.problem)
        return (empty if at in empties else obliging)(request, prompt)

    engine = ScriptedEngine(script, pick=in_order)
    ran = run_script(QWEN, ["--reflex_size", str(steps)], tmp_path, engine)
    lines = [line for line in ran.err.splitlines() if "Empty replies" in line]
    assert [said in line for line in lines] == [True] * bool(said)
    step, _ = empties[0]
    number = sum(at[0] == step for at in empties)
    assert (ran.step(step)[0]["empty"], ran.step(step)[0]["failed"]) == (number, number)
    assert f"{number} failed, {number} of them with an empty reply" in ran.err
    others = [ran.step(other)[0] for other in range(steps) if other not in dict(empties)]
    assert not any("empty" in summary for summary in others)


@pytest.mark.parametrize(("name", "count"), [(QWEN, "empty"), (TRT, "asks_no_answer")])
def test_a_step_file_from_before_a_count_resumes(name: str, count: str, tmp_path: Path) -> None:
    def script(request: Request, prompt: str) -> Completion | str:
        silent = request.key.problem == "first" and count == "empty"
        return (empty if silent else obliging)(request, prompt)

    ran = run_script(name, ["--reflex_size", "1"], tmp_path, ScriptedEngine(script))
    path = ran.folder / "predictions_0.json"
    summary, *records = json.loads(path.read_bytes())
    wrong = {**summary, count: summary.pop(count) + 1}
    path.write_text(json.dumps([summary, *records]))
    flags = ["--reflex_size", "2"]
    assert run_script(name, flags, tmp_path, ScriptedEngine()).code == 0
    path.write_text(json.dumps([wrong, *records]))
    refused(run_script(name, flags, tmp_path), "its summary does not follow from its records")


@pytest.mark.parametrize("published", [True, False])
def test_failures_count_over_all_starts(published: bool, tmp_path: Path) -> None:
    """They are in the summary of a step that is complete, or in the journal of one that is not."""
    at = (0, "first") if published else (1, "second")
    script = failing(lambda key: (key.step, key.problem) == at)
    flags = ["--reflex_size", "3", "--max_failures", "0"]
    first = run_script(QWEN, flags, tmp_path, ScriptedEngine(script, pick=in_order))
    assert first.code == 1
    assert first.complaints == [
        f"More than 0 rollouts failed; last: problem {at[1]}, step {at[0]}: refused; raise "
        "--max_failures to continue."
    ]
    refused(
        run_script(QWEN, flags, tmp_path),
        f"{first.folder} has 1 failed rollout on record, more than --max_failures 0 allows",
        "raise it",
    )
    flags = ["--reflex_size", "3", "--max_failures", "1"]
    if published:  # one more is one too many
        also = failing(lambda key: (key.step, key.problem) == (1, "second"))
        second = run_script(QWEN, flags, tmp_path, ScriptedEngine(also, pick=in_order))
        assert (second.code, "More than 1 rollout failed" in second.err) == (1, True)
        refused(run_script(QWEN, flags, tmp_path), "has 2 failed rollouts on record")
        flags[-1] = "2"
    assert run_script(QWEN, flags, tmp_path, ScriptedEngine()).code == 0
    flags[-1] = "0"  # of a complete run too, so that a start says what the one before it said
    refused(run_script(QWEN, flags, tmp_path), "more than --max_failures 0 allows")


def test_a_run_that_begins_anew_has_no_failures_yet(tmp_path: Path) -> None:
    flags = ["--reflex_size", "3", "--max_failures", "0"]
    script = failing(lambda key: key.step == 1)
    assert run_script(QWEN, flags, tmp_path, ScriptedEngine(script)).code == 1
    assert run_script(QWEN, [*flags, "--overwrite"], tmp_path, ScriptedEngine()).code == 0


def test_what_was_not_sent_or_was_refused_cost_nothing(tmp_path: Path) -> None:
    rows = [QUESTIONS[0], ("long", "Why? " * 600, 1), QUESTIONS[2]]
    write_problems(tmp_path / "problems.jsonl", rows)

    def script(request: Request, prompt: str) -> Completion | str:
        refuse = request.key.problem == "first" and request.key.step == 1
        silent = request.key.problem == "third" and request.key.step == 1
        if refuse:
            return Completion(request.key, failure="refused")
        return empty(request, prompt) if silent else obliging(request, prompt)

    flags = ["--reflex_size", "2", "--max_new_tokens", "2000"]
    engine = ScriptedEngine(script)
    ran = run_script(QWEN, flags, tmp_path, engine)
    sent = {request.key[1:4]: len(request.prompt_ids) for request in engine.requests}
    assert ran.code == 0
    for step in (0, 1):
        summary, first, long, third = ran.step(step)
        assert long["prompt_tokens"] == 0
        assert first["prompt_tokens"] == (0 if step else sent["first", 0, 0])
        assert third["prompt_tokens"] == sent["third", 0, step]  # an empty reply was paid for
        assert summary["prompt_tokens"] == first["prompt_tokens"] + third["prompt_tokens"]


def test_a_step_that_asks_for_no_answer_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    ran = run_script(TRT, ["--reflex_size", "3"], tmp_path, ScriptedEngine())
    first, second, third = (
        next(line for line in ran.err.splitlines() if line.startswith(f"step {step} complete"))
        for step in range(3)
    )
    assert not any("right" in line for line in (first, third))
    assert "/3 right" in second
    for step, none in ((0, 3), (1, None), (2, 3)):
        summary = ran.step(step)[0]
        assert (summary.get("asks_no_answer"), summary["total"]) == (none, 3)
        assert isinstance(summary["accuracy"], float)


def test_an_early_stopped_chain_is_right_or_wrong_beside_steps_without_an_answer(
    tmp_path: Path,
) -> None:
    """Its answer repeats, while the others are asked for strategies."""

    def script(request: Request, prompt: str) -> Completion | str:
        reply = obliging(request, prompt)
        long = request.key.problem == "first" and request.key.step == 1
        return Completion(request.key, reply, 50_000, "stop") if long else reply

    flags = ["--reflex_size", "3", "--token_budget", "100000"]
    ran = run_script(TRT, flags, tmp_path, ScriptedEngine(script))
    summary = ran.step(2)[0]
    assert (summary["early_stopped"], summary["asks_no_answer"]) == (1, 2)
    assert "/1 right" in next(line for line in ran.err.splitlines() if "step 2 complete" in line)


def status(ran: Ran) -> dict[str, Any]:
    return dict(json.loads((ran.folder / "status.json").read_bytes()))


@pytest.mark.parametrize(("allowed", "code"), [("2", 1), ("3", 0)])
def test_too_many_failures_end_a_run(allowed: str, code: int, tmp_path: Path) -> None:
    flags = ["--reflex_size", "3", "--max_failures", allowed]
    engine = ScriptedEngine(failing(lambda key: key.step == 1, "refused: {0.problem}"))
    ran = run_script(QWEN, flags, tmp_path, engine)
    assert ran.code == code
    if code:
        assert f"More than {allowed} rollouts failed" in ran.complaints[-1]
        assert "More than" in status(ran)["state"]
    else:
        assert status(ran) | {"updated": ""} == {
            "steps_total": 9,
            "steps_done": 9,
            "state": "complete",
            "rollouts": 9,
            "failures": 3,
            "stopped": [],
            "updated": "",
            "rollouts_by_step": [3, 3, 3],
        }
        again = run_script(QWEN, flags, tmp_path)
        assert again.code == 0
        assert "is complete: 3 steps of 3 chains; 3 rollouts failed for good." in again.out


def test_a_run_in_which_everything_fails_ends_at_once_and_can_go_on(tmp_path: Path) -> None:
    engine = ScriptedEngine(failing(lambda key: True, "refused: {0.problem}"))
    ran = run_script(QWEN, [], tmp_path, engine)
    assert ran.code == 1
    assert ran.complaints[-1].startswith("All of the first 8 rollouts failed")
    assert ran.complaints[-1].endswith("Run the same command again to resume.")
    assert len(engine.delivered) in range(8, 8 + 3)  # what came with the last one


def test_a_rollout_that_is_not_answered_stays_open_and_the_others_go_on(tmp_path: Path) -> None:
    def away(request: Request, prompt: str) -> Completion | str:
        if request.key[1:4] == ("second", 0, 1):
            return Completion(request.key, unanswered="the server is away")
        return brief(request, prompt)

    flags = ["--reflex_size", "3"]
    ran = run_script(QWEN, flags, tmp_path / "away", ScriptedEngine(away))
    assert ran.code == 1
    assert ran.complaints[-1] == (
        "1 rollout got no reply; first: problem second, step 1: the server is away. "
        "Run the same command again to resume."
    )
    assert sorted(ran.predictions()) == ["predictions_0.json"]
    (stopped,) = status(ran)["stopped"]
    assert stopped == {
        "problem": "second", "seed": 0, "step": 1, "slot": 0, "reason": "the server is away"
    }  # fmt: skip
    engine = ScriptedEngine(brief)
    resumed = run_script(QWEN, flags, tmp_path / "away", engine)
    assert resumed.code == 0
    assert {request.key[1:4] for request in engine.requests} == {
        ("second", 0, 1), ("second", 0, 2)
    }  # fmt: skip
    whole = run_script(QWEN, flags, tmp_path / "whole", ScriptedEngine(brief))
    assert resumed.predictions() == whole.predictions()
