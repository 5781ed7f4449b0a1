"""What a run's chains spent and answered, step by step. A chain is one problem worked by one seed.

Votes count rollouts' own answers; a record that repeats an early-stopped chain's last step, and a
rollout that came after its chain had stopped, is no rollout of the chain: it neither votes nor
costs (docs/method.md, "Rivals at equal budget" and "Budgets").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kflow.answers import Sameness
from kflow.ground.price import Price
from kflow.results.rollout import Rollout
from kflow.results.runs import SavedRun
from kflow.types import Answer

Chain = tuple[Rollout, ...]


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


def list_chains(run: SavedRun) -> list[list[Chain]]:
    """[seed][problem] -> a record for each of the run's steps; one that does not count gives way
    to the last one that does."""
    return [
        [
            replace_uncounted(run.rollouts[seed, step][problem] for step in run.steps)
            for problem in range(len(run.problems))
        ]
        for seed in run.seeds
    ]


def replace_uncounted(records: Iterable[Rollout]) -> Chain:
    """A chain's records, each that does not count replaced by a repetition of the last that does:
    an answer that came after the chain had stopped is not its answer."""
    chain: list[Rollout] = []
    for record in records:
        if not record.counted and chain:
            record = replace(chain[-1], repeats_step=chain[-1].repeats_step or 0)
        chain.append(record)
    return tuple(chain)


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
    return next(rolling([votes]))


def rolling(steps: Iterable[Sequence[Ballot]]) -> Iterator[Vote]:
    """The majority of all ballots so far, after each step."""
    counts: Counter[Answer] = Counter()
    right: dict[Answer, bool] = {}
    for ballots in steps:
        counts.update(ballot.answer for ballot in ballots)
        right |= {ballot.answer: ballot.right for ballot in ballots}
        most = max(counts.values(), default=0)
        leaders = [answer for answer, count in counts.items() if count == most]
        yield Vote(
            sum(right[answer] for answer in leaders) / max(1, len(leaders)), len(leaders) > 1
        )


def rolling_majority(chain: Chain) -> list[Vote]:
    return list(rolling(ballots(counted_rollouts(record)) for record in chain))


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


def sum_costs(chain: Chain, ahead: bool, price: Price | None = None) -> list[Cost]:
    """Cumulative, by step."""
    total, by_step = Cost(), []
    for record in chain:
        slots = counted_rollouts(record)
        sizes = [slot.prompt_tokens + slot.completion_tokens for slot in slots]
        costs = [find_cost(slot, price) for slot in slots]
        largest = max(sizes, default=0)
        sequential = max(total.sequential, largest) if ahead else total.sequential + largest
        total = Cost(
            total.rollouts + len(sizes),
            total.total + sum(sizes),
            sequential,
            total.cost + sum(costs),
        )
        by_step.append(total)
    return by_step


def find_cost(slot: Rollout, price: Price | None) -> float:
    """What its server says that it charged, else its tokens at the price; 0 without either."""
    if slot.cost is not None:
        return slot.cost
    return 0.0 if price is None else price.of(slot.prompt_tokens, slot.completion_tokens)


def ever_correct(chain: Chain) -> list[bool]:
    """By step: whether any rollout so far was right."""
    ever, by_step = False, []
    for record in chain:
        ever = ever or any(slot.correct for slot in record.slots if slot.asks_answer)
        by_step.append(ever)
    return by_step


def count_different(chain: Chain) -> list[int]:
    """By step: how many different answers its rollouts have given so far."""
    seen: set[Answer] = set()
    by_step = []
    for record in chain:
        seen |= {ballot.answer for ballot in ballots(counted_rollouts(record))}
        by_step.append(len(seen))
    return by_step


def find_outcome(record: Rollout) -> str:
    """What a picture shows of a record, one of OUTCOMES."""
    if record.failure is not None:
        return "failed"
    if not any(slot.asks_answer for slot in record.slots):
        return "not asked"
    if record.correct:
        return "right"
    if record.finish_reason == "length":
        return "truncated"
    return "no answer" if record.predicted is None else "wrong"


def asks_answer(records: Iterable[Rollout]) -> bool:
    """Whether a step asks for answers, by its records: a repeated one may be another step's."""
    records = list(records)
    asked = [record for record in records if record.repeats_step is None] or records
    return all(any(slot.asks_answer for slot in record.slots) for record in asked)


def answered_right(record: Rollout, by_verdict: bool) -> bool:
    """Whether the chain answers right after this step: by the step's own prediction, or by its
    verdict where that is asked for or the record has no prediction of its own."""
    own = any(slot.asks_answer for slot in record.slots)
    return record.correct if own and not by_verdict else record.verdict_correct
