"""The loop: what each rollout is asked, when, and what goes on record (docs/method.md, "The
loop")."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from helpers.fakes import K, ScriptedEngine, answer_of, mark, marks, obliging
from helpers.scripted import QUESTIONS, SCRIPTS, run_script, write_problems
from kflow.loop import flow
from kflow.results.rollout import sampling_seed
from kflow.types import Completion, Key, Request

QWEN = "vllm_kflow_qwen"
NAMES = [name for name, _, _ in QUESTIONS]


def history(key: Key) -> set[str]:
    """The marks that docs/method.md's method 1, for Qwen, puts into the prompt of a rollout."""
    past = [key._replace(step=step) for step in range(key.step)]
    expected = {f"«{key.problem}|question»"}
    expected |= {mark(past[-1], "Summary")} if past else set()
    given_up: Counter[int] = Counter()
    for before, after in reversed(list(pairwise(past))):
        if answer_of(before) != answer_of(after):
            given_up[answer_of(before)] += 1
            if given_up[answer_of(before)] <= 2:
                expected.add(mark(after, "Error Report"))
    return expected


def test_a_prompt_holds_its_own_chains_history_and_nothing_of_another(tmp_path: Path) -> None:
    engine, flags = ScriptedEngine(order=1), ["--reflex_size", "12", "--num_seeds", "2"]
    assert run_script(QWEN, flags, tmp_path, engine).code == 0
    assert len(engine.prompts) == 12 * 3 * 2
    for key, prompt in engine.prompts.items():
        assert marks(prompt) == history(key)
    reports = [len(history(key)) - 2 for key in engine.prompts]
    assert max(reports) >= 4, "the replies change their answers too seldom to test anything"


def test_seeds_come_from_run_seed_chain_problem_and_step_and_no_two_runs_share_one(
    tmp_path: Path,
) -> None:
    seeds: list[int] = []
    for seed in (7, 8):
        engine = ScriptedEngine()
        flags = ["--reflex_size", "2", "--seed", str(seed), "--num_seeds", "3"]
        ran = run_script(QWEN, flags, tmp_path / str(seed), engine)
        seeds += [request.seed for request in engine.requests]
        for request in engine.requests:
            key = request.key
            assert request.seed == sampling_seed(seed, key.seed, key.problem, key.step)
        for path in ran.folder.rglob("predictions_*.json"):
            chain, step = int(path.parent.name[-1]), int(path.stem[-1])
            recorded = [record["sampling_seed"] for record in json.loads(path.read_bytes())[1:]]
            assert recorded == [sampling_seed(seed, chain, name, step) for name in NAMES]
    assert len(seeds) == len(set(seeds)) == 36


def test_a_sampling_seed_is_the_same_in_every_release() -> None:
    assert sampling_seed(0, 0, "first", 0) == 163557767
    assert sampling_seed(7, 0, "first", 2) == 3733527887
    assert sampling_seed(7, 3, "first", 2, 5) == 3377620097


@pytest.mark.parametrize(("window", "short_of_room"), [(2000, 6), (100_000, 0)])
def test_a_reply_may_take_its_fraction_or_what_the_window_leaves(
    window: int, short_of_room: int, tmp_path: Path
) -> None:
    engine = ScriptedEngine()
    flags = ["--reflex_size", "3", "--max_new_tokens", str(window)]
    ran = run_script(QWEN, flags, tmp_path, engine)
    assert len(engine.requests) == 9
    for request in engine.requests:
        left = window - len(request.prompt_ids)
        assert len(request.prompt_ids) <= window // 2
        assert request.max_tokens == min(left, int(0.9 * window))
    short = [request for request in engine.requests if request.max_tokens < int(0.9 * window)]
    assert len(short) == short_of_room
    requests = {request.key: request for request in engine.requests}
    for step in range(3):
        for name, record in zip(NAMES, ran.step(step)[1:], strict=True):
            request = requests[K(name, 0, step)]
            assert record["max_tokens"] == request.max_tokens
            assert record["prompt_tokens"] == len(request.prompt_ids)
            assert record["question"] == engine.prompts[request.key]


def test_a_rollout_is_synced_before_its_chain_goes_on(tmp_path: Path) -> None:
    synced = 0

    def fsync(descriptor: int) -> None:
        nonlocal synced
        journals = [path.stat() for path in tmp_path.rglob("rollouts_*.jsonl")]
        synced += any(os.path.samestat(os.fstat(descriptor), journal) for journal in journals)

    def one_each(waiting: list[Key]) -> list[Key]:
        assert synced == len(engine.delivered)
        return waiting[:1]

    engine = ScriptedEngine(pick=one_each)
    assert run_script(QWEN, ["--reflex_size", "3"], tmp_path, engine, fsync).code == 0
    assert synced == 9


def all_but_second(waiting: list[Key]) -> list[Key]:
    """One rollout of the first and third problem, and the second's only when they are done."""
    return [next((key for key in waiting if key.problem != "second"), waiting[0])]


