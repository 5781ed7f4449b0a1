"""Recompute every answer of the bundled quickstart problem set by brute force."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import groupby, permutations, product
from pathlib import Path
from typing import Any

import pytest

DATA_PATH = Path(__file__).resolve().parents[2] / "scripts" / "kflow" / "data" / "quickstart.jsonl"
PROBLEMS: list[dict[str, Any]] = [
    json.loads(line) for line in DATA_PATH.read_text(encoding="ascii").splitlines()
]


def numbers_in(text: str) -> list[int]:
    """Return the integers written in the text; a spaced minus is an operator, not a sign."""
    return [int(token) for token in re.findall(r"-?\d+", text)]


def only(values: list[int]) -> int:
    """Return the single element, so that a search also proves its answer is unique."""
    (value,) = values
    return value


def count_two_piles(text: str) -> int:
    left, right = numbers_in(text)
    assert f" {left} + {right}?" in text
    return len([*range(left), *range(right)])


def count_three_piles(text: str) -> int:
    left, middle, right = numbers_in(text)
    assert f" {left} + {middle} + {right}?" in text
    return len([*range(left), *range(middle), *range(right)])


def count_rectangular_array(text: str) -> int:
    rows, columns = numbers_in(text)
    assert f" {rows} times {columns}?" in text
    return len(list(product(range(rows), range(columns))))


def count_down_from(text: str) -> int:
    value, steps = numbers_in(text)
    assert f" {value} - {steps}?" in text
    for _ in range(steps):
        value -= 1
    return value


def simulate_apple_basket(text: str) -> int:
    start, eaten, bought = numbers_in(text)
    basket = ["apple"] * start
    for _ in range(eaten):
        basket.pop()
    basket.extend(["apple"] * bought)
    return len(basket)


def search_quotient(text: str) -> int:
    dividend, divisor = numbers_in(text)
    return only([q for q in range(dividend + 1) if q * divisor == dividend])


def unpack_bakery_order(text: str) -> int:
    per_box, per_bag, boxes, bags = numbers_in(text)
    items = [item for _ in range(boxes) for item in ["muffin"] * per_box]
    items += [item for _ in range(bags) for item in ["cookie"] * per_bag]
    return len(items)


def remainder_by_subtraction(text: str) -> int:
    value, divisor = numbers_in(text)
    while value >= divisor:
        value -= divisor
    return value


def search_linear_root(text: str) -> int:
    a, b, c, d = numbers_in(text)
    assert f"${a}x + {b} = {c}x + {d}$" in text
    return only([x for x in range(-1000, 1001) if a * x + b == c * x + d])


def drive_train_minute_by_minute(text: str) -> int:
    speed, hours, minutes = numbers_in(text)
    distance = Fraction(0)
    for _ in range(60 * hours + minutes):
        distance += Fraction(speed, 60)
    assert distance.denominator == 1
    return distance.numerator


def search_mother_age(text: str) -> int:
    ratio_now, years, ratio_later = numbers_in(text)
    return only(
        [
            ana
            for ana, ben in product(range(1, 200), repeat=2)
            if ana == ratio_now * ben and ana + years == ratio_later * (ben + years)
        ]
    )


def count_numbers_with_digit_sum(text: str) -> int:
    low, high, digit_sum = numbers_in(text)
    return sum(sum(map(int, str(n))) == digit_sum for n in range(low, high + 1))


def remainder_of_power(text: str) -> int:
    base, exponent, modulus = numbers_in(text)
    assert f"${base}^{{{exponent}}}$" in text
    power = 1
    for _ in range(exponent):
        power *= base
    return power % modulus


def wait_for_joint_flash(text: str) -> int:
    first, second, third = numbers_in(text)
    flashes = [set(range(p, first * second * third + 1, p)) for p in (first, second, third)]
    return min(set.intersection(*flashes))


def triangle_area_by_lattice_points(text: str) -> int:
    """Count the lattice points inside and on the triangle and apply Pick's theorem."""
    ax, ay, bx, by, cx, cy = numbers_in(text)
    sides = [(ax, ay, bx, by), (bx, by, cx, cy), (cx, cy, ax, ay)]
    inside = boundary = 0
    for x in range(min(ax, bx, cx), max(ax, bx, cx) + 1):
        for y in range(min(ay, by, cy), max(ay, by, cy) + 1):
            turns = [(qx - px) * (y - py) - (qy - py) * (x - px) for px, py, qx, qy in sides]
            if min(turns) > 0 or max(turns) < 0:
                inside += 1
            elif min(turns) == 0 or max(turns) == 0:
                boundary += 1
    area = inside + Fraction(boundary, 2) - 1
    assert area.denominator == 1
    return area.numerator


