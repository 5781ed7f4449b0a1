"""What chains spent and answered, against numbers worked out by hand or by brute force."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from helpers.results_on_disk import ours, wide
from kflow.analysis.chains import (
    Ballot,
    Cost,
    asks_answer,
    find_outcome,
    follow,
    pool,
)
from kflow.answers import Integer, Sameness


def credit(votes: Sequence[int], right: set[int]) -> Fraction:
    """Every way to break a tie, counted."""
    most = max((votes.count(v) for v in votes), default=0)
    leaders = sorted({v for v in votes if votes.count(v) == most})
    return Fraction(sum(v in right for v in leaders), max(1, len(leaders)))


@pytest.mark.parametrize("seed", range(60))
def test_the_rolling_majority_is_the_majority_of_every_beginning(seed: int) -> None:
    draw = random.Random(seed)
    right = set(draw.sample(range(4), draw.choice([0, 1, 1, 2])))
    steps = [
        [draw.choice([None, 0, 1, 2, 3]) for _ in range(draw.choice([1, 1, 1, 3]))]
        for _ in range(draw.randrange(1, 12))
    ]
    chain = follow(wide([ours(0, 1, v, correct=v in right) for v in step], None) for step in steps)
    for number, point in enumerate(chain):
        votes = [v for step in steps[: number + 1] for v in step if v is not None]
        assert point.vote.credit == pytest.approx(float(credit(votes, right)))
        assert point.ever_right == bool(right & {*votes})
        assert point.different == len({*votes})


def test_a_verdict_does_not_vote_and_a_repeated_record_neither() -> None:
    record = wide([ours(0, 1, 1), ours(0, 1, 2)], 2)
    chain = follow((record, replace(record, repeats_step=0), replace(record, repeats_step=0)))
    assert [point.vote.credit for point in chain] == [0.5, 0.5, 0.5]


def sized(prompt: int, reply: int, **more: Any) -> Any:
    return ours(0, 1, 9, prompt_tokens=prompt, completion_tokens=reply, **more)


@pytest.mark.parametrize(
    ("chain", "ahead", "expected"),
    [
        (  # one rollout a step: all of them wait for each other
            (sized(10, 100), sized(20, 200)), False,
            [Cost(1, 110, 110), Cost(2, 330, 330)],
        ),
        (  # strategy, two solutions, reflection: 1, 2 and 1 rollouts
            (sized(1, 10, asks_answer=False), wide([sized(2, 20), sized(3, 30)], 9), sized(4, 40)),
            False, [Cost(1, 11, 11), Cost(3, 66, 44), Cost(4, 110, 88)],
        ),
        (  # all in flight at once: the longest is what one waits for
            (sized(10, 100), sized(10, 300), sized(10, 200)), True,
            [Cost(1, 110, 110), Cost(2, 420, 310), Cost(3, 630, 310)],
        ),
        (  # an early-stopped chain's copies cost nothing; a failed rollout's prompt was sent
            (sized(10, 0, failure="refused"), sized(10, 100), sized(10, 100, repeats_step=1)),
            False, [Cost(1, 10, 10), Cost(2, 120, 120), Cost(2, 120, 120)],
        ),
    ],
)  # fmt: skip
def test_tokens_counted_by_hand(chain: Any, ahead: bool, expected: list[Cost]) -> None:
    assert [point.spent for point in follow(chain, ahead)] == expected


def test_what_came_after_a_chain_had_stopped_is_not_counted() -> None:
    late = ours(0, 1, 5, counted=False)
    chain = follow([ours(0, 1, 2), ours(0, 1, 1), late, late], True)
    assert [point.record.predicted for point in chain] == [2, 1, 1, 1]
    assert [point.spent.rollouts for point in chain] == [1, 2, 2, 2]
    assert [point.vote.credit for point in chain] == [0, 0.5, 0.5, 0.5]


def test_a_step_asks_for_answers_where_its_own_rollouts_do() -> None:
    strategy, answer = ours(0, 1, None, asks_answer=False), ours(1, 1, 1)
    stopped = replace(answer, repeats_step=1)
    assert not asks_answer([strategy, stopped])
    assert asks_answer([answer, stopped])
    assert asks_answer([stopped])


def test_a_step_has_failed_where_all_of_its_rollouts_have() -> None:
    failed, right = ours(0, 1, None, failure="no"), ours(0, 1, 1)
    distilled = ours(0, 1, None, asks_answer=False)
    assert find_outcome(wide([failed, failed], None)) == "failed"
    assert find_outcome(replace(wide([failed, failed], 1), correct=True)) == "failed"
    assert find_outcome(replace(wide([failed, right], 5), correct=True)) == "right"
    assert find_outcome(wide([replace(failed, asks_answer=False), distilled], 1)) == "not asked"


def test_answers_of_several_chains_are_made_canonical_anew() -> None:
    """A sameness of integers that differ by less than 2, which is not transitive: the earliest in
    the order given is the one that others are the same as."""

    class Near(Integer):
        def same(self, gold: Any, other: Any) -> bool:
            return abs(gold - other) < 2

    votes = [[Ballot(5, False), Ballot(6, True)], [Ballot(7, True), Ballot(4, False)]]
    answers = pool(votes, Sameness(Near()))
    assert answers == [Ballot(5, False), Ballot(5, False), Ballot(7, True), Ballot(5, False)]
