"""Runs small enough to count by hand, read back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helpers.results_on_disk import ours, wide, write_manifest, write_run, write_step
from kflow.analysis.run_statistics import RunStatistics, build_timeline, describe
from kflow.results.runs import SavedRun, read

GOLDS = [1, 2, 3, 4]
Steps = Sequence[Sequence[int | None]]


def run_of(folder: Path, *seeds: Steps, golds: Sequence[int] = GOLDS) -> SavedRun:
    """A run from [seed][step][problem] answers."""
    if len(seeds) == 1:
        write_run(folder, seeds[0], golds)
    else:
        for seed, steps in enumerate(seeds):
            write_run(folder / f"seed_{seed}", steps, golds)
    return read(folder, folder.name)


def parallel(folder: Path, steps: Steps, golds: Sequence[int]) -> SavedRun:
    """Attempts that do not depend on each other, by other sampling seeds than a chain's. Verdicts
    are the majority so far, ties to the first."""
    for number, answers in enumerate(steps):
        rows = []
        for problem, (answer, gold) in enumerate(zip(answers, golds, strict=True)):
            so_far = [step[problem] for step in steps[: number + 1] if step[problem] is not None]
            verdict = max(so_far, key=so_far.count, default=None)
            voted = {"verdict": verdict, "verdict_correct": verdict == gold}
            rows.append(ours(problem, gold, answer, sampling_seed=50 + number, **voted))
        write_step(folder, number, rows)
    write_manifest(folder, {}, experiment={"prefix": "vllm_parallel", "ahead": True})
    return read(folder, folder.name)


def thinking(folder: Path) -> SavedRun:
    """Strategies, two solutions, a reflection: one problem that it answers right, one that not."""
    ask = {"asks_answer": False}
    slots = [[ours(0, 1, 1), ours(0, 1, 5)], [ours(1, 2, 7), ours(1, 2, 7)]]
    write_step(folder, 0, [ours(0, 1, None, **ask), ours(1, 2, None, **ask)])
    write_step(folder, 1, [wide(slots[0], 5), wide(slots[1], 7)])
    reflected = [ours(0, 1, None, verdict=1, verdict_correct=True, **ask)]
    write_step(folder, 2, [*reflected, ours(1, 2, None, verdict=7, **ask)])
    return read(folder, "trt")


def figures(run: SavedRun) -> RunStatistics:
    return describe(build_timeline(run))
