"""The figures of one run (docs/method.md, "Numbers to report"). Pure; a share is from 0 to 1, a
length in tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kflow.analysis.chains import (
    Chain,
    Spent,
    Vote,
    answered_right,
    asks_answer,
    ballots,
    chains,
    ever_correct,
    fresh,
    majority,
    pooled,
    rolling_majority,
    spent,
    undecided,
)
from kflow.analysis.runs import Run
from kflow.analysis.statistics import clustered, pass_at_k, wilson
from kflow.answers import Sameness
from kflow.results.rollout import Rollout


@dataclass(frozen=True)
class Share:
    """right of total, with the 95 % interval: Wilson's for one seed, clustered by problem for
    several, when `standard_error` is given too. None: cannot be said."""

    right: float
    total: int
    accuracy: float
    low: float | None
    high: float | None
    standard_error: float | None = None


@dataclass(frozen=True)
class AtStep:
    """A run up to one step; rollouts and tokens per problem, a mean over chains.

    own: of the step's own predictions, None where it asks for none. slots: of its single rollouts,
    where it has several. ever_correct: the share of chains of which any rollout so far was right.
    list_share: the knowledge list's share of the window. cost: per problem too. None: not on
    record.
    """

    step: int
    own: Share | None
    rolling_majority: Share
    slots: float | None
    ever_correct: float
    rollouts: float
    tokens: float | None
    sequential_tokens: float | None
    list_share: float | None
    cost: float | None


@dataclass(frozen=True)
class Votes:
    right: float
    total: int
    accuracy: float
    ties: int


@dataclass(frozen=True)
class Seeds:
    """At the last step, over k seeds; pass_at: k -> the chance that one of k seeds is right."""

    k: int
    average: float
    majority: Votes
    pass_at: dict[int, float]


@dataclass(frozen=True)
class Rates:
    """no_answer: of the replies that were asked for an answer. unreadable_box: of those without
    one, the ones with a box. truncated, missing_sections: of the replies. failed: of the rollouts.
    None: not on record, or of nothing."""

    no_answer: float | None
    unreadable_box: float | None
    truncated: float | None
    missing_sections: float | None
    failed: float | None


@dataclass(frozen=True)
class Figures:
    """best: the step with the highest accuracy, picked afterwards. reply_tokens: of all rollouts.
    tokens_in_windows: a chain's reply tokens. list_*: at the last step, None for a run that shows
    no list. early_stopped: records that repeat an earlier step. right_to_wrong, wrong_to_right:
    answers that turned from one step to the next; None for attempts that do not depend on each
    other, which have no order. cost: of all rollouts."""

    name: str
    folder: str
    notes: tuple[str, ...]
    problems: int
    seeds: int
    window: int | None
    by_step: tuple[AtStep, ...]
    best: AtStep | None
    majority_over_steps: Votes
    rollouts: int
    reply_tokens: int | None
    reply_tokens_per_rollout: float | None
    tokens_in_windows: float | None
    rates: Rates
    early_stopped: int
    list_entries: float | None
    list_characters: float | None
    right_to_wrong: int | None
    wrong_to_right: int | None
    several_seeds: Seeds | None
    cost: float | None


def accuracy(chains: Sequence[Sequence[Chain]], number: int) -> Share | None:
    """Of a step's own predictions; None where it asks for none. number: the step's place."""
    rows = [[chain[number] for chain in seed] for seed in chains]
    if not asks_answer(record for row in rows for record in row):
        return None
    return share([[answered_right(record, False) for record in row] for row in rows])


def share(credits: Sequence[Sequence[float]]) -> Share:
    """credits: [seed][problem], each from 0 to 1."""
    means = [sum(column) / len(credits) for column in zip(*credits, strict=True)]
    right, total = sum(map(sum, credits)), len(credits) * len(means)
    if len(credits) == 1:
        low, high = wilson(right, total)
        return Share(right, total, right / total, low, high)
    centre = clustered(means)
    ends = [None if math.isinf(end) else end for end in centre.interval]
    error = None if math.isnan(centre.error) else centre.error
    return Share(right, total, right / total, ends[0], ends[1], error)


@dataclass(frozen=True)
class Course:
    """A run's chains with what is cumulative in them: [seed][problem] -> by step. shows_list:
    whether any of its prompts shows a list."""

    run: Run
    shows_list: bool
    chains: list[list[Chain]]
    votes: list[list[list[Vote]]]
    spent: list[list[list[Spent]]]
    ever: list[list[list[bool]]]


def course(run: Run) -> Course:
    every = chains(run)
    return Course(
        run,
        any(each.entries for row in run.lists.values() for each in row),
        every,
        [[rolling_majority(chain) for chain in seed] for seed in every],
        [[spent(chain, run.ahead, run.price) for chain in seed] for seed in every],
        [[ever_correct(chain) for chain in seed] for seed in every],
    )


def at_step(course: Course, number: int) -> AtStep:
    """number: the step's place among the run's steps."""
    run = course.run
    step = run.steps[number]
    records = [chain[number] for seed in course.chains for chain in seed]
    graded = [s.correct for r in records for s in r.rollouts if s.asks_answer and fresh(r)]
    lists = [each.tokens for seed in run.seeds for each in run.lists[seed, step]]
    return AtStep(
        step,
        accuracy(course.chains, number),
        share([[votes[number].credit for votes in seed] for seed in course.votes]),
        mean(graded),
        mean(ever[number] for seed in course.ever for ever in seed) or 0.0,
        mean(cost.rollouts for cost in costs(course, number)) or 0.0,
        mean_tokens(course, number),
        mean(cost.sequential for cost in costs(course, number)) if run.measured else None,
        share_of_window(mean(lists), run.window) if course.shows_list else None,
        mean(cost.cost for cost in costs(course, number)) if priced(run) else None,
    )


def priced(run: Run) -> bool:
    return run.measured and run.price is not None


def costs(course: Course, number: int) -> list[Spent]:
    """Of every chain up to a step."""
    return [by_step[number] for seed in course.spent for by_step in seed]


def mean_tokens(course: Course, number: int) -> float | None:
    tokens = mean(cost.total for cost in costs(course, number))
    return tokens if course.run.measured else None


def share_of_window(tokens: float | None, window: int | None) -> float | None:
    return None if tokens is None or window is None else tokens / window


def describe(course: Course) -> Figures:
    """Everything about one run alone."""
    run = course.run
    steps = tuple(at_step(course, number) for number in range(len(run.steps)))
    flat = [chain for seed in course.chains for chain in seed]
    rollouts = [rollout for chain in flat for record in chain for rollout in fresh(record)]
    tokens = sum(rollout.completion_tokens for rollout in rollouts) if run.measured else None
    turns = [
        (answered_right(a, False), answered_right(b, False))
        for chain in flat
        for a, b in pairwise(record for record in chain if asks_answer([record]))
    ]
    windows = tokens is not None and run.window is not None
    lists = [each for seed in run.seeds for each in run.lists[seed, run.last]]
    return Figures(
        name=run.name,
        folder=str(run.folder),
        notes=run.notes,
        problems=len(run.problems),
        seeds=len(run.seeds),
        window=run.window,
        by_step=steps,
        best=max(
            (step for step in steps if step.own),
            key=lambda step: step.own.accuracy if step.own else 0,
            default=None,
        ),
        majority_over_steps=counted([votes[-1] for seed in course.votes for votes in seed]),
        rollouts=len(rollouts),
        reply_tokens=tokens,
        reply_tokens_per_rollout=None if tokens is None else tokens / max(1, len(rollouts)),
        tokens_in_windows=(tokens or 0) / len(flat) / (run.window or 1) if windows else None,
        rates=rates(rollouts, run.measured),
        early_stopped=sum(r.repeats_step is not None for chain in flat for r in chain),
        list_entries=mean(each.entries for each in lists) if course.shows_list else None,
        list_characters=mean(each.characters for each in lists) if course.shows_list else None,
        right_to_wrong=None if run.ahead else sum(a and not b for a, b in turns),
        wrong_to_right=None if run.ahead else sum(b and not a for a, b in turns),
        several_seeds=over_seeds(course) if len(run.seeds) > 1 else None,
        cost=sum(s[-1].cost for seed in course.spent for s in seed) if priced(run) else None,
    )


def rates(rollouts: Sequence[Rollout], measured: bool) -> Rates:
    """The counts are those of a step's summary."""
    replies = [rollout for rollout in rollouts if rollout.failure is None]
    asked = [reply for reply in replies if reply.asks_answer]
    unanswered = [reply for reply in asked if reply.predicted is None]
    truncated = mean(reply.finish_reason == "length" for reply in replies)
    missing = mean(bool(reply.missing_sections) for reply in replies)
    return Rates(
        no_answer=mean(reply.predicted is None for reply in asked),
        unreadable_box=mean(reply.unreadable_box for reply in unanswered),
        truncated=truncated if measured else None,
        missing_sections=missing if measured else None,
        failed=mean(rollout.failure is not None for rollout in rollouts),
    )


