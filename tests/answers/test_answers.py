"""The integer a reply answers with: docs/method.md, "Defaults", the paragraph on answers."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from helpers import driver
from helpers.results_on_disk import ours
from kflow.answers import (
    FIRST_BOXED,
    FIRST_BOXED_OR_LAST,
    LAST_BOXED_OR_LAST,
    Integer,
    Sameness,
    has_box,
    last_integer,
)
from kflow.results.rollout import from_json, to_json
from kflow.types import Answer

INTEGER = Integer()
RULES = (FIRST_BOXED, FIRST_BOXED_OR_LAST, LAST_BOXED_OR_LAST)
# Where it is not that of the family's main loop.
RULE_OF = {
    "vllm_kflow_oss_knowledgeRegen": FIRST_BOXED_OR_LAST,
    "vllm_kflow_oss_positiveKnowledge": LAST_BOXED_OR_LAST,
    "vllm_oss_markovian_thinking": FIRST_BOXED_OR_LAST,
    "vllm_qwen_markovian_thinking": FIRST_BOXED_OR_LAST,
    "vllm_qwen_markovian_whole_tail": FIRST_BOXED_OR_LAST,
}


@pytest.mark.parametrize("script", driver.SCRIPTS)
def test_each_script_has_its_rule(script: str) -> None:
    main_loop = FIRST_BOXED if "_oss" in script else LAST_BOXED_OR_LAST
    assert driver.method(script).rule == RULE_OF.get(script, main_loop)


@pytest.mark.parametrize(
    ("text", "first", "first_or_last", "last_or_last"),
    [
        (r"\boxed{1} \boxed{2} 3", 1, 1, 2),
        (r"\Boxed{1} \BOXED{2} \bOxEd{3}", 1, 1, 3),
        (r"\boxed{-7} and \boxed{+07}", -7, -7, 7),
        (r"\boxed{0} then 3", 0, 0, 0),
        (r"\boxed{x} \boxed{6} \boxed{y} 7", 6, 6, 6),
        (r"\boxed{1} </think> \boxed{2}", 1, 1, 2),
        # No box, or none with an integer: the last digits, with a minus sign directly before them.
        (r"4 then \boxed{ 5 }", None, 5, 5),
        (r"\boxed {7}", None, 7, 7),
        (r"\boxed{- 7}", None, 7, 7),
        (r"\boxed{--7}", None, -7, -7),
        (r"\boxed{1,234}", None, 234, 234),
        (r"\boxed{\text{7}}", None, 7, 7),
        (r"\boxed{7", None, 7, 7),
        (r"\fbox{7}", None, 7, 7),
        ("first 12, then 34.", None, 34, 34),
        ("8-5", None, -5, -5),
        ("it is −5", None, 5, 5),
        ("-0.5", None, 5, 5),
        ("x12y", None, 12, 12),
        ("5-", None, 5, 5),
        (r"\boxed{n}", None, None, None),
        ("", None, None, None),
    ],
)
def test_the_three_rules(
    text: str, first: Answer | None, first_or_last: Answer | None, last_or_last: Answer | None
) -> None:
    answers = [INTEGER.extract(text, rule) for rule in RULES]
    assert answers == [first, first_or_last, last_or_last]
    assert has_box(text) is bool(re.search(r"\\boxed *{", text.lower()))


LOOP = "9" * 5000


@pytest.mark.parametrize("sign", ["", "-"])
def test_an_endless_run_of_digits_is_no_integer(sign: str) -> None:
    boxed = rf"\boxed{{{sign}{LOOP}}}"
    for text in (f"12 then {sign}{LOOP}", f"12 then {boxed}"):
        assert [INTEGER.extract(text, rule) for rule in RULES] == [None] * 3
    text = rf"{boxed} \boxed{{3}} \boxed{{4}} {boxed}"
    assert [INTEGER.extract(text, rule) for rule in RULES] == [3, 3, 4]
    assert INTEGER.extract(f"{sign}{LOOP} then 12", LAST_BOXED_OR_LAST) == 12


def test_the_longest_run_that_counts() -> None:
    longest = "9" * 4300
    assert last_integer(longest) == INTEGER.extract(rf"\boxed{{{longest}}}", FIRST_BOXED)
    assert last_integer(longest) == int(longest)
    assert last_integer(longest + "9") is None
    assert last_integer(f"-{longest}") is None  # msgspec counts the sign


@pytest.mark.parametrize("text", ["9" * 4300, "-" + "9" * 4299])
def test_a_record_is_read_with_the_longest_integer(text: str) -> None:
    assert INTEGER.extract(rf"\boxed{{{text}}}", FIRST_BOXED) == int(text)
    assert from_json(to_json(ours(0, 7, int(text)))).predicted == int(text)


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (7, 7), (" +07\n", 7), ("-7", -7), (7.0, 7), (Decimal("7.00"), 7), (0, 0),
        ("", None), ("7.0", None), (7.5, None), (Decimal("7.5"), None), (True, None), (None, None),
        ("٧", None), ("9" * 4300, None), (float("inf"), None), (Decimal("NaN"), None),
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
    assert same.canonical(5, [3, 4, 5]) == 4
    assert same.canonical(4, [5]) == 4
    assert same.canonical(None, [4]) is None
    assert same.undecided == []


def test_an_undecided_comparison_counts_as_different_and_is_not_made_again() -> None:
    Rough.calls = 0
    same = Sameness(Rough())
    assert (same(100, 101), same(100, 101)) == (False, False)
    replayed = Sameness(Rough(), same.undecided)
    assert replayed.canonical(101, [100]) == 101
    assert (replayed.undecided, Rough.calls) == ([(100, 101)], 1)