def count_arrangements_without_equal_neighbours(text: str) -> int:
    (letters,) = re.findall(r"\b[A-Z]{2,}\b", text)
    assert numbers_in(text) == [len(letters)]
    arrangements = set(permutations(letters))
    return sum(all(len(list(run)) == 1 for _, run in groupby(word)) for word in arrangements)


def count_square_and_domino_coverings(text: str) -> int:
    rows, columns, *tiles = numbers_in(text)
    assert tiles == [1, 1, 1, 2, 1, 2]

    def count(free: frozenset[tuple[int, int]]) -> int:
        if not free:
            return 1
        row, column = min(free)
        total = count(free - {(row, column)})
        for neighbour in ((row + 1, column), (row, column + 1)):
            if neighbour in free:
                total += count(free - {(row, column), neighbour})
        return total

    return count(frozenset(product(range(rows), range(columns))))


def count_triples_with_gcd_and_lcm(text: str) -> int:
    common, multiple = numbers_in(text)
    divisors = [d for d in range(1, multiple + 1) if multiple % d == 0]
    return sum(
        math.gcd(*triple) == common and math.lcm(*triple) == multiple
        for triple in product(divisors, repeat=3)
    )


SOLVERS: dict[str, Callable[[str], int]] = {
    "quickstart-01": count_two_piles,
    "quickstart-02": count_rectangular_array,
    "quickstart-03": count_two_piles,
    "quickstart-04": count_rectangular_array,
    "quickstart-05": simulate_apple_basket,
    "quickstart-06": count_down_from,
    "quickstart-07": count_down_from,
    "quickstart-08": search_quotient,
    "quickstart-09": count_two_piles,
    "quickstart-10": count_two_piles,
    "quickstart-11": count_three_piles,
    "quickstart-12": count_down_from,
    "quickstart-13": unpack_bakery_order,
    "quickstart-14": remainder_by_subtraction,
    "quickstart-15": search_linear_root,
    "quickstart-16": drive_train_minute_by_minute,
    "quickstart-17": search_mother_age,
    "quickstart-18": count_numbers_with_digit_sum,
    "quickstart-19": remainder_of_power,
    "quickstart-20": wait_for_joint_flash,
    "quickstart-21": triangle_area_by_lattice_points,
    "quickstart-22": count_arrangements_without_equal_neighbours,
    "quickstart-23": count_square_and_domino_coverings,
    "quickstart-24": count_triples_with_gcd_and_lcm,
}


def test_ids_are_in_order_and_all_have_a_solver() -> None:
    ids = [problem["id"] for problem in PROBLEMS]
    assert ids == [f"quickstart-{number:02d}" for number in range(1, 25)]
    assert ids == list(SOLVERS)


def test_texts_are_unique() -> None:
    assert len({problem["problem"] for problem in PROBLEMS}) == len(PROBLEMS) == 24


def test_some_early_answers_are_not_positive() -> None:
    assert sum(problem["answer"] <= 0 for problem in PROBLEMS[:18]) >= 2


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem["id"])
def test_record_is_well_formed(problem: dict[str, Any]) -> None:
    assert list(problem) == ["id", "problem", "answer"]
    assert type(problem["answer"]) is int
    text = problem["problem"]
    assert isinstance(text, str)
    assert text.isascii()
    assert text == text.strip()
    assert 0 < len(text.split()) <= 60
    assert problem["answer"] not in numbers_in(text)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem["id"])
def test_answer_matches_brute_force(problem: dict[str, Any]) -> None:
    assert SOLVERS[problem["id"]](problem["problem"]) == problem["answer"]