def over_seeds(course: Course) -> Seeds:
    """At the last step: avg@K, maj@K of the last own answers, and pass@k for k = 1, 2, 4, ... and
    K."""
    run = course.run
    seeds, problems = len(run.seeds), range(len(run.problems))
    last = [[last_asked(chain) for chain in seed] for seed in course.chains]
    right = [sum(answered_right(row[p], False) for row in last) for p in problems]
    votes = []
    for p in problems:
        own = (ballots(row[p].slots) for row in last)
        votes.append(majority(pooled(own, Sameness(run.answers, undecided(run, p)))))
    sizes = sorted({2**n for n in range(seeds.bit_length())} | {seeds})
    return Seeds(
        seeds,
        sum(right) / seeds / len(right),
        counted(votes),
        {k: float(np.mean([pass_at_k(seeds, count, k) for count in right])) for k in sizes},
    )


def last_asked(chain: Chain) -> Rollout:
    """A chain's last record that asks for an answer, or its last one."""
    return next((record for record in reversed(chain) if asks_answer([record])), chain[-1])


def counted(votes: Sequence[Vote]) -> Votes:
    credit = sum(vote.credit for vote in votes)
    return Votes(credit, len(votes), credit / len(votes), sum(vote.tied for vote in votes))


def mean(values: Iterable[float | None]) -> float | None:
    """Of what is known, None where nothing is."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
