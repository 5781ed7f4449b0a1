"""What a run's chains spent and answered, step by step. A chain is one problem worked by one seed.

Votes count rollouts' own answers; a record that repeats an early-stopped chain's last step, and a
rollout that came after its chain had stopped, is no rollout of the chain: it neither votes nor
costs (docs/method.md, "Rivals at equal budget" and "Budgets").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kflow.answers import Sameness
from kflow.ground.price import Price
from kflow.results.rollout import Rollout
from kflow.results.runs import SavedRun
from kflow.types import Answer

OUTCOMES = ("right", "wrong", "no answer", "truncated", "failed", "not asked")


class Ballot(NamedTuple):
    """A rollout's own answer, and whether it is right."""

    answer: Answer
    right: bool


class Vote(NamedTuple):
    """credit: the share of right answers among those with the most votes, so that a tie counts as
    its share. tied: whether there was a tie."""

    credit: float
    tied: bool


@dataclass(frozen=True)
class Cost:
    """What a chain took, up to and with a step."""

    rollouts: int = 0
    total: int = 0
    """tokens of prompts and replies"""
    sequential: int = 0
    """tokens of the largest slot, summed over steps, or of the largest rollout where all were in
    flight at once"""
    cost: float = 0.0
    """in the user's currency, 0 without a price"""


class Point(NamedTuple):
    """A chain after one of its steps: the step's record, and what has come of it so far."""

    record: Rollout
    vote: Vote
    """the majority of all its rollouts' answers"""
    spent: Cost
    ever_right: bool
    """whether any of its rollouts was right"""
    different: int
    """answers"""


Chain = tuple[Point, ...]


def follow(records: Iterable[Rollout], ahead: bool = False, price: Price | None = None) -> Chain:
    """A chain's records with what is cumulative in them. One that does not count gives way to a
    repetition of the last that does: an answer that came after the chain had stopped is not its
    answer. ahead: whether all rollouts were in flight at once."""
    counts: Counter[Answer] = Counter()
    right: dict[Answer, bool] = {}
    spent, ever, points = Cost(), False, list[Point]()
    for record in records:
        if not record.counted and points:
            last = points[-1].record
            record = replace(last, repeats_step=last.repeats_step or 0)
        slots = counted_rollouts(record)
        counts.update(ballot.answer for ballot in ballots(slots))
        right |= dict(ballots(slots))
        ever = ever or any(slot.correct for slot in record.slots if slot.asks_answer)
        sizes = [slot.prompt_tokens + slot.completion_tokens for slot in slots]
        largest = max(sizes, default=0)
        spent = Cost(
            spent.rollouts + len(slots),
            spent.total + sum(sizes),
            max(spent.sequential, largest) if ahead else spent.sequential + largest,
            spent.cost + sum(find_cost(slot, price) for slot in slots),
        )
        points.append(Point(record, count_votes(counts, right), spent, ever, len(counts)))
    return tuple(points)


def counted_rollouts(record: Rollout) -> tuple[Rollout, ...]:
    """The rollouts that a record stands for, failed ones too."""
    return record.new_slots if record.counted else ()


def ballots(rollouts: Iterable[Rollout]) -> list[Ballot]:
    return [
        Ballot(rollout.predicted, rollout.correct)
        for rollout in rollouts
        if rollout.asks_answer and rollout.predicted is not None
    ]


def majority(votes: Sequence[Ballot]) -> Vote:
    """The most frequent answer; the answers must be canonical: equal ones are the same one."""
    return count_votes(Counter(ballot.answer for ballot in votes), dict(votes))


def count_votes(counts: Mapping[Answer, int], right: Mapping[Answer, bool]) -> Vote:
    most = max(counts.values(), default=0)
    leaders = [answer for answer, count in counts.items() if count == most]
    return Vote(sum(right[answer] for answer in leaders) / max(1, len(leaders)), len(leaders) > 1)


def pool(chains: Iterable[Iterable[Ballot]], same: Sameness) -> list[Ballot]:
    """The ballots of several chains of a problem, canonicalized again in the given order."""
    right: dict[Answer, bool] = {}
    canonical: dict[Answer, Answer] = {}
    votes = []
    for answer, correct in (ballot for chain in chains for ballot in chain):
        if answer not in canonical:
            canonical[answer] = next((old for old in right if same(old, answer)), answer)
            right.setdefault(canonical[answer], correct)
        votes.append(Ballot(canonical[answer], right[canonical[answer]]))
    return votes


def find_undecided(run: SavedRun, problem: int) -> set[tuple[Answer, Answer]]:
    """The comparisons of a problem's answers that are on record as given up, in either order: the
    answers are two in the votes of their chain, whichever seed they come from in other votes."""
    return {
        pair
        for row in run.rollouts.values()
        for first, other in row[problem].undecided
        for pair in ((first, other), (other, first))
    }


def find_cost(slot: Rollout, price: Price | None) -> float:
    """What its server says that it charged, else its tokens at the price; 0 without either."""
    if slot.cost is not None:
        return slot.cost
    return 0.0 if price is None else price.of(slot.prompt_tokens, slot.completion_tokens)


def find_outcome(record: Rollout) -> str:
    """What a picture shows of a record, one of OUTCOMES."""
    if all(slot.failure is not None for slot in record.slots):
        return "failed"
    if not any(slot.asks_answer for slot in record.slots):
        return "not asked"
    if record.correct:
        return "right"
    if record.finish_reason == "length":
        return "truncated"
    return "no answer" if record.predicted is None else "wrong"


def asks_answer(records: Iterable[Rollout]) -> bool:
    """Whether a step asks for answers, by most of its records: a repeated one may be another
    step's, and a chain whose attempts all failed attempts again where the others do not."""
    records = list(records)
    new = [record for record in records if record.repeats_step is None] or records
    return 2 * sum(any(slot.asks_answer for slot in record.slots) for record in new) > len(new)


def answered_right(record: Rollout, by_verdict: bool) -> bool:
    """Whether the chain answers right after this step: by the step's own prediction, or by its
    verdict where that is asked for or the record has no prediction of its own."""
    own = any(slot.asks_answer for slot in record.slots)
    return record.correct if own and not by_verdict else record.verdict_correct
