"""The integer a reply answers with: METHOD.md, "Defaults", the paragraph on answers."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from kflow.answers import (
    LONGEST,
    boxed_integers,
    first_boxed,
    first_boxed_or_last_integer,
    last_boxed_or_last_integer,
    last_integer,
)
from kflow.types import Answer

SCRIPTS = sorted(
    path.stem for path in Path(import_module("kflow").__path__[0], "..").glob("vllm_*")
)
RULE_OF = {
    "vllm_kflow_oss": first_boxed,
    "vllm_kflow_oss24": first_boxed,
    "vllm_kflow_oss_knowledgeRegen": first_boxed_or_last_integer,
    "vllm_kflow_oss_positiveKnowledge": last_boxed_or_last_integer,
    "vllm_oss_markovian_thinking": first_boxed_or_last_integer,
    "vllm_kflow_qwen": last_boxed_or_last_integer,
    "vllm_kflow_qwen24": last_boxed_or_last_integer,
    "vllm_kflow_qwen_knowledgeRegen": last_boxed_or_last_integer,
    "vllm_kflow_qwen_positiveKnowledge": last_boxed_or_last_integer,
    "vllm_qwen_markovian_thinking": first_boxed_or_last_integer,
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_has_its_rule(script: str) -> None:
    assert import_module(script).EXPERIMENT.method.answer is RULE_OF[script]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(r"so \boxed{42}.", [42], id="plain"),
        pytest.param(r"\Boxed{1} \BOXED{2} \bOxEd{3}", [1, 2, 3], id="any case"),
        pytest.param(r"\boxed{-7} and \boxed{+7}", [-7, 7], id="signs"),
        pytest.param(r"\boxed{007}", [7], id="leading zeros"),
        pytest.param(r"$\boxed{5}$ then \boxed{5}", [5, 5], id="twice"),
        pytest.param(r"\boxed{ 7 }", [], id="blanks inside"),
        pytest.param(r"\boxed {7}", [], id="blank before the brace"),
        pytest.param(r"\boxed{- 7}", [], id="blank after the sign"),
        pytest.param(r"\boxed{--7}", [], id="two signs"),
        pytest.param(r"\boxed{}", [], id="empty"),
        pytest.param(r"\boxed{1,234}", [], id="comma"),
        pytest.param(r"\boxed{7.0}", [], id="decimal"),
        pytest.param(r"\boxed{x=7}", [], id="an equation"),
        pytest.param(r"\boxed{\text{7}}", [], id="markup inside"),
        pytest.param(r"\boxed{7", [], id="cut off"),
        pytest.param("boxed{7}", [], id="no backslash"),
        pytest.param(r"\fbox{7}", [], id="another box"),
    ],
)
def test_boxed_integers(text: str, found: list[int]) -> None:
    assert boxed_integers(text) == found


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        pytest.param("first 12, then 34.", 34, id="the last run"),
        pytest.param("it is -5", -5, id="minus directly before"),
        pytest.param("it is - 5", 5, id="minus and a blank"),
        pytest.param("it is +5", 5, id="plus"),
        pytest.param("8-5", -5, id="minus of a difference"),
        pytest.param("it is --5", -5, id="two minuses"),
        pytest.param("it is −5", 5, id="another minus character"),
        pytest.param("1,234", 234, id="after the comma"),
        pytest.param("3.14", 14, id="after the point"),
        pytest.param("-0.5", 5, id="a negative decimal"),
        pytest.param("x12y", 12, id="inside a word"),
        pytest.param("007", 7, id="leading zeros"),
        pytest.param("5-", 5, id="minus after"),
        pytest.param("seven", None, id="no digits"),
        pytest.param("", None, id="empty"),
    ],
)
def test_last_integer(text: str, answer: Answer) -> None:
    assert last_integer(text) == answer


@pytest.mark.parametrize(
    ("text", "first", "first_or_last", "last_or_last"),
    [
        pytest.param(r"\boxed{1} \boxed{2} 3", 1, 1, 2, id="two boxes and a number"),
        pytest.param(r"\boxed{-1} then 3", -1, -1, -1, id="a box before a number"),
        pytest.param(r"\boxed{0} then 3", 0, 0, 0, id="a boxed zero"),
        pytest.param("1 then 2", None, 2, 2, id="no box"),
        pytest.param(r"4 then \boxed{ 5 }", None, 5, 5, id="no boxed integer"),
        pytest.param(r"\boxed{x} \boxed{6} \boxed{y} 7", 6, 6, 6, id="one box of three counts"),
        pytest.param(r"\boxed{1} </think> \boxed{2}", 1, 1, 2, id="the whole reply"),
        pytest.param(r"\boxed{n}", None, None, None, id="no answer"),
        pytest.param("", None, None, None, id="empty"),
    ],
)
def test_the_three_rules(
    text: str, first: Answer, first_or_last: Answer, last_or_last: Answer
) -> None:
    assert first_boxed(text) == first
    assert first_boxed_or_last_integer(text) == first_or_last
    assert last_boxed_or_last_integer(text) == last_or_last


LOOP = "9" * 5000


@pytest.mark.parametrize(
    "rule", [last_integer, first_boxed_or_last_integer, last_boxed_or_last_integer]
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_an_endless_run_of_digits_is_no_integer(rule: Callable[[str], Answer], sign: str) -> None:
    assert rule(f"12 then {sign}{LOOP}") is None
    assert rule(rf"12 then \boxed{{{sign}{LOOP}}}") is None
    assert rule(f"{LOOP} then 12") == 12


def test_an_endless_boxed_run_leaves_the_other_boxes() -> None:
    text = rf"\boxed{{{LOOP}}} \boxed{{3}} \boxed{{4}} \boxed{{{LOOP}}}"
    assert first_boxed(text) == first_boxed_or_last_integer(text) == 3
    assert last_boxed_or_last_integer(text) == 4
    assert first_boxed(rf"\boxed{{{LOOP}}}") is None


def test_the_longest_run_that_counts() -> None:
    longest = "9" * LONGEST
    assert LONGEST == 4300
    assert last_integer(longest) == int(longest) == first_boxed(rf"\boxed{{{longest}}}")
    assert last_integer(longest + "9") is None
    assert first_boxed(rf"\boxed{{{longest}9}}") is None
