"""What is to be said of one run (docs/method.md, "Numbers to report"). Pure; a share is from 0 to
1, a length in tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from kflow.analysis.chains import (
    Chain,
    Point,
    answered_right,
    asks_answer,
    ballots,
    counted_rollouts,
    find_undecided,
    follow,
    majority,
    pool,
)
from kflow.analysis.statistics import clustered, pass_at_k
from kflow.answers import Sameness
from kflow.results.known_scores import Agreement, known_score, wilson
from kflow.results.recorded import part
from kflow.results.rollout import Rollout
from kflow.results.runs import SavedRun


@dataclass(frozen=True)
class Share:
    """right of total, with the 95 % interval: Wilson's for one seed, clustered by problem for
    several. An end is None where it cannot be said."""

    right: float
    total: int
    accuracy: float
    low: float | None
    high: float | None
    standard_error: float | None = None
    """of several seeds only"""


@dataclass(frozen=True)
class AtStep:
    """A run up to one step; rollouts, tokens and cost per problem, a mean over chains. None: not on
    record."""

    step: int
    answer: Share
    """of what the chain answers after it: its own prediction, or its verdict where that is a vote
    or the step asks for none"""
    own: Share | None
    """of the step's own predictions, None where it asks for none"""
    rolling_majority: Share | None
    """of all answers so far, None before the first step that asks for one"""
    slots: float | None
    """accuracy of its single rollouts, where it has several"""
    ever_correct: float
    """the share of chains of which any rollout so far was right"""
    rollouts: float
    tokens: float | None
    sequential_tokens: float | None
    list_share: float | None
    """the knowledge list's share of the window"""
    cost: float | None
    reply_tokens: float | None
    """of one reply of this step"""
    different_answers: float
    """that a chain has given so far"""


# Those that are one number: the columns of --csv, and what trackers log.
MEASURES = tuple(
    each.name
    for each in fields(AtStep)
    if each.name not in ("step", "answer", "own", "rolling_majority")
)


@dataclass(frozen=True)
class Votes:
    """The majorities of several chains or problems."""

    right: float
    total: int
    accuracy: float
    ties: int


@dataclass(frozen=True)
class Seeds:
    """At the last step, over k seeds."""

    k: int
    average: float
    standard_error: float | None
    """of the average, over problems"""
    majority: Votes
    pass_at: dict[int, float]
    """k -> the chance that one of k seeds is right"""


@dataclass(frozen=True)
class Rates:
    """Shares of replies or rollouts; None: not on record, or of nothing."""

    no_answer: float | None
    """of the replies that were asked for an answer"""
    unreadable_box: float | None
    """of the replies without an answer, those with a box"""
    truncated: float | None
    """of the replies"""
    missing_sections: float | None
    """of the replies"""
    failed: float | None
    """of the rollouts"""
    empty: float | None
    """of the rollouts, those whose reply has no text"""


@dataclass(frozen=True)
class LaterPrompts:
    """The prompts after step 0: how much of what a chain carries they show, and how much they leave
    out for lack of room."""

    prompts: int
    """after step 0"""
    incomplete: int
    """of these, those that lack entries of the list or parts of the other texts"""
    entries_shown: int | None
    """over these prompts; None where a step has several, and of a run without a list"""
    entries_held: int | None
    """those shown and those left out"""
    for_answers: int
    """of these, those that ask for an answer after an attempt: others may have no list to show"""
    with_entries: int | None
    """of those that ask for an answer, those that show an entry of the list"""

    @property
    def share(self) -> float:
        return self.incomplete / self.prompts


@dataclass(frozen=True)
class RunStatistics:
    """What compare_results.py says about one run alone."""

    name: str
    label: str
    """a word or two where the name has no room"""
    folder: str
    ahead: bool
    """whether all rollouts were in flight at once: parallel thinking"""
    notes: tuple[str, ...]
    wording: str | None
    problems: int
    seeds: int
    window: int | None
    by_step: tuple[AtStep, ...]
    rollouts: int
    reply_tokens: int | None
    """of all rollouts"""
    reply_tokens_per_rollout: float | None
    tokens_in_windows: float | None
    """a chain's reply tokens, in windows"""
    rates: Rates
    early_stopped: int
    """records that repeat an earlier step"""
    list_entries: float | None
    """at the last step, None for a run that shows no list"""
    right_to_wrong: int | None
    """answers that turned from one step to the next; None for attempts that do not depend on each
    other, which have no order"""
    wrong_to_right: int | None
    several_seeds: Seeds | None
    cost: float | None
    """of all rollouts"""
    known_score: Agreement | None
    """of its first attempts with what is known of the model; None of other models"""
    left_out: LaterPrompts | None
    """None: not on record, or no prompt after step 0 that could differ from its"""


