r"""Expressions: what is extracted and what is the same.

tests/data/expressions.jsonl holds our own problems in MathArena's columns, each with expressions
that are the same as its answer and near misses.
"""

from __future__ import annotations

import json
import random
import re
from decimal import Decimal
from pathlib import Path

import outlines_core
import pytest

from kflow.answers import Choice, Expression, Integer, Rule, expression

DATA = Path(__file__).parents[1] / "data"
ROWS = [json.loads(line) for line in (DATA / "expressions.jsonl").read_text().splitlines()]
TYPE = Expression()
FIRST, LAST = Rule(first=True, fallback=True), Rule(first=False, fallback=True)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}", r"\frac{1}{2}"),
        (r"\boxed{1} then \Boxed{x} gives \BOXED{2y}", "1", "2y"),
        (r"\boxed{ 3 + i }", "3 + i", "3 + i"),
        ("\\boxed\n {5}", "5", "5"),
        (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}", r"\left\{1, 2\right\}"),
        (r"\boxed{\}} \boxed{\{}", r"\}", r"\{"),
        (r"\boxed{a\\} b", r"a\\", r"a\\"),
        (r"\\boxed{7}", "7", "7"),
        (r"\\\boxed{7}", "7", "7"),
        (r"\boxed{\boxed{5}}", r"\boxed{5}", "5"),
        (r"} {\boxed{4}", "4", "4"),
        (r"\boxed{1} and \boxed{2", "1", "1"),
        (r"\boxed{1 and \boxed{2}", "2", "2"),
        (r"\boxed{} \boxed{...} \boxed{\ldots} \boxed{expression} \boxed{9}", "9", "9"),
        (r"\boxed{" + "1" * 2000 + "}", "1" * 2000, "1" * 2000),
        (r"\boxed{" + "1" * 2001 + r"} \boxed{2}", None, "2"),
        (r"\boxed{2} \boxed{" + "1" * 2001 + "}", "2", None),
        (r"\boxed 5, \boxed5 and \fbox{5}", None, None),
        ("the answer is 5", None, None),
    ],
)
def test_the_answer_is_a_balanced_box(text: str, first: str | None, last: str | None) -> None:
    assert (TYPE.extract(text, FIRST), TYPE.extract(text, LAST)) == (first, last)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (r"\boxed{" * 20_000, None),
        (r"\boxed{" * 20_000 + "1" + "}" * 20_000, "1"),
        ("{" * 100_000 + r"\boxed{3}", "3"),
        (r"\boxed{3}" + "}" * 100_000, "3"),
        ("\\" * 100_000 + r"boxed{3}", "3"),
        (r"\boxed{\{" * 20_000, None),
        (r"\boxed" + " " * 100_000 + "{3}", "3"),
    ],
)
def test_long_replies_are_read_in_one_pass(text: str, last: str | None) -> None:
    assert TYPE.extract(text, LAST) == last


@pytest.mark.parametrize(
    ("raw", "gold"),
    [
        (" x + 1\n", "x + 1"),
        (-0.5, "-0.5"),
        (1e-7, "0.0000001"),
        (Decimal("0.50"), "0.50"),
        (10**30, "1" + "0" * 30),
        (" \n", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        (Decimal("Infinity"), None),
        ("1" * 2001, None),
    ],
)
def test_gold_values_are_text_or_numbers(raw: object, gold: str | None) -> None:
    if gold is None:
        with pytest.raises(ValueError, match=r"^(empty|neither|not a finite|longer)"):
            TYPE.gold(raw)
    else:
        assert TYPE.gold(raw) == gold


@pytest.mark.parametrize("row", ROWS, ids=[row["answer"] for row in ROWS])
def test_known_equivalents_and_near_misses(row: dict[str, list[str]]) -> None:
    gold = TYPE.gold(row["answer"])
    assert [other for other in row["same"] if TYPE.same(gold, other) is not True] == []
    assert [other for other in row["different"] if TYPE.same(gold, other) is not False] == []


@pytest.mark.parametrize(
    ("gold", "other", "same"),
    [
        (r"x<2", r"(-\infty,2)", True),  # a condition is the set that it describes
        (r"(-\infty,2)", r"x<2", True),
        ("0.5", "50", False),
        ("(1,2)", "1,2", True),
        ("7", "7.", True),  # a sentence's full stop
        ("5", "1" * 2001, False),
    ],
)
def test_what_math_verify_makes_of_it(gold: str, other: str, same: bool) -> None:
    assert TYPE.same(gold, other) is same


@pytest.mark.parametrize(
    ("form", "fits", "does_not"),
    [
        (
            Expression().form,
            [r"\boxed{\frac{-1+\sqrt{17}}{2}}", r"\boxed{(1, 2]}", r"\boxed{\{1\}}", r"\boxed{é}"],
            [r"\boxed{}", r"\boxed{1", r"\boxed{{1}", "\\boxed{1\n}", r"\boxed{1}}", "1"],
        ),
        (Choice().form, [r"\boxed{A}", r"\boxed{D}"], [r"\boxed{E}", r"\boxed{AB}", "A"]),
        (Choice(10).form, [r"\boxed{J}"], [r"\boxed{K}"]),
        (Integer().form, [r"\boxed{-123456}"], [r"\boxed{x}", r"\boxed{1234567}", "7"]),
    ],
)
def test_forms_are_what_grammar_compilers_take(
    form: str, fits: list[str], does_not: list[str]
) -> None:
    letters = sorted(set("".join(fits + does_not)))
    vocabulary = outlines_core.Vocabulary(0, {c: [n] for n, c in enumerate(letters, 1)})
    index = outlines_core.Index(form, vocabulary)

    def accepted(text: str) -> bool:
        state: int | None = index.get_initial_state()
        for character in text:
            state = index.get_next_state(state, letters.index(character) + 1)
            if state is None:
                return False
        return index.is_final_state(state)

    for text in fits + does_not:
        assert accepted(text) == (text in fits) == bool(re.fullmatch(form, text))


def test_the_end_of_a_reply_reads_like_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    pieces = [r"\boxed{", "{", "}", r"\{", r"\}", "\\", "\\\\", "1", " ", "x", ", ", "and"]
    texts = ["".join(rng.choices(pieces, k=30)) for _ in range(3000)]
    whole = [TYPE.extract(text, LAST) for text in texts]
    monkeypatch.setattr(expression, "TAIL", 12)
    assert [TYPE.extract(text, LAST) for text in texts] == whole
    assert len(set(whole)) > 100
