"""What one entry script varies, and the way from its flags to its files.

Exit codes: 0 done, 1 the engine or the disk failed (the same command continues), 2 a mistake the
user can mend, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import flags, flow, problems, prompts, provenance
from .engines import vllm
from .families.family import Family
from .progress import Progress
from .rollout import Plan
from .sentences import TokenMeasure
from .store import Store
from .types import Chat, Engine, EngineDied, Method, Record, Template, UserError


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
    continues = "the same command continues from what is on disk."
    try:
        if options.dry_run:
            dry_run(experiment, options)
        else:
            work(experiment, options, make_engine or make_vllm)
        code = 0
    except UserError as error:
        code = fail(2, str(error))
    except EngineDied as error:
        code = fail(1, f"{error}; {continues}")
    except OSError as error:
        code = fail(1, f"Could not write the results ({error}); {continues}")
    except KeyboardInterrupt:
        code = fail(130, f"Interrupted; {continues}")
    except Terminated:
        code = fail(143, f"Terminated; {continues}")
    sys.exit(code)


def on_sigterm(signal_number: int, frame: object) -> None:
    raise Terminated


def fail(code: int, sentence: str) -> int:
    print(printable(sentence), file=sys.stderr)
    return code


def printable(text: str) -> str:
    """Text a terminal can only show: control characters, line breaks too, are escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


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
    )
    settings: Record = {
        "experiment": {"prefix": experiment.prefix, **provenance.describe(method)},
        "model": model,
        "problems": {"number": len(data.problems), "hash": data.hash},
        "prompts": provenance.hashes(templates),
        "sampling": shared,
        "max_new_tokens": options.max_new_tokens,
        "seed": options.seed,
        "force_sections": options.force_sections,
        "engine": {k: v for k, v in arguments.items() if k not in vllm.SAME_RESULTS},
    }
    store = Store(results_folder(experiment, options), [p.id for p in data.problems])
    if options.overwrite:
        store.check_writable()
    else:
        store.check(settings)
    chains = [] if options.overwrite else flow.chains(plan, data.problems, store)
    if chains and all(chain.step == plan.steps for chain in chains):
        print(f"{store.folder} is complete: {plan.steps} steps of {len(chains)} problems.")
        return
    engine = make_engine(arguments, shared, chat)
    try:
        if options.overwrite:
            store.move_aside()
            chains = flow.chains(plan, data.problems, store)
        store.begin(
            settings,
            {
                **provenance.session(),
                "flags": vars(options),
                "data": data.source,
                "engine_arguments": arguments,
            },
        )
        done = sum(chain.step for chain in chains)
        progress = Progress(len(chains) * plan.steps, done)
        try:
            flow.run(plan, chains, engine, store, progress.rollout)
        finally:
            progress.close()
    finally:
        engine.close()
    print(f"Results: {store.folder}")


def load_prompts(experiment: Experiment, options: argparse.Namespace) -> dict[str, Template]:
    folder = Path(options.prompt_dir) if options.prompt_dir else prompts.FOLDER
    return prompts.load(folder, experiment.method.prompts)


def results_folder(experiment: Experiment, options: argparse.Namespace) -> Path:
    """METHOD.md, "Output"."""
    name = f"{experiment.prefix}_{options.max_new_tokens}_{options.output_postfix}"
    return Path(options.results_dir) / name / Path(options.model_name).resolve().name


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
    return vllm.translate(family.engine_args, given | options.engine_args, vllm.installed())


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
