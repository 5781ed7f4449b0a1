"""Parallel thinking rule by rule (METHOD.md, section 5)."""

from __future__ import annotations

import pytest

import rooms
from kflow.methods.parallel import Parallel

ARMS = ["oss", "qwen"]
METHODS: dict[str, Parallel] = {
    name: rooms.method(f"vllm_{name}_parallel_thinking") for name in ARMS
}
each = pytest.mark.parametrize("name", ARMS)


@each
def test_every_step_asks_method_1s_first_prompt(name: str) -> None:
    method, mistakes = METHODS[name], rooms.method(f"vllm_kflow_{name}")
    steps = rooms.chain(method, rooms.room(method), lambda *_: r"\boxed{1}", 5)
    first = rooms.render(mistakes, rooms.room(mistakes), mistakes.start("What is 1+1?"))
    assert [step.prompts for step in steps] == [(first,)] * 5
    assert method.ahead
    assert (method.rule, first.fraction) == (mistakes.rule, 0.9)


@each
def test_the_verdict_is_the_majority_so_far(name: str) -> None:
    method = METHODS[name]
    replies = [None, "no answer", *(rf"\boxed{{{n}}}" for n in (1, 2, 2, 1, 3, 3, 3))]
    steps = rooms.chain(method, rooms.room(method), lambda step, *_: replies[step], 9)
    verdicts = [step.learnt.verdict for step in steps]
    assert verdicts == [None, None, 1, 1, 2, 1, 1, 1, 3]
    skipped = [step.learnt.note.skipped for step in steps]
    assert skipped == ["the rollout failed"] + [""] * 8


def test_there_is_nothing_to_shrink() -> None:
    assert METHODS["oss"].shrink("Q", 5, rooms.room(METHODS["oss"])) is None
