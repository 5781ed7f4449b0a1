"""What is said of runs: each by itself, and each against a baseline. Pure: runs in, values that
JSON can hold out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ..types import Record, UserError
from .runs import Rollout, Run
from .statistics import (
    LEVEL,
    Interval,
    Vote,
    clustered,
    fewest_to_tell,
    majority,
    mcnemar,
    newcombe,
    pass_at_k,
    permutation,
    t_interval,
    wilson,
)


def align(runs: Sequence[Run], common: bool) -> list[Run]:
    """The runs on the same problems in the same order.

    Problems are matched by id where all runs have ids of their own, else by position. common:
    only those that every run has, with the same gold answer. Raises UserError naming the first
    difference where the runs differ without it, and where nothing is left with it.
    """
    if not all(run.own_ids for run in runs):
        runs = [replace(r, problems=tuple(map(str, range(len(r.problems))))) for r in runs]
    golds = [dict(zip(run.problems, run.golds, strict=True)) for run in runs]
    for run, own in zip(runs, golds, strict=True):
        told = None if common else unlike(runs[0].name, golds[0], run.name, own)
        if told:
            raise UserError(
                f"{runs[0].name} and {run.name} cannot be compared: {told}; give runs of the same "
                "problems, or --common to compare on those that all have."
            )
    shared = [p for p in runs[0].problems if all(own.get(p) == golds[0][p] for own in golds)]
    if not shared:
        raise UserError("The runs have no problem with the same gold answer in common.")
    return [run.only([run.problems.index(problem) for problem in shared]) for run in runs]


def unlike(one: str, golds: dict[str, str], other: str, others: dict[str, str]) -> str | None:
    """The first problem that only one of two runs has, or whose gold answers differ."""
    for problem, gold in golds.items():
        if problem not in others:
            return f"{one} has problem {problem}, {other} has not"
        if gold != others[problem]:
            different = f"{gold} in {one}, {others[problem]} in {other}"
            return f"the gold answer of problem {problem} is {different}"
    extra = next((problem for problem in others if problem not in golds), None)
    return None if extra is None else f"{other} has problem {extra}, {one} has not"


def chains(run: Run) -> list[list[list[Rollout]]]:
    """[seed][problem][step], over the steps that every seed has."""
    return [
        [[run.rollouts[seed, t][p] for t in run.steps] for p in range(len(run.problems))]
        for seed in run.seeds
    ]


def right(run: Run, step: int) -> list[int]:
    """Per problem: how many seeds are right at a step."""
    rows = [run.rollouts[seed, step] for seed in run.seeds]
    return [sum(row[p].correct for row in rows) for p in range(len(run.problems))]


def accuracy(run: Run, step: int) -> Record:
    """right of total rollouts; the interval is Wilson's for one seed, and clustered by problem for
    several, where `standard_error` is given too."""
    seeds = len(run.seeds)
    per_problem = right(run, step)
    total = seeds * len(per_problem)
    counted: Record = {
        "step": step,
        "right": sum(per_problem),
        "total": total,
        "accuracy": sum(per_problem) / total,
    }
    if seeds == 1:
        return {**counted, **ends(wilson(sum(per_problem), total))}
    mean = clustered([count / seeds for count in per_problem])
    error = None if math.isnan(mean.error) else mean.error
    return {**counted, **ends(mean.interval), "standard_error": error}


def ends(interval: Interval) -> Record:
    """An interval for JSON, which has no infinity."""
    low, high = (None if math.isinf(end) else end for end in interval)
    return {"low": low, "high": high}


def describe(run: Run) -> Record:
    """Everything that is said of one run alone."""
    by_step = [accuracy(run, step) for step in run.steps]
    every = chains(run)
    flat = [chain for seed in every for chain in seed]
    made = [rollout for chain in flat for rollout in chain if not rollout.carried]
    votes = [
        majority([rollout.predicted for rollout in chain], gold)
        for seed in every
        for chain, gold in zip(seed, run.golds, strict=True)
    ]
    tokens = total([rollout.completion_tokens for rollout in made])
    turns = [(a.correct, b.correct) for chain in flat for a, b in pairwise(chain)]
    last = [chain[-1] for chain in flat]
    return {
        "name": run.name,
        "folder": str(run.folder),
        "notes": list(run.notes),
        "steps": len(run.steps),
        "problems": len(run.problems),
        "seeds": len(run.seeds),
        "accuracy": by_step,
        "best": max(by_step, key=lambda step: step["accuracy"]),  # type: ignore[arg-type, return-value]
        "majority_over_steps": voted(votes),
        "ever_correct": sum(any(r.correct for r in chain) for chain in flat) / len(flat),
        "completion_tokens": tokens,
        "completion_tokens_per_rollout": None if tokens is None else tokens / len(made),
        "chain_tokens_to_window": (
            None if tokens is None or run.window is None else tokens / len(flat) / run.window
        ),
        "window": run.window,
        "rates": {
            "no_answer": rate([rollout.no_answer for rollout in made]),
            "cut_off": rate([rollout.cut_off for rollout in made]),
            "unparsed": rate([rollout.unparsed for rollout in made]),
            "failed": rate([rollout.failed for rollout in made]),
        },
        "carried": sum(rollout.carried for chain in flat for rollout in chain),
        "knowledge_entries": mean([rollout.entries for rollout in last]),
        "knowledge_characters": mean([rollout.characters for rollout in last]),
        "right_to_wrong": sum(a and not b for a, b in turns),
        "wrong_to_right": sum(b and not a for a, b in turns),
        "several_seeds": over_seeds(run) if len(run.seeds) > 1 else None,
    }


def over_seeds(run: Run) -> Record:
    """At the last step: avg@K, maj@K, and pass@k for k = 1, 2, 4, ... and K."""
    seeds, per_problem = len(run.seeds), right(run, run.last)
    votes = [
        majority([run.rollouts[seed, run.last][p].predicted for seed in run.seeds], gold)
        for p, gold in enumerate(run.golds)
    ]
    sizes = sorted({2**n for n in range(seeds.bit_length())} | {seeds})
    chances = {k: np.mean([pass_at_k(seeds, count, k) for count in per_problem]) for k in sizes}
    return {
        "k": seeds,
        "average": sum(per_problem) / seeds / len(per_problem),
        "majority": voted(votes),
        "pass": {str(k): float(chance) for k, chance in chances.items()},
    }


def voted(votes: Sequence[Vote]) -> Record:
    credit = sum(vote.credit for vote in votes)
    return {
        "right": credit,
        "total": len(votes),
        "accuracy": credit / len(votes),
        "ties": sum(vote.tied for vote in votes),
    }


def total(values: Iterable[int | None]) -> int | None:
    """The sum, None where nothing is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def mean(values: Iterable[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def rate(values: Iterable[bool | None]) -> float | None:
    """The share of True among what is known."""
    return mean(None if value is None else int(value) for value in values)


def versus(run: Run, baseline: Run, step: int | None = None) -> Record:
    """A run against a baseline on the same problems (see `align`), paired problem by problem, at
    one step of both: the last they share unless given.

    Raises UserError where they share no step, or not the one given.
    """
    both = sorted(set(run.steps) & set(baseline.steps))
    if not both or (step is not None and step not in both):
        raise UserError(
            f"{run.name} and {baseline.name} have not both completed "
            + (f"step {step}" if step is not None else "any one step")
            + f": they have {spelt(run.steps)} and {spelt(baseline.steps)}."
        )
    at = both[-1] if step is None else step
    counts, others = right(run, at), right(baseline, at)
    shares = [count / len(run.seeds) for count in counts]
    before = [count / len(baseline.seeds) for count in others]
    differences = [now - then for now, then in zip(shares, before, strict=True)]
    if len(run.seeds) == len(baseline.seeds) == 1:
        table = list(zip(others, counts, strict=True))
        lost, gained = table.count((1, 0)), table.count((0, 1))
        interval = newcombe(table.count((1, 1)), lost, gained, table.count((0, 0)))
        test, p = "McNemar, exact", mcnemar(lost, gained)
    else:
        interval = t_interval(np.array(differences))
        test, p = "permutation of the runs within problems", permutation(differences)
    moved = [
        {
            "problem": problem,
            "baseline": f"{then}/{len(baseline.seeds)}",
            "run": f"{now}/{len(run.seeds)}",
            "better": difference > 0,
        }
        for problem, then, now, difference in zip(
            run.problems, others, counts, differences, strict=True
        )
        if difference
    ]
    return {
        "run": run.name,
        "baseline": baseline.name,
        "step": at,
        "difference": float(np.mean(differences)),
        **ends(interval),
        "test": test,
        "p": p,
        "flipped": moved,
        "verdict": verdict(len(differences), len(moved), p),
    }


def verdict(problems: int, differing: int, p: float) -> str:
    """What the test can and cannot say, in words."""
    if not differing:
        return f"the runs do not differ on any of {problems} problems"
    if differing < fewest_to_tell():
        return (
            f"too few to tell: the runs differ on {differing} of {problems} problems, and even "
            f"all one way it takes {fewest_to_tell()} for p < {LEVEL}"
        )
    told = "a difference" if p < LEVEL else "no difference that these problems can show"
    return f"{told}: the runs differ on {differing} of {problems} problems"


def spelt(steps: Sequence[int]) -> str:
    """Steps as a reader names them: `steps 0 to 7`, or a list where some lack."""
    whole = list(steps) == list(range(steps[0], steps[-1] + 1))
    return f"steps {steps[0]} to {steps[-1]}" if whole else f"steps {', '.join(map(str, steps))}"