def make_share(credits: Sequence[Sequence[float]]) -> Share:
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
class Timeline:
    """A run's chains with what is cumulative in them."""

    run: SavedRun
    chains: list[list[Chain]]
    """[seed][problem]"""


def build_timeline(run: SavedRun) -> Timeline:
    ahead, price = run.ahead, run.price
    chains = [
        [
            follow((run.rollouts[seed, step][problem] for step in run.steps), ahead, price)
            for problem in range(len(run.problems))
        ]
        for seed in run.seeds
    ]
    return Timeline(run, chains)


def measure_step(timeline: Timeline, number: int) -> AtStep:
    """number: the step's place among the run's steps."""
    run, step = timeline.run, timeline.run.steps[number]
    points = list_points(timeline, number)
    records = [point.record for point in points]
    slots = [slot for record in records for slot in counted_rollouts(record)]
    several = [slot for record in records if record.counted for slot in record.rollouts]
    lists = [each.tokens for seed in run.seeds for each in run.lists[seed, step]]
    own = mark_answers(timeline, number, by_verdict=False)
    so_far = (point for place in range(number + 1) for point in list_points(timeline, place))
    asked = any(slot.asks_answer for point in so_far for slot in point.record.slots)
    return AtStep(
        step=step,
        answer=make_share(mark_answers(timeline, number, run.ahead)),
        own=make_share(own) if asks_answer(records) else None,
        rolling_majority=make_share(list_credits(timeline, number)) if asked else None,
        slots=mean(slot.correct for slot in several if slot.asks_answer),
        ever_correct=mean(point.ever_right for point in points) or 0.0,
        rollouts=mean(point.spent.rollouts for point in points) or 0.0,
        tokens=count_tokens(timeline, number),
        sequential_tokens=mean(p.spent.sequential for p in points) if run.measured else None,
        list_share=divide_by_window(mean(lists), run.window) if run.shows_list else None,
        cost=mean(point.spent.cost for point in points) if run.priced else None,
        reply_tokens=mean(slot.completion_tokens for slot in slots if slot.failure is None)
        if run.measured
        else None,
        different_answers=mean(point.different for point in points) or 0.0,
    )


def list_points(timeline: Timeline, number: int) -> list[Point]:
    """Where every chain is after a step."""
    return [chain[number] for seed in timeline.chains for chain in seed]


def mark_answers(timeline: Timeline, number: int, by_verdict: bool) -> list[list[bool]]:
    """[seed][problem] -> whether the chain answers right after a step."""
    return [
        [answered_right(chain[number].record, by_verdict) for chain in seed]
        for seed in timeline.chains
    ]


def list_credits(timeline: Timeline, number: int) -> list[list[float]]:
    """[seed][problem] -> the rolling majority's after a step."""
    return [[chain[number].vote.credit for chain in seed] for seed in timeline.chains]


def count_tokens(timeline: Timeline, number: int) -> float | None:
    tokens = mean(point.spent.total for point in list_points(timeline, number))
    return tokens if timeline.run.measured else None


def divide_by_window(tokens: float | None, window: int | None) -> float | None:
    return None if tokens is None or window is None else tokens / window


def describe(timeline: Timeline) -> RunStatistics:
    """Everything about one run alone."""
    run = timeline.run
    chains = [[point.record for point in chain] for seed in timeline.chains for chain in seed]
    rollouts = [slot for chain in chains for record in chain for slot in counted_rollouts(record)]
    tokens = sum(rollout.completion_tokens for rollout in rollouts) if run.measured else None
    turns = [
        (answered_right(a, False), answered_right(b, False))
        for chain in chains
        for a, b in pairwise(record for record in chain if asks_answer([record]))
    ]
    lists = [each for seed in run.seeds for each in run.lists[seed, run.last]]
    ends = list_points(timeline, -1)
    return RunStatistics(
        name=run.name,
        label=run.label or run.name,
        folder=str(run.folder),
        ahead=run.ahead,
        notes=run.notes,
        wording=run.wording,
        problems=len(run.problems),
        seeds=len(run.seeds),
        window=run.window,
        by_step=tuple(measure_step(timeline, number) for number in range(len(run.steps))),
        rollouts=len(rollouts),
        reply_tokens=tokens,
        reply_tokens_per_rollout=None if tokens is None else tokens / max(1, len(rollouts)),
        tokens_in_windows=divide_by_window(tokens and tokens / len(chains), run.window),
        rates=measure_rates(rollouts, run.measured),
        early_stopped=sum(r.repeats_step is not None for chain in chains for r in chain),
        list_entries=mean(each.entries for each in lists) if run.shows_list else None,
        right_to_wrong=None if run.ahead else sum(a and not b for a, b in turns),
        wrong_to_right=None if run.ahead else sum(b and not a for a, b in turns),
        several_seeds=measure_over_seeds(timeline) if len(run.seeds) > 1 else None,
        cost=sum(point.spent.cost for point in ends) if run.priced else None,
        known_score=compare_known(timeline),
        left_out=measure_later_prompts(timeline),
    )


