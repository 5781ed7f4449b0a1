"""The process behind --track: logs a run's steps to an experiment tracker as they are written.

Its arguments are the tracker, the project and the run's folder. A line on stdin says that there may
be a new step; stdin ends with the run. On stdout there is nothing but the reason why it failed:
what a tracker prints is dropped.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import pandas

from kflow.analysis.chains import fresh
from kflow.analysis.figures import AtStep, at_step, course, rates
from kflow.analysis.page.excerpts import cut
from kflow.analysis.runs import Run, Step, answer_type, read_step, window
from kflow.ground.terminal import first_line
from kflow.results import reading
from kflow.results.find import places
from kflow.results.recorded import flatten, part
from kflow.results.replies import split
from kflow.results.rollout import Rollout

SAMPLES = 3  # rollouts of a step
LONGEST = 4000  # characters of each of their texts
LONGEST_REASON = 300
MEASURES = (
    "slots", "ever_correct", "rollouts", "tokens", "sequential_tokens", "list_share", "cost",
)  # fmt: skip
ODD = re.compile(r"[^\w.-]+")


def main() -> None:
    kind, project, folder = sys.argv[1:]
    lines, report = private(0, "rb"), private(1, "wb")
    private(2, "wb")
    os.nice(10)  # the run comes first
    try:
        tracker = importlib.import_module(kind)
        steps = Steps(Path(folder))
        run = begin(tracker, kind, project, steps)
        for _ in wakeups(lines):
            for step, metrics in steps.new():
                table = tracker.Table(dataframe=pandas.DataFrame(steps.samples(step)))
                run.log({**metrics, "samples": table}, step=step)
        run.finish()
    except BaseException as error:  # a tracker may even try to end the program
        reason = f"{type(error).__name__}: {first_line(Exception(error))}"[:LONGEST_REASON]
        report.write(reason.encode("utf-8", "replace"))
        report.flush()
        os._exit(1)  # without what the tracker does at exit, which may hang
    os._exit(0)


def private(descriptor: int, mode: str) -> Any:
    """A standard stream for this program alone; others that use it find /dev/null."""
    own = os.dup(descriptor)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, descriptor)
    os.close(nothing)
    return open(own, mode)


def wakeups(lines: Iterator[bytes]) -> Iterator[None]:
    """When to look for new steps: at the start, at each line, and at the end."""
    yield
    for _ in lines:
        yield
    yield


def begin(tracker: Any, kind: str, project: str, steps: Steps) -> Any:
    """The tracker's own run: the one of an earlier start of the program goes on, and runs that
    differ in nothing but their experiment are in one group."""
    folder, manifest = steps.folder, steps.manifest
    name = folder.parent.name
    started = part((part(manifest, "sessions") or [None])[0], "started")
    number = hashlib.sha256(f"{folder}\0{started}".encode("utf-8", "replace")).hexdigest()[:8]
    unique = f"{ODD.sub('_', name)[:80]}-{number}"
    prefix = part(manifest, "experiment", "prefix")
    return tracker.init(
        project=project,
        name=unique,
        group=f"{name.removeprefix(f'{prefix}_')} {folder.name}"[:100],
        config=flatten({k: v for k, v in manifest.items() if k != "sessions"}),
        resume="allow",
        **({"id": unique} if kind == "wandb" else {}),
    )


@dataclass
class Steps:
    """A run's steps that every seed has, as far as they have been read. logged: how many."""

    folder: Path
    manifest: dict[str, Any] = field(init=False)
    read: dict[tuple[int, int], Step] = field(default_factory=dict)
    files: dict[tuple[int, int], Path] = field(default_factory=dict)
    logged: int = 0

    def __post_init__(self) -> None:
        self.manifest = reading.manifest(self.folder / "run.json")

    @property
    def seeds(self) -> tuple[int, ...]:
        number = part(self.manifest, "settings", "num_seeds")
        return tuple(range(number if isinstance(number, int) else 1))

    def new(self) -> Iterator[tuple[int, dict[str, float]]]:
        """The steps that are complete since the last call, with what is logged of each."""
        folders = places(self.folder, [])
        self.files = {(s, t): path for s in folders for t, path in folders[s].predictions.items()}
        complete = len(
            list(takewhile(lambda t: all((s, t) in self.files for s in self.seeds), count()))
        )
        if complete == self.logged:
            return
        answers = answer_type(self.folder, self.manifest)
        for step in range(self.logged, complete):
            for seed in self.seeds:
                self.read[seed, step] = read_step(self.files[seed, step], answers)
        whole = course(self.run(complete))
        for step in range(self.logged, complete):
            records = [r for seed in self.seeds for r in self.read[seed, step].rollouts]
            self.logged = step + 1
            yield step, {**measures(at_step(whole, step)), **shares(records)}

    def run(self, steps: int) -> Run:
        """The first steps as what compare_results.py reads."""
        first = self.read[0, 0]
        return Run(
            self.folder.name,
            self.folder,
            self.seeds,
            first.identity.problems,
            first.identity.golds,
            True,
            answer_type(self.folder, self.manifest),
            tuple(range(steps)),
            self.files,
            {at: step.rollouts for at, step in self.read.items()},
            {at: step.lists for at, step in self.read.items()},
            first.identity.measured,
            window(self.folder, self.manifest),
            self.manifest,
            (),
        )

    def samples(self, step: int) -> list[dict[str, Any]]:
        """A few rollouts of the first seed, of other problems at each step."""
        problems = len(self.read[0, step].rollouts)
        chosen = {(step * SAMPLES + n) % problems for n in range(SAMPLES)}
        records = enumerate(reading.records(self.files[0, step]))
        return [sample(record, step) for number, record in records if number in chosen]


def measures(at: AtStep) -> dict[str, float]:
    """compare_results.py's figures of one step, by its names; what is not on record is left out."""
    figures = {
        "accuracy": at.own and at.own.accuracy,
        "rolling_majority": at.rolling_majority.accuracy,
        **{name: getattr(at, name) for name in MEASURES},
    }
    return {name: value for name, value in figures.items() if value is not None}


def shares(records: list[Rollout]) -> dict[str, float]:
    """The step's rates, by their names: without an answer, truncated, failed, ...; a rate of
    nothing is left out."""
    rollouts = [rollout for record in records for rollout in fresh(record)]
    known = {k: v for k, v in asdict(rates(rollouts, measured=True)).items() if v is not None}
    early = sum(record.repeats_step is not None for record in records) / len(records)
    return {**known, "early_stopped": early}


def sample(record: Rollout, step: int) -> dict[str, Any]:
    thinking, answer = split(record)
    texts = {"prompt": record.question, "thinking": thinking, "answer": answer}
    return {
        "step": step,
        "problem": record.id,
        "predicted": str(record.predicted),
        "gold": str(record.gold),
        "correct": record.correct,
        "completion_tokens": record.completion_tokens,
        **{name: shortened(text) for name, text in texts.items()},
    }


def shortened(text: str) -> str:
    """The text, or its beginning and end."""
    parts = cut(text, LONGEST)
    return parts if isinstance(parts, str) else f"{parts[0]} [{parts[1]:,} characters] {parts[2]}"


if __name__ == "__main__":
    main()
