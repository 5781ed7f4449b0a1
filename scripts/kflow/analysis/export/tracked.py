"""Runs in an experiment tracker: a step is logged when all seeds have completed it, whether the run
is over or still going on.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kflow.analysis.chains import counted_rollouts
from kflow.analysis.run_statistics import (
    MEASURES,
    AtStep,
    build_timeline,
    measure_rates,
    measure_step,
)
from kflow.ground.streams import say
from kflow.ground.terminal import counted, first_line
from kflow.results import status
from kflow.results.recorded import flatten, part
from kflow.results.rollout import Rollout, split
from kflow.results.runs import SavedRun, read_all
from kflow.types import UserError

EVERY = 15.0  # seconds from one look at the runs to the next
SAMPLES = 3  # rollouts of a step
LONGEST = 4000  # characters of each of their texts
ODD = re.compile(r"[^\w.-]+")


def track(arguments: Sequence[str], kind: str, project: str, follow: bool) -> None:
    """Log the steps of the runs named; with `follow` those still to come too, until no run goes on.
    Raises UserError where the tracker is not installed or fails, and where there is nothing to log,
    unless it may still come."""
    if find_spec(kind) is None:
        raise UserError(f"--to {kind} needs a package that is not installed: pip install {kind}.")
    runs: list[SavedRun] = []
    logged: dict[Path, int] = {}
    going_on = True
    while going_on:
        # Asked before the files are read, so that the last look is one at a finished run.
        going_on = follow and (not runs or any(map(goes_on, runs)))
        try:
            runs = read_all(arguments, runs)
        except UserError:
            if not going_on:
                raise
        for run in runs:
            done, promised = logged.get(run.folder, 0), part(run.manifest, "settings", "num_seeds")
            lacking = isinstance(promised, int) and len(run.seeds) < promised
            if len(run.steps) > done and not (going_on and lacking):
                try:
                    log_steps(importlib.import_module(kind), kind, project, run, done)
                except (Exception, SystemExit) as error:  # whatever a tracker raises
                    reason = f"{type(error).__name__}: {first_line(Exception(error))}"
                    raise UserError(
                        f"{kind} failed ({reason}): run the same command again once it works."
                    ) from error
                logged[run.folder] = len(run.steps)
                say(f"{run.name}: {counted(len(run.steps), 'step')} logged")
        if going_on:
            time.sleep(EVERY)


def goes_on(run: SavedRun) -> bool:
    """Whether a run's program may write another step."""
    try:
        return status.read(run.folder).state == "running"
    except (OSError, ValueError):
        return not run.complete


def log_steps(tracker: Any, kind: str, project: str, run: SavedRun, done: int) -> None:
    """The steps after the first `done`, with a few rollouts of each as a table. The tracker's run
    of an earlier start of this program goes on, and runs that differ in nothing but their
    experiment are in one group."""
    import pandas

    name = run.folder.parent.name
    started = f"{run.folder}\0{run.started}"
    number = hashlib.sha256(started.encode("utf-8", "replace")).hexdigest()[:8]
    unique = f"{ODD.sub('_', name)[:80]}-{number}"
    prefix = part(run.manifest, "experiment", "prefix")
    log = tracker.init(
        project=project,
        name=unique,
        group=f"{name.removeprefix(f'{prefix}_')} {run.folder.name}"[:100],
        config=flatten({k: v for k, v in (run.manifest or {}).items() if k != "sessions"}),
        resume="allow",
        **({"id": unique} if kind == "wandb" else {}),
    )
    timeline = build_timeline(run)
    tables = list_samples(run, run.steps[done:])
    for place, step in enumerate(run.steps[done:], done):
        records = [record for seed in run.seeds for record in run.rollouts[seed, step]]
        measures = {**list_measures(measure_step(timeline, place)), **list_rates(run, records)}
        table = tracker.Table(dataframe=pandas.DataFrame(tables[step]))
        log.log({**measures, "samples": table}, step=step)
    log.finish()


def list_measures(at: AtStep) -> dict[str, float]:
    """The step's figures by name; what is not known is left out."""
    measures = {
        "accuracy": at.own and at.own.accuracy,
        "rolling_majority": at.rolling_majority and at.rolling_majority.accuracy,
        **{name: getattr(at, name) for name in MEASURES},
    }
    return {name: value for name, value in measures.items() if value is not None}


def list_rates(run: SavedRun, records: Sequence[Rollout]) -> dict[str, float]:
    """The step's rates by name: without an answer, truncated, failed, ...; a rate of nothing is
    left out."""
    rollouts = [rollout for record in records for rollout in counted_rollouts(record)]
    rates = asdict(measure_rates(rollouts, run.measured))
    early = sum(record.repeats_step is not None for record in records) / len(records)
    return {**{k: v for k, v in rates.items() if v is not None}, "early_stopped": early}


def list_samples(run: SavedRun, steps: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """By step, a few rollouts of the first seed, of other problems at each step."""
    samples: dict[int, list[dict[str, Any]]] = {step: [] for step in steps}
    total = len(run.problems)
    for _, step, place, record in run.records(steps, run.seeds[:1]):
        chosen = {(step * SAMPLES + n) % total for n in range(min(SAMPLES, total))}
        if place in chosen:
            thinking, answer = split(record)
            texts = {"prompt": record.question, "thinking": thinking, "answer": answer}
            samples[step].append(
                {
                    "step": step,
                    "problem": record.id,
                    "predicted": str(record.predicted),
                    "gold": str(record.gold),
                    "correct": record.correct,
                    "completion_tokens": record.completion_tokens,
                    **{name: shorten(text) for name, text in texts.items()},
                }
            )
    return samples


def shorten(text: str) -> str:
    """The text, or its beginning and end."""
    left, half = len(text) - LONGEST, LONGEST // 2
    return text if left <= 0 else f"{text[:half]} [{left:,} characters] {text[half + left :]}"
