"""What one entry script varies, and the way from its settings to its files.

Exit codes: 0 done, 1 the engine or the disk failed (running the same command again resumes) or too
many rollouts did, 2 a mistake the user can correct, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kflow import flags
from kflow.families import messages
from kflow.families.family import Family
from kflow.ground import hub, program
from kflow.loop import prompts
from kflow.method import Method
from kflow.problems import problems
from kflow.results.manifest import EngineRecord, ExperimentRecord, Manifest, Model, ProblemsRecord
from kflow.running import preflight, provenance, tracking, work
from kflow.running.checks import Check
from kflow.running.launch import launch
from kflow.running.preflight import Prepared
from kflow.running.settings import Settings, from_flags, resolved
from kflow.running.work import MakeEngine
from kflow.types import RunEnded, UserError

# What a file system answers where the user named the wrong place.
WRONG_PLACE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG,
}  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """One entry script: a family and a method worked on a data set, and the name of its results.

    description: the script's docstring, shown by --help. prefix: of the results folder's name.
    reflex_size: steps per chain where --reflex_size does not say.
    """

    description: str | None
    family: Family
    method: Method[Any, Any]
    dataset: str
    prefix: str
    reflex_size: int = 64

    @property
    def defaults(self) -> dict[str, object]:
        return {
            "model_name": self.family.model,
            "max_new_tokens": self.family.max_new_tokens,
            "dataset": self.dataset,
            "reflex_size": self.reflex_size,
        }


def main(
    experiment: Experiment, argv: list[str] | None = None, make_engine: MakeEngine | None = None
) -> None:
    """Run an experiment from its flags and end the program with one of the codes above."""

    def work() -> None:
        asked, settings = parsed(experiment, argv)
        if settings.dry_run:
            dry_run(asked, settings)
        else:
            run(asked, settings, make_engine)

    program.end(work)


def parsed(experiment: Experiment, argv: Sequence[str] | None) -> tuple[Experiment, Settings]:
    """What a command line asks for: the experiment with the flags of its method and its family put
    in, and the settings. Ends the program for --help and for a mistake."""
    owners = {"the method": experiment.method, "the family": experiment.family}
    settings, (method, family) = from_flags(
        argv, experiment.description, owners, experiment.defaults
    )
    return replace(experiment, method=method, family=family), settings


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
    runs: Sequence[tuple[Experiment, Settings]], make_engine: MakeEngine | None = None
) -> list[Path]:
    """Work several experiments side by side in one engine, each in its own results folder, as `run`
    would alone. Raises UserError where they do not ask for the same engine."""
    runs = [(each, resolved(settings, each.defaults)) for each, settings in runs]
    folders = [results_folder(each, settings) for each, settings in runs]
    try:
        with ExitStack() as claims:
            arms = [
                work.claim(partial(prepare, each, settings), folder, settings, claims)
                for (each, settings), folder in zip(runs, folders, strict=True)
            ]
            work.work(arms, make_engine)
    except OSError as error:
        what = f"Cannot use {error.filename or folders[0]} ({error.strerror or error})"
        begun = any(os.path.exists(folder / "run.json") for folder in folders)
        if error.errno in WRONG_PLACE and not begun:
            raise UserError(f"{what}: give another --results_dir or --output_postfix.") from error
        raise RunEnded(what) from error
    return folders


def dry_run(experiment: Experiment, settings: Settings) -> None:
    """Print what a run would record and ask, and the preflight's checks, with no engine and no need
    of a network or a GPU. Raises UserError for what is wrong on any machine."""
    settings = resolved(settings, experiment.defaults)
    missing: list[Check] = []
    prepared = prepare(experiment, settings, None, preflight.attempting(missing))
    preflight.dry_run(replace(prepared, missing=tuple(missing)))


def results_folder(experiment: Experiment, settings: Settings) -> Path:
    """METHOD.md, "Output"."""
    name = f"{experiment.prefix}_{settings.max_new_tokens}_{settings.output_postfix}"
    return Path(settings.results_dir) / name / hub.last_part(settings.model_name)


def prepare(
    experiment: Experiment,
    settings: Settings,
    before: Manifest | None,
    attempt: Callable[[Callable[[], Any]], Any] = lambda get: get(),
) -> Prepared:
    """Everything that can be known before an engine is started.

    before: what run.json says of the run that is resumed. attempt: calls what may raise UserError
    for a thing that is not here, and may give None instead.
    """
    family, method = experiment.family, experiment.method
    for owner in (method, family):
        flags.check(owner)
    if settings.stop_when_stable is not None and (method.ahead or method.widths != (1,)):
        raise UserError(
            "--stop_when_stable needs one rollout per step, each asked after the one before it: "
            f"leave it out for {experiment.prefix}."
        )
    tracking.check(settings.track)
    fields = provenance.method_fields(method)
    rule_in_fields = fields.get("rule") == provenance.described(method.rule, "The method's rule")
    prompt_folder = Path(settings.prompt_dir or method.prompt_folder)
    templates = prompts.load(prompt_folder, method.prompts)
    if settings.engine == "chat":
        preflight.check_messages(experiment.prefix, method, templates, settings.max_new_tokens)
        family = messages.in_messages(family)
    data = attempt(
        lambda: problems.load(
            settings.dataset,
            settings.split,
            settings.limit,
            settings.dataset_config,
            settings.problem_column,
            settings.answer_column,
            settings.answer_type,
        )
    )
    recorded = before.model if before else None
    name, chat = hub.split(settings.model_name)[0], None
    model = Model(name)
    if settings.engine != "chat" or os.path.isdir(name):
        model = attempt(lambda: provenance.model(settings.model_name, recorded))
    if model is not None or settings.model_name == family.model:
        revision = model.revision if model else None
        chat = attempt(lambda: family.load_chat(name, settings.trust_remote_code, revision))
    sampling = settings.sampling(chat.stop_token_ids if chat else ())
    in_flight = preflight.workload(settings, method, data).in_flight
    engine = launch(family, settings, model, sampling, in_flight)
    record = Manifest(
        experiment=ExperimentRecord(
            experiment.prefix,
            family.name,
            family.reasoning_effort,
            provenance.qualified(type(method)),
            method.ahead,
            fields,
            None if rule_in_fields else method.rule,
            provenance.family_fields(family),
        ),
        model=model,
        problems=data and ProblemsRecord(len(data.problems), data.hash, data.source),
        prompts=provenance.prompt_hashes(prompt_folder, method.prompts),
        answers=data and data.answers.name,
        sampling=sampling,
        settings=settings.record(),
        engine=EngineRecord(settings.engine, engine.arguments),
        method_code=provenance.method_code(method),
    )
    return Prepared(
        settings=settings,
        folder=results_folder(experiment, settings),
        method=method,
        family=family,
        templates=dict(templates),
        data=data,
        chat=chat,
        sampling=sampling,
        launch=engine,
        manifest=record,
    )
