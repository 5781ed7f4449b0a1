"""The bundled problems: every answer again, from the numbers in its text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise, permutations, product
from typing import Any

from helpers.scripted import ROOT

FILE = ROOT / "scripts" / "kflow" / "data" / "quickstart.jsonl"
PROBLEMS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text().splitlines()]


@cache
def coverings(free: frozenset[tuple[int, int]]) -> int:
    """By unit squares and dominoes: what covers the first cell, times the rest."""
    if not free:
        return 1
    row, column = min(free)
    left = free - {(row, column)}
    neighbours = {(row, column + 1), (row + 1, column)} & left
    return coverings(left) + sum(coverings(left - {each}) for each in neighbours)


def by_search(holds: Callable[[int], bool]) -> int:
    """The one whole number for which it holds."""
    (found,) = filter(holds, range(-1000, 1000))
    return found


# Number in the set -> the answer, from the numbers in its text.
ANSWERS: dict[int, Callable[..., float]] = {
    **dict.fromkeys((1, 3, 9, 10, 11), lambda *terms: sum(terms)),
    **dict.fromkeys((2, 4), lambda a, b: a * b),
    5: lambda had, eaten, bought: had - eaten + bought,
    **dict.fromkeys((6, 7, 12), lambda a, b: a - b),
    8: lambda a, b: a / b,
    13: lambda box, bag, boxes, bags: box * boxes + bag * bags,
    14: lambda a, b: a % b,
    15: lambda a, b, c, d: by_search(lambda x: a * x + b == c * x + d),
    16: lambda speed, hours, minutes: speed * (60 * hours + minutes) / 60,
    17: lambda now, years, later: (
        now * by_search(lambda ben: now * ben + years == later * (ben + years))
    ),
    18: lambda low, high, total: sum(
        sum(map(int, str(number))) == total for number in range(low, high + 1)
    ),
    19: lambda base, exponent, modulus: base**exponent % modulus,
    20: math.lcm,
    21: lambda ax, ay, bx, by, cx, cy: abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2,
    22: lambda _: sum(
        all(one != other for one, other in pairwise(word)) for word in {*permutations("SETTEES")}
    ),
    23: lambda rows, columns, *_: coverings(frozenset(product(range(rows), range(columns)))),
    24: lambda divisor, multiple: sum(
        math.gcd(*triple) == divisor and math.lcm(*triple) == multiple
        for triple in product([d for d in range(1, multiple + 1) if multiple % d == 0], repeat=3)
    ),
}


def test_every_answer_follows_from_its_problem() -> None:
    assert [each["id"] for each in PROBLEMS] == [f"quickstart-{n:02d}" for n in range(1, 25)]
    assert len({each["problem"] for each in PROBLEMS}) == 24
    for number, problem in enumerate(PROBLEMS, 1):
        numbers = [int(each) for each in re.findall(r"-?\d+", problem["problem"])]
        assert (number, ANSWERS[number](*numbers)) == (number, problem["answer"])
        assert type(problem["answer"]) is int
        assert problem["answer"] not in numbers
