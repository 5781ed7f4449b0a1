"""A saved reply's parts."""

from __future__ import annotations

import pytest

from helpers.results_on_disk import ours
from kflow.results.rollout import split


@pytest.mark.parametrize(
    ("family", "mark"), [("qwen", "</think>"), ("gpt_oss", "assistantfinal"), ("x", "</think>")]
)
def test_the_visible_answer_is_what_follows_the_familys_last_mark(family: str, mark: str) -> None:
    other = "assistantfinal" if mark == "</think>" else "</think>"
    text = rf"a{mark}b{mark}{other}\boxed{{3}}"
    record = ours(0, 3, 3, family=family, pred_solution="carried" + text, reply_start=7)
    assert split(record) == (f"a{mark}b{mark}", rf"{other}\boxed{{3}}")
    assert split(ours(0, 3, 3, family=family, pred_solution="3")) == ("", "3")
