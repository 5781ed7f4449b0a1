"""Recompute every answer of the bundled quickstart problem set by brute force."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, groupby, permutations, product
from pathlib import Path
from typing import Any

import pytest

DATA_PATH = Path(__file__).resolve().parents[1] / "scripts" / "kflow" / "data" / "quickstart.jsonl"
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
    assert f"${left} + {right}$" in text
    return len([*range(left), *range(right)])


def count_rectangular_array(text: str) -> int:
    rows, columns = numbers_in(text)
    assert rf"${rows} \times {columns}$" in text
    return len(list(product(range(rows), range(columns))))


def count_down_from(text: str) -> int:
    value, steps = numbers_in(text)
    assert f"${value} - {steps}$" in text
    for _ in range(steps):
        value -= 1
    return value


def count_array_and_pile(text: str) -> int:
    rows, columns, extra = numbers_in(text)
    assert rf"${rows} \times {columns} + {extra}$" in text
    return len([*product(range(rows), range(columns)), *range(extra)])


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


def count_divisors(text: str) -> int:
    (number,) = numbers_in(text)
    return sum(number % d == 0 for d in range(1, number + 1))


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


def sum_difference_sequence(text: str) -> int:
    first, second, length = numbers_in(text)
    terms = [first, second]
    while len(terms) < length:
        terms.append(terms[-1] - terms[-2])
    return sum(terms)


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


def largest_divisor_with_equal_remainders(text: str) -> int:
    values = numbers_in(text)
    assert len(values) == 3
    # Beyond the largest value the remainders are the (different) values themselves.
    return max(d for d in range(1, max(values) + 1) if len({v % d for v in values}) == 1)


def count_arrangements_without_equal_neighbours(text: str) -> int:
    (letters,) = re.findall(r"\b[A-Z]{2,}\b", text)
    assert numbers_in(text) == [len(letters)]
    arrangements = set(permutations(letters))
    return sum(all(len(list(run)) == 1 for _, run in groupby(word)) for word in arrangements)


def count_divisible_cubic_values(text: str) -> int:
    low, high, exponent, divisor = numbers_in(text)
    return sum((n**exponent - n) % divisor == 0 for n in range(low, high + 1))


def probability_product_divisible(text: str) -> int:
    size, low, high, divisor = numbers_in(text)
    choices = list(combinations(range(low, high + 1), size))
    hits = sum(math.prod(choice) % divisor == 0 for choice in choices)
    probability = Fraction(hits, len(choices))
    return probability.numerator + probability.denominator


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


def circumradius_by_coordinate_search(text: str) -> int:
    """Put B at the origin and C on the x-axis, then search for A and for the centre."""
    ab, bc, ca = numbers_in(text)
    ax, ay = next(
        (x, y)
        for x, y in product(range(-ab, ab + 1), range(1, ab + 1))
        if x * x + y * y == ab * ab and (x - bc) ** 2 + y * y == ca * ca
    )
    middle = Fraction(bc, 2)
    height = next(
        Fraction(numerator, denominator)
        for denominator in range(1, 13)
        for numerator in range(-50 * denominator, 50 * denominator + 1)
        if middle**2 + Fraction(numerator, denominator) ** 2
        == (middle - ax) ** 2 + (Fraction(numerator, denominator) - ay) ** 2
    )
    squared = middle**2 + height**2
    radius = Fraction(math.isqrt(squared.numerator), math.isqrt(squared.denominator))
    assert radius**2 == squared
    return radius.numerator + radius.denominator


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
    "quickstart-03": count_down_from,
    "quickstart-04": count_array_and_pile,
    "quickstart-05": simulate_apple_basket,
    "quickstart-06": search_quotient,
    "quickstart-07": unpack_bakery_order,
    "quickstart-08": remainder_by_subtraction,
    "quickstart-09": count_divisors,
    "quickstart-10": search_linear_root,
    "quickstart-11": drive_train_minute_by_minute,
    "quickstart-12": search_mother_age,
    "quickstart-13": count_numbers_with_digit_sum,
    "quickstart-14": sum_difference_sequence,
    "quickstart-15": remainder_of_power,
    "quickstart-16": wait_for_joint_flash,
    "quickstart-17": triangle_area_by_lattice_points,
    "quickstart-18": largest_divisor_with_equal_remainders,
    "quickstart-19": count_arrangements_without_equal_neighbours,
    "quickstart-20": count_divisible_cubic_values,
    "quickstart-21": probability_product_divisible,
    "quickstart-22": count_square_and_domino_coverings,
    "quickstart-23": circumradius_by_coordinate_search,
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
