"""The integer a reply answers with: docs/method.md, "Defaults", the paragraph on answers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from helpers import driver
from kflow.answers import (
    FIRST_BOXED,
    FIRST_BOXED_OR_LAST,
    LAST_BOXED_OR_LAST,
    LONGEST,
    Integer,
    Rule,
    Sameness,
    has_box,
    last_integer,
)
from kflow.types import Answer

INTEGER = Integer()
RULES = (FIRST_BOXED, FIRST_BOXED_OR_LAST, LAST_BOXED_OR_LAST)
RULE_OF = {
    "vllm_kflow_oss": FIRST_BOXED,
    "vllm_kflow_oss24": FIRST_BOXED,
    "vllm_kflow_oss_knowledgeRegen": FIRST_BOXED_OR_LAST,
    "vllm_kflow_oss_positiveKnowledge": LAST_BOXED_OR_LAST,
    "vllm_oss_markovian_thinking": FIRST_BOXED_OR_LAST,
    "vllm_kflow_qwen": LAST_BOXED_OR_LAST,
    "vllm_kflow_qwen24": LAST_BOXED_OR_LAST,
    "vllm_kflow_qwen_knowledgeRegen": LAST_BOXED_OR_LAST,
    "vllm_kflow_qwen_positiveKnowledge": LAST_BOXED_OR_LAST,
    "vllm_qwen_markovian_thinking": FIRST_BOXED_OR_LAST,
    "vllm_qwen_markovian_whole_tail": FIRST_BOXED_OR_LAST,
    **{
        f"vllm_{family}_{rival}": rule
        for family, rule in (("oss", FIRST_BOXED), ("qwen", LAST_BOXED_OR_LAST))
        for rival in ("parallel_thinking", "refine", "rsa", "trt", "rse", "pacore")
    },
}


@pytest.mark.parametrize("script", driver.SCRIPTS)
def test_each_script_has_its_rule(script: str) -> None:
    assert driver.method(script).rule == RULE_OF[script]


@pytest.mark.parametrize(
    ("text", "boxed"),
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
        pytest.param(r"\boxed{7", [], id="truncated"),
        pytest.param("boxed{7}", [], id="no backslash"),
        pytest.param(r"\fbox{7}", [], id="another box"),
    ],
)
def test_the_first_and_the_last_boxed_integer(text: str, boxed: list[int]) -> None:
    ends = [INTEGER.extract(text, Rule(first, fallback=False)) for first in (True, False)]
    assert ends == ([boxed[0], boxed[-1]] if boxed else [None, None])
    assert has_box(text) is ("oxed" in text.lower() and text != "boxed{7}")


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
def test_last_integer(text: str, answer: Answer | None) -> None:
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
    text: str, first: Answer | None, first_or_last: Answer | None, last_or_last: Answer | None
) -> None:
    answers = [INTEGER.extract(text, rule) for rule in RULES]
    assert answers == [first, first_or_last, last_or_last]


LOOP = "9" * 5000


@pytest.mark.parametrize("rule", [FIRST_BOXED_OR_LAST, LAST_BOXED_OR_LAST])
@pytest.mark.parametrize("sign", ["", "-"])
def test_an_endless_run_of_digits_is_no_integer(rule: Rule, sign: str) -> None:
    assert INTEGER.extract(f"12 then {sign}{LOOP}", rule) is None
    assert INTEGER.extract(rf"12 then \boxed{{{sign}{LOOP}}}", rule) is None
    assert INTEGER.extract(f"{LOOP} then 12", rule) == 12


def test_an_endless_boxed_run_leaves_the_other_boxes() -> None:
    text = rf"\boxed{{{LOOP}}} \boxed{{3}} \boxed{{4}} \boxed{{{LOOP}}}"
    assert [INTEGER.extract(text, rule) for rule in RULES] == [3, 3, 4]
    assert INTEGER.extract(rf"\boxed{{{LOOP}}}", FIRST_BOXED) is None


def test_the_longest_run_that_counts() -> None:
    longest = "9" * LONGEST
    assert LONGEST == 4300
    assert last_integer(longest) == int(longest)
    assert INTEGER.extract(rf"\boxed{{{longest}}}", FIRST_BOXED) == int(longest)
    assert last_integer(longest + "9") is None
    assert INTEGER.extract(rf"\boxed{{{longest}9}}", FIRST_BOXED) is None


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (7, 7), ("7", 7), (" +07\n", 7), ("-7", -7), (7.0, 7), (Decimal("7.00"), 7), (0, 0),
        ("", None), ("7.0", None), ("1e3", None), (7.5, None), (Decimal("7.5"), None),
        (True, None), (None, None), ([7], None), ("٧", None), ("9" * 4301, None),
        (float("nan"), None), (float("inf"), None), (Decimal("NaN"), None),
    ],
)  # fmt: skip
def test_gold(raw: object, answer: int | None) -> None:
    if answer is None:
        with pytest.raises(ValueError, match="integer"):
            INTEGER.gold(raw)
    else:
        assert INTEGER.gold(raw) == answer


class Rough(Integer):
    """Answers within 1 of the gold one are the same; above 100 the comparison is given up."""

    calls = 0

    def same(self, gold: Answer, other: Answer) -> bool | None:
        self.__class__.calls += 1
        return None if int(other) > 100 else 0 <= int(other) - int(gold) <= 1


def test_the_earliest_answer_that_is_the_same_stands_for_it() -> None:
    same = Sameness(Rough())
    assert same.canonical(5, []) == 5
    assert same.canonical(5, [3, 4, 5]) == 4
    assert same.canonical(4, [5]) == 4
    assert same.canonical(None, [4]) is None
    assert same.undecided == []


def test_an_undecided_comparison_counts_as_different_and_is_not_made_again() -> None:
    Rough.calls = 0
    same = Sameness(Rough())
    assert same(100, 101) is False
    assert same(100, 101) is False
    assert (same.undecided, Rough.calls) == ([(100, 101)], 1)
    replayed = Sameness(Rough(), same.undecided)
    assert replayed.canonical(101, [100]) == 101
    assert (replayed.undecided, Rough.calls) == ([(100, 101)], 1)
