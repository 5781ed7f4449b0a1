"""Where a rule would have stopped the chains on record, and what that would have saved and cost
(docs/method.md, "Stopping rules, replayed"). Pure: a rule sees answers, never the right one.

The slots of a step do not wait for each other, so a chain stops after a whole step. The attempts of
parallel thinking are steps of their own, in their order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kflow.analysis.align import find_gaps, spell
from kflow.analysis.chains import Chain, answered_right, counted_rollouts
from kflow.analysis.comparison import MAJORITY, Difference, average_over_seeds, measure_difference
from kflow.analysis.run_statistics import Timeline, find_last_asked, mean
from kflow.types import Answer, UserError

LAST = "last answer"
Answers = Sequence[Answer | None]
RULE = re.compile(r"(stable|first):(\d{1,9})|majority:(\d?\.?\d{1,9}),(\d{1,9})", re.ASCII)
FORMS = "stable:N (N at least 2), majority:S,M (S above 0 and at most 1) or first:N"


@dataclass(frozen=True)
class StoppingRule:
    """When a chain stops."""

    name: str
    """as it was given"""
    holds: Callable[[Answers], bool]
    """whether it stops with these own answers, in the order of steps and slots; None: a rollout
    without an answer"""


@dataclass(frozen=True)
class EarlyStop:
    """A run as a rule would have left it; rollouts and tokens per problem, a mean over chains."""

    run: str
    rule: str
    chains: int
    stopped_early: int
    """of the chains, those that the rule ends before their end on record"""
    rolling_majority: Difference
    """at the stop, from what it is at the end of the chains on record"""
    last_answer: Difference
    """of the last step that asks for one"""
    rollouts: float
    whole_rollouts: float
    tokens: float | None
    """None: not on record"""
    whole_tokens: float | None


def parse(text: str) -> StoppingRule:
    """Raises ValueError for what is no rule."""
    match = RULE.fullmatch(text)
    if match is None:
        raise ValueError(f"must be {FORMS}")
    kind, count, share, least = match.groups()
    if kind == "first" and int(count) >= 1:
        return StoppingRule(text, lambda answers: len(answers) >= int(count))
    if kind == "stable" and int(count) >= 2:
        return StoppingRule(text, lambda answers: agree(answers, int(count)))
    if kind is None and 0 < float(share) <= 1 and int(least) >= 1:
        return StoppingRule(text, lambda answers: leads(answers, float(share), int(least)))
    raise ValueError(f"must be {FORMS}, with N and M at least 1")


def agree(answers: Answers, count: int) -> bool:
    """Whether the last so many are the same answer, as --stop_when_stable asks."""
    last = set(answers[-count:])
    return len(answers) >= count and len(last) == 1 and None not in last


def leads(answers: Answers, share: float, least: int) -> bool:
    """Whether at least so many answers are given, and the leading one has this share of them."""
    votes = Counter(answer for answer in answers if answer is not None)
    total = votes.total()
    return total >= least and max(votes.values()) >= share * total - 1e-9


def cut(chain: Chain, rule: StoppingRule) -> Chain:
    """A chain up to the step after which a rule ends it; the whole chain where it never does."""
    answers: list[Answer | None] = []
    for place, point in enumerate(chain):
        slots = counted_rollouts(point.record)
        answers += [slot.predicted for slot in slots if slot.asks_answer]
        if rule.holds(answers):
            return chain[: place + 1]
    return chain


def replay(timeline: Timeline, rule: StoppingRule) -> EarlyStop:
    """Raises UserError where a step is missing, so that it is not known where chains would stop."""
    run = timeline.run
    if lacking := find_gaps(run):
        raise UserError(f"{run.name} lacks {spell(lacking)}: leave --stop out, or this run.")
    whole = timeline.chains
    stopped = [[cut(chain, rule) for chain in seed] for seed in whole]
    ends = [chain[-1].spent for seed in whole for chain in seed]
    stops = [chain[-1].spent for seed in stopped for chain in seed]
    return EarlyStop(
        run.name,
        rule.name,
        len(ends),
        sum(stop.rollouts < end.rollouts for stop, end in zip(stops, ends, strict=True)),
        measure_difference(MAJORITY, list_majorities(whole), list_majorities(stopped)),
        measure_difference(LAST, list_last(whole), list_last(stopped)),
        mean(stop.rollouts for stop in stops) or 0.0,
        mean(end.rollouts for end in ends) or 0.0,
        mean(stop.total for stop in stops) if run.measured else None,
        mean(end.total for end in ends) if run.measured else None,
    )


def list_majorities(chains: Sequence[Sequence[Chain]]) -> list[float]:
    """Per problem, the credit of the majority of each chain's answers, a mean over seeds."""
    return average_over_seeds([[chain[-1].vote.credit for chain in seed] for seed in chains])


def list_last(chains: Sequence[Sequence[Chain]]) -> list[float]:
    """Per problem, whether each chain's last answer is right, a mean over seeds."""
    last = [[answered_right(find_last_asked(chain), False) for chain in seed] for seed in chains]
    return average_over_seeds(last)
