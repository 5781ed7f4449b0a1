"""The majority of answers: docs/method.md, "Rivals at equal budget"."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from kflow.types import Answer
from kflow.votes import majority


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        pytest.param([], None, id="no votes"),
        pytest.param([None, 3, None, None], 3, id="no answer does not vote"),
        pytest.param([3, 1, 1, 2, 2], 1, id="to the first of those that tie"),
        pytest.param([0, -1, 0], 0, id="zero is an answer"),
        pytest.param(["x", "1", "1"], "1", id="texts"),
    ],
)
def test_majority(answers: list[Answer | None], verdict: Answer | None) -> None:
    assert majority(answers) == verdict


def test_the_same_answers_vote_together_for_the_first_of_them() -> None:
    def same(first: Answer, other: Answer) -> bool:
        assert first != other
        return str(first).lower() == str(other).lower()

    assert majority(["b", "A", "a", "A", "c", "B"], same) == "A"
    assert majority(["b", "A", "a", "B"], same) == "b"


def test_the_earlier_answer_is_compared_first() -> None:
    pairs: list[tuple[Answer, Answer]] = []

    def same(first: Answer, other: Answer) -> bool:
        pairs.append((first, other))
        return False

    assert majority([1, 2, 1, 3], same) == 1
    assert pairs == [(1, 2), (1, 3), (2, 3)]


@pytest.mark.parametrize("seed", range(20))
def test_against_a_count(seed: int) -> None:
    rng = random.Random(seed)
    answers = [rng.choice([None, 1, 2, 3, 4]) for _ in range(rng.randint(1, 12))]
    counts = Counter(answer for answer in answers if answer is not None)
    most = [answer for answer in answers if counts[answer] == max(counts.values(), default=0)]
    assert majority(answers) == (most[0] if counts else None)
