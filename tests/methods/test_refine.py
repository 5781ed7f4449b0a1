"""Refinement rule by rule: method 1 without its list (docs/method.md, section 6)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers import driver
from kflow.method import LeftOut
from kflow.methods.notes import Notes
from kflow.methods.refine import Refine

ARMS = ["oss", "qwen"]
METHODS: dict[str, Refine] = {name: driver.method(f"vllm_{name}_refine") for name in ARMS}
each = pytest.mark.parametrize("name", ARMS)
LATER = Notes("Why?", reference="the reference")
REPLY = "[Summary]: It is 4. \n[Answer]: \\boxed{4}"


@each
def test_the_first_prompt_rule_and_budget_are_method_1s(name: str) -> None:
    method, mistakes = METHODS[name], driver.method(f"vllm_kflow_{name}")
    first = driver.render(method, driver.context(method), method.start("Why?"))
    assert first == driver.render(mistakes, driver.context(mistakes), mistakes.start("Why?"))
    assert method.rule == mistakes.rule


def sentences(text: str) -> set[str]:
    return set(re.split(r"(?<=[.:]) |\n", text))


@each
def test_the_later_prompt_is_method_1s_without_the_list(name: str) -> None:
    method, mistakes = METHODS[name], driver.method(f"vllm_kflow_{name}")
    prompt = driver.render(method, driver.context(method), LATER)
    (turn,) = prompt.messages
    assert turn.content.startswith("Why?\n\n")
    assert "## Reference Solution\nthe reference\n\n## Instructions\n" in turn.content
    assert "list" not in (turn.content + prompt.prefill).lower()
    assert (prompt.sections, prompt.fraction) == (("Summary", "Answer"), 0.9)
    assert prompt.shown == ()
    assert bool(prompt.prefill) is (name == "qwen")
    folder = Path(mistakes.prompt_folder)
    later_prompt = (folder / f"{name}_mistakes_later.txt").read_text(encoding="utf-8")
    for line in (
        "Take the reference solution with a grain",
        "The answer is",
        "[Summary]",
        "[Answer]",
    ):
        expected = [each for each in sentences(later_prompt) if each.startswith(line)]
        own = (Path(method.prompt_folder) / f"{name}_refine_later.txt").read_text(encoding="utf-8")
        assert set(expected) <= sentences(own)


@each
def test_the_summary_is_carried_and_nothing_else(name: str) -> None:
    context = driver.context(METHODS[name])
    result = driver.learn(METHODS[name], context, LATER, REPLY)
    assert (result.state, result.verdict) == (Notes("Why?", reference="it is 4."), 4)
    failed = driver.learn(METHODS[name], context, LATER, None)
    assert (failed.state, failed.verdict) == (LATER, None)
    assert failed.note.skipped == "the rollout failed"


@each
def test_a_reference_that_does_not_fit_is_cut(name: str) -> None:
    method = METHODS[name]
    shorter = method.shrink(Notes("Why?", reference="Ax bx. Cx."), 1, driver.context(method))
    assert shorter == (Notes("Why?", reference="Cx."), LeftOut(tokens=2))
