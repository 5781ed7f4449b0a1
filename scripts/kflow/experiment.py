"""What one entry script varies, and the way from its settings to its files.

Exit codes: 0 done, 1 the engine or the disk failed (running the same command again resumes),
2 a mistake the user can correct, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from . import flow, manifest, preflight, problems, prompts, provenance, signals
from .chain import Chain, restore
from .families.family import Family
from .launch import Started, launch
from .manifest import EngineRecord, ExperimentRecord, Manifest, ProblemsRecord
from .method import Method
from .policy import Policy, recorded_failures
from .preflight import Prepared
from .progress import Progress
from .settings import Settings, from_flags, resolved
from .store import Store
from .terminal import brief, say
from .types import Chat, Engine, RunEnded, UserError

T = TypeVar("T")

MakeEngine = Callable[[Mapping[str, object], Mapping[str, object], Chat], Engine]
RESUME = "Run the same command again to resume."
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
    settings, method = from_flags(
        argv, experiment.description, experiment.method, experiment.defaults
    )
    experiment = replace(experiment, method=method)
    signals.install()
    try:
        if settings.dry_run:
            dry_run(experiment, settings)
        else:
            run(experiment, settings, make_engine)
        code = 0
    except UserError as error:
        code = fail(2, str(error))
    except RunEnded as error:
        code = fail(1, f"{str(error).rstrip('.')}. {RESUME}")
    except OSError as error:
        code = fail(1, f"Cannot use {error.filename or 'a file'} ({error.strerror or error}).")
    except KeyboardInterrupt:
        code = fail(signals.INTERRUPTED, f"Interrupted. {RESUME}")
    except signals.Terminated:
        code = fail(signals.TERMINATED, f"Terminated. {RESUME}")
    sys.exit(code)


def fail(code: int, sentence: str) -> int:
    try:
        print(brief(sentence), file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return code


def run(experiment: Experiment, settings: Settings, make_engine: MakeEngine | None = None) -> Path:
    """Work an experiment and return the folder of its results; installs no signal handlers and
    never ends the process.

    make_engine: (engine arguments, sampling, chat) -> Engine, instead of the one the settings ask
    for. Raises UserError for a mistake, RunEnded where the run cannot go on for now.
    """
    settings = resolved(settings, experiment.defaults)
    folder = results_folder(experiment, settings)
    try:
        return work(experiment, settings, folder, make_engine)
    except OSError as error:
        what = f"Cannot use {error.filename or folder} ({error.strerror or error})"
        if error.errno in WRONG_PLACE and not os.path.exists(folder / "run.json"):
            raise UserError(f"{what}: give another --results_dir or --output_postfix.") from error
        raise RunEnded(what) from error


def dry_run(experiment: Experiment, settings: Settings) -> None:
    """Print what a run would record and ask, with no engine and no need of a network."""
    settings = resolved(settings, experiment.defaults)
    missing: list[str] = []

    def attempt(get: Callable[[], T]) -> T | None:
        try:
            return get()
        except UserError as error:
            missing.append(str(error))
            return None

    prepared = prepare(experiment, settings, None, attempt)
    preflight.dry_run(replace(prepared, missing=tuple(missing)))


def results_folder(experiment: Experiment, settings: Settings) -> Path:
    """METHOD.md, "Output"."""
    name = f"{experiment.prefix}_{settings.max_new_tokens}_{settings.output_postfix}"
    return Path(settings.results_dir) / name / provenance.last_part(settings.model_name)


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
    fields = provenance.method_fields(method)
    prompt_folder = Path(settings.prompt_dir or method.prompt_folder)
    templates = prompts.load(prompt_folder, method.prompts)
    data = attempt(lambda: problems.load(settings.dataset, settings.split, settings.limit))
    recorded = before.model if before else None
    model = attempt(lambda: provenance.model(settings.model_name, recorded))
    name, chat = provenance.split(settings.model_name)[0], None
    if model is not None or settings.model_name == family.model:
        revision = model.revision if model else None
        chat = attempt(lambda: family.chat(name, settings.trust_remote_code, revision))
    sampling = settings.sampling(chat.stop_token_ids if chat else ())
    engine = launch(family, settings, model, sampling)
    record = Manifest(
        experiment=ExperimentRecord(
            experiment.prefix,
            family.name,
            family.reasoning_effort,
            provenance.qualified(type(method)),
            fields,
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
        family=family.name,
        templates=dict(templates),
        data=data,
        chat=chat,
        sampling=sampling,
        launch=engine,
        manifest=record,
    )


def work(
    experiment: Experiment, settings: Settings, folder: Path, make_engine: MakeEngine | None
) -> Path:
    """Check everything that can be checked, start the engine, work the chains."""
    before = None if settings.overwrite else recorded(folder)
    prepared = prepare(experiment, settings, before)
    data, chat = prepared.data, prepared.chat
    assert data is not None
    assert chat is not None
    plan = prepared.plan(data, chat)
    ids = [problem.id for problem in data.problems]
    with closing(Store(folder, ids, settings.num_seeds)) as store:
        store.lock()

        def chains() -> list[Chain]:
            return restore(plan, data.problems, store, settings.num_seeds)

        waiting: list[Chain] = []
        if not settings.overwrite:
            store.check_begun()
            if before:
                manifest.check(before, prepared.manifest, folder)
            waiting = chains()
            if before and all(chain.done for chain in waiting):
                return complete(store, settings)
            preflight.check_fit(waiting)
        store.check_writable()
        if make_engine is None:
            started = prepared.launch.start(chat)
        else:
            engine = make_engine(prepared.launch.arguments, prepared.sampling, chat)
            started = Started(engine, {})
        with closing(started.engine):
            if settings.overwrite:
                store.move_aside()
                waiting = chains()
                preflight.check_fit(waiting)
            begin(store, prepared.manifest, started)
            watched(store, settings, waiting, started.engine)
    say(f"Results: {folder}")
    return folder


def recorded(folder: Path) -> Manifest | None:
    """What run.json says of a run that has begun, None where none has."""
    if not os.path.exists(folder / "run.json"):
        return None
    saved = Store(folder, []).run()
    return None if saved is None else manifest.read(saved, folder)


def begin(store: Store, record: Manifest, started: Started) -> None:
    """Note this start of the program in run.json."""
    session = manifest.session(started.described, record.engine.arguments)

    def written(saved: dict[str, Any] | None) -> dict[str, Any]:
        sessions = [session]
        if saved is not None:
            before = manifest.read(saved, store.folder)
            # Again: another run may have begun and ended here since the first look.
            manifest.check(before, record, store.folder)
            sessions = [*before.sessions, session]
        return dict(manifest.plain(replace(record, sessions=sessions)))

    store.begin(written)


def watched(store: Store, settings: Settings, chains: Sequence[Chain], engine: Engine) -> None:
    """Run the loop under the failure policy, with its progress shown and kept in status.json."""
    steps = settings.reflex_size * len(chains)
    done = sum(chain.state.step for chain in chains)
    in_flight = getattr(engine, "progress", None)
    with closing(Progress(steps, done, in_flight, settings.num_seeds > 1)) as progress:
        policy = Policy(chains, store.folder, progress, settings.max_failures)
        try:
            flow.run(chains, engine, policy, settings.schedule == "barrier")
            policy.check_end()
            if recorded_failures(store, settings.num_seeds, settings.reflex_size).all:
                raise RunEnded("Every rollout of this run failed")
        except BaseException as error:
            policy.ended(error)
            raise
        policy.ended(None)


def complete(store: Store, settings: Settings) -> Path:
    """Say that nothing is left to do. Raises RunEnded where nothing came of it."""
    failures = recorded_failures(store, settings.num_seeds, settings.reflex_size)
    chains = f"{settings.reflex_size} steps, {settings.num_seeds} seeds"
    if failures.all:
        raise RunEnded(
            f"{store.folder} is complete ({chains}), and every rollout failed: see the failure "
            "fields of its records; --overwrite starts anew"
        )
    failed = f"; {failures.number} rollouts failed for good" if failures.number else ""
    say(f"{store.folder} is complete: {chains}{failed}.")
    say(f"Results: {store.folder}")
    return store.folder
