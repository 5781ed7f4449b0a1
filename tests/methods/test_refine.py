"""Refinement rule by rule: method 1 without its list (docs/method.md, section 6)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers import driver
from kflow.methods.notes import Notes
from kflow.methods.refine import Refine

ARMS = ["oss", "qwen"]
METHODS: dict[str, Refine] = {name: driver.method(f"vllm_{name}_refine") for name in ARMS}
each = pytest.mark.parametrize("name", ARMS)
LATER = Notes("Why?", reference="the reference")
REPLY = "[Summary]: It is 4. \n[Answer]: \\boxed{4}"


@each
def test_the_later_prompt_is_method_1s_without_the_list(name: str) -> None:
    method = METHODS[name]
    prompt = driver.render(method, driver.context(method), LATER)
    text = driver.content(prompt)
    assert text.startswith("Why?\n\n")
    assert "## Reference Solution\nthe reference\n\n## Instructions\n" in text
    assert "list" not in (text + prompt.prefill).lower()
    assert (prompt.sections, prompt.fraction) == (("Summary", "Answer"), 0.9)
    assert bool(prompt.prefill) is (name == "qwen")
    # What is said in both is said in the same sentences.
    folder = Path(method.prompt_folder)
    said = [
        re.split(r"(?<=[.:]) |\n", (folder / f"{name}_{own}_later.txt").read_text("utf-8"))
        for own in ("mistakes", "refine")
    ]
    for begins in ("Take the reference solution with a grain", "The answer is", "[Summary]"):
        expected = {each for each in said[0] if each.startswith(begins)}
        assert expected <= set(said[1])


@each
def test_the_summary_is_carried_and_nothing_else(name: str) -> None:
    context = driver.context(METHODS[name])
    result = driver.learn(METHODS[name], context, LATER, REPLY)
    assert (result.state, result.verdict) == (Notes("Why?", reference="it is 4."), 4)
