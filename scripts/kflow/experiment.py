"""What one entry script varies, and the way from its settings to its files.

Exit codes: 0 done, 1 the engine or the disk failed (running the same command again resumes) or too
many rollouts did, 2 a mistake the user can correct, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from kflow.ground import signals
from kflow.running import plan, preflight, work
from kflow.running.checks import Check
from kflow.running.run import Experiment, Run, prepare
from kflow.running.settings import Settings, from_flags
from kflow.running.work import MakeEngine
from kflow.types import RunEnded, UserError

__all__ = ["Experiment", "dry_run", "main", "parse_flags", "run", "run_together"]

# What a file system answers where the user named the wrong place.
WRONG_PLACE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG,
}  # fmt: skip


def main(
    experiment: Experiment, argv: list[str] | None = None, make_engine: MakeEngine | None = None
) -> None:
    """Run an experiment from its flags and end the program with one of the codes above."""

    def work() -> None:
        asked, settings = parse_flags(experiment, argv)
        if settings.dry_run:
            dry_run(asked, settings)
        else:
            run(asked, settings, make_engine)

    signals.end(work)


def parse_flags(experiment: Experiment, argv: Sequence[str] | None) -> tuple[Experiment, Settings]:
    """What a command line asks for: the experiment with the flags of its method and its family put
    in, and the settings. Ends the program for --help and for a mistake."""
    owners = {"the method": experiment.method, "the family": experiment.family}
    settings, (method, family) = from_flags(
        argv, experiment.description, owners, experiment.defaults
    )
    asked = replace(experiment, method=method, family=family)
    return asked, settings.resolved(asked.defaults)


def run(experiment: Experiment, settings: Settings, make_engine: MakeEngine | None = None) -> Path:
    """Work an experiment and return the folder of its results; installs no signal handlers and
    never ends the process.

    make_engine: (engine arguments, sampling, chat) -> Engine, instead of the one the settings ask
    for. Raises UserError for a mistake, RunEnded where the run cannot go on for now, and of these
    RunFailed where too many rollouts failed for good.
    """
    (folder,) = run_together([(experiment, settings)], make_engine)
    return folder


def run_together(
    asked: Sequence[tuple[Experiment, Settings]], make_engine: MakeEngine | None = None
) -> list[Path]:
    """Work several experiments side by side in one engine, each in its own results folder, as `run`
    would alone. Raises UserError where they do not ask for the same engine."""
    runs: list[Run] = []
    with naming_files(runs), ExitStack() as opened:
        for experiment, settings in asked:
            runs.append(run := prepare(experiment, settings))
            opened.enter_context(closing(run)).open()
        waiting = [run for run in runs if not run.complete]
        if waiting:
            if len(waiting) > 1:
                in_flight = sum(run.in_flight for run in waiting)
                for run in waiting:
                    run.resize(in_flight)
            preflight.check(waiting, given_engine=make_engine is not None)
            engine, description = work.start(waiting, make_engine)
            with closing(engine):
                for run in waiting:
                    run.described = description
                plan.say_cost(runs, waiting)
                description = work.look_at(engine, description, waiting)
                for run in waiting:
                    run.begin(description)
                others = sum(run.find_cost() or 0.0 for run in runs if run.complete)
                work.run_loop(waiting, engine, others)
        for run in runs:
            work.report(run, worked=run in waiting)
    return [run.folder for run in runs]


@contextmanager
def naming_files(runs: Sequence[Run]) -> Iterator[None]:
    """Says of a file that cannot be used whether the user named the wrong place."""
    try:
        yield
    except OSError as error:
        what = f"Cannot use {error.filename or runs[0].folder} ({error.strerror or error})"
        begun = any(os.path.exists(run.folder / "run.json") for run in runs)
        if error.errno in WRONG_PLACE and not begun:
            raise UserError(f"{what}: give another --results_dir or --output_postfix.") from error
        raise RunEnded(what) from error


def dry_run(experiment: Experiment, settings: Settings) -> None:
    """Print what a run would record and ask, and the preflight's checks, with no engine and no need
    of a network or a GPU. Raises UserError for what is wrong on any machine."""
    missing: list[Check] = []
    run = prepare(experiment, settings, missing)
    preflight.dry_run(run, missing)
