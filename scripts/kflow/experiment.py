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
from functools import partial
from pathlib import Path

from . import flags, flow, problems, prompts, provenance
from .chain import Chain, restore
from .engines import vllm
from .families.family import Family
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

    make_engine: (engine arguments, sampling, chat) -> Engine, instead of vLLM's.
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
            work(experiment, options, make_engine or make_vllm)
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


def work(experiment: Experiment, options: argparse.Namespace, make_engine: MakeEngine) -> None:
    """The run itself: check everything that can be checked, start the engine, work the chains."""
    method, family = experiment.method, experiment.family
    templates = load_prompts(experiment, options)
    data = problems.load(options.dataset, options.split, options.limit)
    model = provenance.model(options.model_name)
    chat = family.chat(options.model_name, options.trust_remote_code)
    arguments = engine_arguments(family, options)
    shared = sampling(options, chat)
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
        "engine": {k: v for k, v in arguments.items() if k not in vllm.SAME_RESULTS},
    }
    session: Record = {
        **provenance.session(),
        "flags": vars(options),
        "data": data.source,
        "engine_arguments": arguments,
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
        with closing(make_engine(arguments, shared, chat)) as engine:
            if options.overwrite:
                store.move_aside()
                waiting = chains()
            store.begin(settings, session)
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


def engine_arguments(family: Family, options: argparse.Namespace) -> dict[str, object]:
    """What vLLM is started with: the family's arguments, the flags given, then --engine_args."""
    names = (
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "gpu_memory_utilization",
        "dtype",
        "enforce_eager",
        "max_num_seqs",
    )
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    given |= {"model": options.model_name, "max_model_len": options.max_new_tokens}
    if options.trust_remote_code:
        given["trust_remote_code"] = True
    published = dict(family.engine_args)
    if options.num_seeds > 1:
        # The chains of a problem ask the same first question: not the published run any more.
        published["enable_prefix_caching"] = True
    return vllm.translate(published, given | options.engine_args, vllm.installed())


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


def make_vllm(args: Mapping[str, object], shared: Mapping[str, object], chat: Chat) -> Engine:
    return vllm.VllmEngine(args, shared, partial(chat.decode, skip_special_tokens=True))
