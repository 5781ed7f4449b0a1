"""What is true of several methods, and how many rollouts a chain of each takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from helpers import driver
from kflow.method import Method, StepNote, StepResult, at_once, rollouts_of
from kflow.types import UserError

ONE = driver.method("vllm_kflow_qwen")
WIDE = replace(driver.method("vllm_qwen_rsa"), rollouts_per_step=4)
UNLIKE = replace(driver.method("vllm_qwen_trt"), strategies=3)  # 1, 3, 1, 3, ...
AHEAD = driver.method("vllm_qwen_parallel_thinking")


@pytest.mark.parametrize(
    ("method", "steps", "done", "rollouts", "in_flight"),
    [
        (ONE, 5, 0, 5, 1),
        (ONE, 5, 5, 0, 0),
        (WIDE, 3, 1, 8, 4),
        (UNLIKE, 5, 0, 9, 3),
        (UNLIKE, 5, 4, 1, 1),
        (UNLIKE, 4, 3, 3, 3),
        (AHEAD, 5, 0, 5, 5),
        (AHEAD, 5, 2, 3, 3),
    ],
)
def test_the_rollouts_of_a_chain(
    method: Method[Any, Any], steps: int, done: int, rollouts: int, in_flight: int
) -> None:
    assert rollouts_of(method, steps, done) == rollouts
    assert at_once(method, steps, done) == in_flight


@pytest.mark.parametrize("rival", ["parallel_thinking", "refine", "rsa", "rse", "pacore"])
@pytest.mark.parametrize("family", ["oss", "qwen"])
def test_a_rivals_first_prompt_is_method_1s(family: str, rival: str) -> None:
    """And so is the budget of its later ones."""
    prompts = []
    for script in (f"vllm_kflow_{family}", f"vllm_{family}_{rival}"):
        method = driver.method(script)
        context = driver.context(method)
        prompts.append(driver.render(method, context, method.start("Why?")))
    assert prompts[0] == prompts[1]
    assert method.budget == prompts[0].fraction == 0.9


@pytest.mark.parametrize(
    "method",
    [
        "vllm_kflow_oss", "vllm_kflow_qwen", "vllm_kflow_qwen_knowledgeRegen",
        "vllm_kflow_oss_positiveKnowledge", "vllm_qwen_refine", "vllm_qwen_markovian_thinking",
    ],
)  # fmt: skip
def test_a_failed_rollout_leaves_the_state(method: str) -> None:
    of = driver.method(method)
    context = driver.context(of)
    texts = [rf"[Error Report]: So. [Summary]: S. [Answer]: \boxed{{{n}}}" for n in (1, 2)]
    state = driver.learn(of, context, of.start("Why?"), *texts).state
    result = driver.learn(of, context, state, None)
    assert result == StepResult(state, None, StepNote(skipped="the rollout failed"))


@pytest.mark.parametrize(
    ("script", "changes", "words"),
    [
        ("vllm_qwen_trt", {"strategies": 0}, "strategies must be a whole number, at least 1"),
        ("vllm_qwen_rse", {"attempts": 0}, "attempts must be a whole number, at least 1"),
        ("vllm_qwen_rsa", {"aggregate": 0}, "aggregate must be a whole number, at least 1"),
        (
            "vllm_qwen_rsa",
            {"aggregate": 17},
            "--aggregate 17 .* at most 16, or raise --rollouts_pe",
        ),
        *(
            ("vllm_qwen_pacore", {"rounds": rounds}, "rounds must be numbers of rollouts")
            for rounds in ("", "0", "4,", "4.5", "04", "٤", "4, 2", "2,4", "9" * 5000, "4\n")
        ),
    ],
)
def test_a_methods_flags_are_bounded(script: str, changes: dict[str, Any], words: str) -> None:
    method = driver.method(script)
    with pytest.raises(UserError, match=words):
        replace(method, **changes)  # at once: sizes are needed before a run checks its flags