def compare_known(timeline: Timeline) -> Agreement | None:
    """A run's first attempts (those of step 0; all where no reply changed a prompt) beside the
    model's known score; None where none is known, or step 0 asks for no answer."""
    run = timeline.run
    effort = part(run.manifest, "experiment", "reasoning_effort")
    dataset = str(part(run.manifest, "problems", "source", "dataset"))
    known = known_score(run.model, effort, dataset, len(run.problems))
    steps = len(run.steps) if run.ahead else 1
    if known is None or run.steps[0] != 0:
        return None
    attempts = [
        [
            slot.correct
            for seed in timeline.chains
            for point in seed[place][:steps]
            for slot in counted_rollouts(point.record)
            if slot.asks_answer
        ]
        for place in range(len(run.problems))
    ]
    if not all(attempts):
        return None
    means = [sum(each) / len(each) for each in attempts]
    if max(map(len, attempts)) == 1:
        interval = wilson(sum(means), len(means))
    else:  # several attempts at a problem are several looks at it, of one seed or of several
        interval = clustered(means).interval
    return Agreement(known, sum(means) / len(means), *interval)


def measure_later_prompts(timeline: Timeline) -> LaterPrompts | None:
    """Of the prompts after step 0 that were asked for; a repeated record has none of its own."""
    run, prompts, incomplete, shown, held = timeline.run, 0, 0, 0, 0
    for_answers = with_entries = 0
    if not run.measured or run.ahead:
        return None
    single = True
    for seed, chains in zip(run.seeds, timeline.chains, strict=True):
        for problem, chain in enumerate(chains):
            attempted = False
            for step, point in zip(run.steps, chain, strict=True):
                slots = counted_rollouts(point.record) if step else ()
                prompts += len(slots)
                incomplete += sum(bool(slot.left_out) for slot in slots)
                single = single and len(slots) < 2
                entries = run.lists[seed, step][problem].entries if slots else 0
                shown += entries
                asking = [slot for slot in slots if attempted and slot.asks_answer]
                attempted = attempted or any(slot.asks_answer for slot in point.record.slots)
                for_answers += len(asking)
                with_entries += bool(asking) and entries > 0
                held += entries + sum(slot.left_out.entries for slot in slots)
    if not prompts:
        return None
    if single and (held or run.shows_list):
        return LaterPrompts(prompts, incomplete, shown, held, for_answers, with_entries)
    return LaterPrompts(prompts, incomplete, None, None, for_answers, None)


def measure_rates(rollouts: Sequence[Rollout], measured: bool) -> Rates:
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
        empty=mean(rollout.empty for rollout in rollouts),
    )


def measure_over_seeds(timeline: Timeline) -> Seeds:
    """At the last step: avg@K, maj@K of the last own answers, and pass@k for k = 1, 2, 4, ... and
    K."""
    run = timeline.run
    seeds, problems = len(run.seeds), range(len(run.problems))
    last = [[find_last_asked(chain) for chain in seed] for seed in timeline.chains]
    marks = [[answered_right(each, False) for each in row] for row in last]
    average, right = make_share(marks), [sum(column) for column in zip(*marks, strict=True)]
    votes = []
    for p in problems:
        own = (ballots(row[p].slots) for row in last)
        votes.append(majority(pool(own, Sameness(run.answers, find_undecided(run, p)))))
    credit = sum(vote.credit for vote in votes)
    sizes = sorted({2**n for n in range(seeds.bit_length())} | {seeds})
    return Seeds(
        seeds,
        average.accuracy,
        average.standard_error,
        Votes(credit, len(votes), credit / len(votes), sum(vote.tied for vote in votes)),
        {k: float(np.mean([pass_at_k(seeds, count, k) for count in right])) for k in sizes},
    )


def find_last_asked(chain: Chain) -> Rollout:
    """A chain's last record that asks for an answer, or its last one."""
    records = [point.record for point in reversed(chain)]
    return next((record for record in records if asks_answer([record])), records[0])


def mean(values: Iterable[float | None]) -> float | None:
    """Of what is known, None where nothing is."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
