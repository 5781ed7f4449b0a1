"""What one entry script varies, and the way from its flags to its files.

Exit codes: 0 done, 1 the engine or the disk failed (the same command continues), 2 a mistake the
user can mend, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from . import flags, flow, problems, prompts, provenance
from .chain import Chain, restore
from .families.family import Family
from .launch import Started, launch, shown
from .progress import Progress
from .rollout import Plan
from .sentences import TokenMeasure
from .store import Store
from .terminal import printable
from .types import Chat, Engine, Method, Record, RunEnded, Template, UserError


@dataclass(frozen=True)
class Experiment:
    """One entry script: a family and a method worked on a data set, and the name of its results.

    description: the script's docstring, shown by --help. prefix: of the results folder's name.
    """

    description: str | None
    family: Family
    method: Method
    dataset: str
    prefix: str


MakeEngine = Callable[[Mapping[str, object], Mapping[str, object], Chat], Engine]


SIGTERM_PATIENCE = 4.0  # seconds


class Terminated(BaseException):
    """SIGTERM arrived."""


def main(
    experiment: Experiment, argv: list[str] | None = None, make_engine: MakeEngine | None = None
) -> None:
    """Run an experiment from its flags and end the program with one of the codes above.

    make_engine: (engine arguments, sampling, chat) -> Engine, instead of the one flags ask for.
    """
    from .dry_run import dry_run

    family = experiment.family
    options = flags.parse(
        experiment.description, family.model, family.max_new_tokens, experiment.dataset, argv
    )
    signal.signal(signal.SIGTERM, on_sigterm)
    signal.signal(signal.SIGINT, on_sigint)
    continues = "the same command continues from what is on disk."
    try:
        if options.dry_run:
            dry_run(experiment, options)
        else:
            work(experiment, options, make_engine)
        code = 0
    except UserError as error:
        code = fail(2, str(error))
    except RunEnded as error:
        code = fail(1, f"{error}; {continues}")
    except OSError as error:
        code = fail(1, f"Could not write the results ({error}); {continues}")
    except KeyboardInterrupt:
        code = fail(130, f"Interrupted; {continues}")
    except Terminated:
        code = fail(143, f"Terminated; {continues}")
    sys.exit(code)


def on_sigterm(signal_number: int, frame: object) -> None:
    """End the run; what is finished is on disk, so an engine slow to close is not waited for."""
    patience = threading.Timer(SIGTERM_PATIENCE, os._exit, [143])
    patience.daemon = True
    patience.start()
    raise Terminated


def on_sigint(signal_number: int, frame: object) -> None:
    """The first Ctrl-C ends the run in good order, a second one at once."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    raise KeyboardInterrupt


def say(line: str) -> None:
    print(printable(line))


def fail(code: int, sentence: str) -> int:
    print(printable(sentence), file=sys.stderr)
    return code


def work(
    experiment: Experiment, options: argparse.Namespace, make_engine: MakeEngine | None
) -> None:
    """The run itself: check everything that can be checked, start the engine, work the chains."""
    method, family = experiment.method, experiment.family
    templates = load_prompts(experiment, options)
    data = problems.load(options.dataset, options.split, options.limit)
    model = provenance.model(options.model_name)
    chat = family.chat(options.model_name, options.trust_remote_code)
    shared = sampling(options, chat)
    wanted = launch(family, options, shared)
    plan = Plan(
        method,
        templates,
        chat,
        TokenMeasure(options.max_new_tokens, chat.count),
        options.reflex_size,
        options.seed,
        options.force_sections,
        options.stop_when_stable,
    )
    settings: Record = {
        "experiment": {"prefix": experiment.prefix, **provenance.describe(method)},
        "model": model,
        "problems": {"number": len(data.problems), "hash": data.hash},
        "prompts": provenance.hashes(templates),
        "sampling": shared,
        "max_new_tokens": options.max_new_tokens,
        "seed": options.seed,
        "several_seeds": options.num_seeds > 1,
        "force_sections": options.force_sections,
        "stop_when_stable": options.stop_when_stable,
        "engine": wanted.settings,
    }
    session: Record = {
        **provenance.session(),
        "flags": shown(options),
        "data": data.source,
        "engine_arguments": wanted.arguments,
    }
    ids = [problem.id for problem in data.problems]
    with closing(Store(results_folder(experiment, options), ids, options.num_seeds)) as store:
        store.check(None if options.overwrite else settings)

        def chains() -> list[Chain]:
            seeds = range(options.num_seeds)
            return [c for seed in seeds for c in restore(plan, data.problems, store, seed)]

        waiting = [] if options.overwrite else chains()
        if waiting and all(chain.step == plan.steps for chain in waiting):
            say(f"{store.folder} is complete: {plan.steps} steps of {len(waiting)} chains.")
            say(f"Results: {store.folder}")
            return
        if make_engine is None:
            started = wanted.start(chat)
        else:
            started = Started(make_engine(wanted.arguments, shared, chat), {})
        with closing(started.engine) as engine:
            if options.overwrite:
                store.move_aside()
                waiting = chains()
            store.begin(settings, {**session, **started.session})
            with closing(Progress(waiting, plan.steps, options.max_failures)) as progress:
                barrier = options.schedule == "barrier"
                flow.run(plan, waiting, engine, store, progress.rollout, barrier)
        say(f"Results: {store.folder}")


def load_prompts(experiment: Experiment, options: argparse.Namespace) -> Mapping[str, Template]:
    folder = Path(options.prompt_dir) if options.prompt_dir else prompts.FOLDER
    return prompts.load(folder, experiment.method.prompts)


def results_folder(experiment: Experiment, options: argparse.Namespace) -> Path:
    """METHOD.md, "Output"."""
    name = f"{experiment.prefix}_{options.max_new_tokens}_{options.output_postfix}"
    return Path(options.results_dir) / name / provenance.last_part(options.model_name)


def sampling(options: argparse.Namespace, chat: Chat | None) -> dict[str, object]:
    """What every request is sent with besides its own seed and budget."""
    shared = {
        name: value
        for name in ("temperature", "top_p", "top_k")
        if (value := getattr(options, name)) is not None
    }
    if chat is not None and chat.stop_token_ids:
        shared["stop_token_ids"] = list(chat.stop_token_ids)
    return shared
