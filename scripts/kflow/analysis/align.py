"""The runs of a comparison: the baseline first, on the same problems in the same order, and what
they have in common. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kflow.ground.terminal import counted
from kflow.results.recorded import part
from kflow.results.runs import SavedRun
from kflow.types import Answer, UserError


def put_first(runs: Sequence[SavedRun], baseline: SavedRun | None = None) -> list[SavedRun]:
    """baseline: one of the runs; by default the first that is parallel thinking, else the first."""
    first = baseline or next((run for run in runs if run.ahead), runs[0])
    return [first, *(run for run in runs if run is not first)]


def list_common(runs: Sequence[SavedRun]) -> list[str]:
    """What the runs have in common: model, data, problems, seeds, window, prompts."""
    every = [
        [
            run.folder.name,
            "/".join(str(part(run.manifest, "settings", "dataset") or "").split("/")[-2:]),
            counted(len(run.problems), "problem"),
            counted(len(run.seeds), "seed") if len(run.seeds) > 1 else "",
            f"window {run.window:,}" if run.window else "",
            run.wording or "",
        ]
        for run in runs
    ]
    *facts, wordings = zip(*every, strict=True)
    if len(set(wordings)) > 1:
        wordings = tuple(wording.partition(" (")[0] for wording in wordings)  # without their hash
    return [each[0] for each in (*facts, wordings) if each[0] and len(set(each)) == 1]


def align(runs: Sequence[SavedRun], common: bool) -> list[SavedRun]:
    """The runs on the same problems in the same order.

    Problems are matched by id where all runs have ids of their own, else by position. common:
    only those that every run has, with the same gold answer. Raises UserError naming the first
    difference where the runs differ without it, where nothing is left with it, and where their
    answers are of different types.
    """
    for run in runs:
        if run.answers.name != runs[0].answers.name:
            raise UserError(
                f"{runs[0].name} and {run.name} cannot be compared: their answers are of the types "
                f"{runs[0].answers.name} and {run.answers.name}; give runs of the same data."
            )
    if not all(run.own_ids for run in runs):
        runs = [
            replace(run, own_ids=False, problems=tuple(map(str, range(len(run.problems)))))
            for run in runs
        ]
    golds = [dict(zip(run.problems, run.golds, strict=True)) for run in runs]
    for run, own in zip(runs, golds, strict=True):
        difference = None if common else find_difference(runs[0].name, golds[0], run.name, own)
        if difference:
            raise UserError(
                f"{runs[0].name} and {run.name} cannot be compared: {difference}; give runs of the "
                "same problems, or --common to compare on those that all have."
            )
    shared = [p for p in runs[0].problems if all(own.get(p) == golds[0][p] for own in golds)]
    if not shared:
        raise UserError("The runs have no problem with the same gold answer in common.")
    return [run.only([run.problems.index(problem) for problem in shared]) for run in runs]


def find_difference(
    one: str, golds: dict[str, Answer], other: str, others: dict[str, Answer]
) -> str | None:
    """The first problem that only one of two runs has, or whose gold answers differ."""
    for problem, gold in golds.items():
        if problem not in others:
            return f"{one} has problem {problem}, {other} does not"
        if gold != others[problem]:
            different = f"{gold} in {one}, {others[problem]} in {other}"
            return f"the gold answer of problem {problem} is {different}"
    extra = next((problem for problem in others if problem not in golds), None)
    return None if extra is None else f"{other} has problem {extra}, {one} does not"
