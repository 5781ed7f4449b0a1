"""Parallel thinking rule by rule (docs/method.md, section 5)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import driver
from helpers.fakes import ScriptedEngine, obliging
from helpers.scripted import QUESTIONS, run_script
from kflow.methods.parallel import Parallel
from kflow.types import Completion, Request

ARMS = ["oss", "qwen"]
METHODS: dict[str, Parallel] = {
    name: driver.method(f"vllm_{name}_parallel_thinking") for name in ARMS
}
each = pytest.mark.parametrize("name", ARMS)


@each
def test_every_step_asks_the_same(name: str) -> None:
    method = METHODS[name]
    context = driver.context(method)
    steps = driver.chain(method, context, lambda *_: r"\boxed{1}", 5)
    assert method.ahead
    assert [step.prompts for step in steps] == [steps[0].prompts] * 5
    assert method.shrink("Q", 5, context) is None


@each
def test_the_verdict_is_the_majority_so_far(name: str) -> None:
    method = METHODS[name]
    replies = [None, "no answer", *(rf"\boxed{{{n}}}" for n in (1, 2, 2, 1, 3, 3, 3))]
    steps = driver.chain(method, driver.context(method), lambda step, *_: replies[step], 9)
    verdicts = [step.result.verdict for step in steps]
    assert verdicts == [None, None, 1, 1, 2, 1, 1, 1, 3]
    skipped = [step.result.note.skipped for step in steps]
    assert skipped == ["the rollout failed"] + [""] * 8


def test_a_run_that_reached_its_token_budget_is_complete_when_it_says_so(tmp_path: Path) -> None:
    def away(request: Request, prompt: str) -> Completion | str:
        if request.key.step == 1:
            return Completion(request.key, unanswered="the server was away")
        return obliging(request, prompt)

    script, flags = "vllm_qwen_parallel_thinking", ["--reflex_size", "4", "--token_budget", "1"]
    assert run_script(script, flags, tmp_path, ScriptedEngine(away)).code == 1
    ran = run_script(script, flags, tmp_path, ScriptedEngine())
    status = json.loads((ran.folder / "status.json").read_bytes())
    assert (ran.code, status["state"], len(ran.predictions())) == (0, "complete", 4)
    assert status["steps_done"] == status["steps_total"] == 4 * len(QUESTIONS)