def test_a_chain_never_waits_for_a_slower_one(tmp_path: Path) -> None:
    engine = ScriptedEngine(pick=all_but_second)
    assert run_script(QWEN, ["--reflex_size", "5"], tmp_path, engine).code == 0
    assert engine.delivered[-5:] == [K("second", 0, step) for step in range(5)]
    assert set(engine.delivered[:10]) == {
        K(name, 0, step) for name in ("first", "third") for step in range(5)
    }
    steps = [request.key.step for request in engine.requests if request.key.problem == "second"]
    assert steps == list(range(5))


def test_a_barrier_on_request_changes_the_order_and_not_the_files(tmp_path: Path) -> None:
    free, barred = tmp_path / "free", tmp_path / "barred"
    engine = ScriptedEngine(pick=all_but_second)
    flags = ["--reflex_size", "4"]
    barrier = run_script(QWEN, [*flags, "--schedule", "barrier"], barred, engine)
    assert [key.step for key in engine.delivered] == sorted(key.step for key in engine.delivered)
    assert barrier.predictions() == run_script(QWEN, flags, free, ScriptedEngine()).predictions()


def test_a_question_that_does_not_fit_fails_its_rollouts_and_no_others(tmp_path: Path) -> None:
    write_problems(
        tmp_path / "problems.jsonl",
        [QUESTIONS[0], ("long", "Why? " * 600, 1), QUESTIONS[2]],
    )
    engine = ScriptedEngine()
    flags = ["--reflex_size", "3", "--max_new_tokens", "2000"]
    ran = run_script(QWEN, flags, tmp_path, engine)
    assert ran.code == 0
    assert {key.problem for key in engine.prompts} == {"first", "third"}
    for step in range(3):
        summary, first, failed, third = ran.step(step)
        assert (summary["failed"], summary["total"], summary["no_answer"]) == (1, 3, 0)
        assert "more than half of the window" in failed["failure"]
        assert failed["prompt_tokens"] == 0  # none were sent
        assert (failed["predicted"], failed["correct"]) == (None, False)
        assert failed["pred_solution"] == ""
        assert "Why? Why?" in failed["question"]
        for record in (first, third):
            assert record["failure"] is None
            assert record["predicted"] == answer_of(K(record["id"], 0, step))


@pytest.mark.parametrize(
    ("step", "text", "failure", "recorded"),
    [
        (0, "[Answer]: \\boxed{5}", "it is broken", "it is broken"),
        (2, "[Answer]: \\boxed{5}", "it is broken", "it is broken"),
        (2, "", None, "the reply is empty"),
    ],
)
def test_after_a_failed_rollout_the_chain_goes_on_with_its_old_state(
    step: int, text: str, failure: str | None, recorded: str, tmp_path: Path
) -> None:
    def script(request: Request, prompt: str) -> Completion | str:
        if request.key == K("first", 0, step):
            return Completion(request.key, text, failure=failure)
        return obliging(request, prompt)

    engine = ScriptedEngine(script)
    ran = run_script(QWEN, ["--reflex_size", "5"], tmp_path, engine)
    assert ran.code == 0
    for each in range(5):
        summary, record, *_ = ran.step(each)
        assert record["failure"] == (recorded if each == step else None)
        assert summary["failed"] == (1 if each == step else 0)
    failed = ran.step(step)[1]
    assert (failed["predicted"], failed["correct"]) == (None, False)
    prompts = [engine.prompts[K("first", 0, each)] for each in range(5)]
    assert prompts[step + 1] == prompts[step]
    assert mark(K("first", 0, step + 1), "Summary") in prompts[step + 2]


FIELDS = {"key", "prompt_ids", "max_tokens", "seed", "pattern", "messages"}  # of a request


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_gold_answer_reaches_the_engine(name: str, tmp_path: Path) -> None:
    golds = [9180273645, "08172635440", -7162534498]
    rows = [(i, q, gold) for (i, q, _), gold in zip(QUESTIONS, golds, strict=True)]
    write_problems(tmp_path / "problems.jsonl", rows)
    engine = ScriptedEngine()
    ran = run_script(name, ["--reflex_size", "4"], tmp_path, engine)
    assert [record["gold"] for record in ran.step(3)[1:]] == golds
    everything = "".join(engine.prompts.values()) + repr(
        (engine.arguments, engine.sampling, [request.messages for request in engine.requests])
    )
    assert len(engine.prompts) == 12
    for gold in golds:
        assert str(gold).strip("-0") not in everything
    for request in engine.requests:
        assert {*vars(request)} == FIELDS


def test_chains_left_unfinished_never_end_in_code_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "run", lambda *_: None)
    ran = run_script(QWEN, ["--reflex_size", "2"], tmp_path, ScriptedEngine())
    assert ran.code == 1
    (sentence,) = ran.complaints
    assert sentence.startswith("3 chains unfinished, the first one (problem first) at step 0. ")
