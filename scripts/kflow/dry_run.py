"""--dry_run: what a run would do, printed, with no engine and no need of a network."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TypeVar

from . import experiment as experiments
from . import problems, provenance
from .experiment import Experiment
from .launch import launch, shown
from .rollout import Plan, ask
from .sentences import TokenMeasure
from .types import Key, State, UserError

Found = TypeVar("Found")


def dry_run(experiment: Experiment, options: argparse.Namespace) -> None:
    """Print the resolved configuration, the engine's arguments and the first prompt.

    What cannot be had (a data set or tokenizer that is not here) is named and the rest printed;
    without a tokenizer the prompt is shown as its messages.
    """
    missing: list[str] = []

    def attempt(get: Callable[[], Found]) -> Found | None:
        try:
            return get()
        except UserError as error:
            missing.append(str(error))
            return None

    family, method = experiment.family, experiment.method
    templates = experiments.load_prompts(experiment, options)
    data = attempt(lambda: problems.load(options.dataset, options.split, options.limit))
    model = attempt(lambda: provenance.model(options.model_name))
    chat = None
    if model is not None or options.model_name == family.model:
        chat = attempt(lambda: family.chat(options.model_name, options.trust_remote_code))
    shared = experiments.sampling(options, chat)
    engine = launch(family, options, shared)
    configuration = {
        "results": str(experiments.results_folder(experiment, options)),
        "experiment": {"prefix": experiment.prefix, **provenance.describe(method)},
        "fraction": method.fraction(State("")),
        "flags": shown(options),
        "model": model,
        "problems": data and {**data.source, "number": len(data.problems), "hash": data.hash},
        "prompts": provenance.hashes(templates),
        "sampling": shared,
        "published_engine_arguments": dict(family.engine_args),
    }
    show("configuration", configuration)
    show(engine.title, engine.arguments)
    question = data.problems[0].question if data else "(the data set's first question)"
    state = State(question)
    if chat is None:
        measure = TokenMeasure(options.max_new_tokens, len)
        turns = method.messages(state, templates, measure).messages
        prompt = "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
        title = "first prompt (no tokenizer: as messages)"
    else:
        measure = TokenMeasure(options.max_new_tokens, chat.count)
        plan = Plan(method, templates, chat, measure, options.reflex_size, options.seed)
        problem = data.problems[0].id if data else ""
        asked = ask(plan, Key(problem, 0, 0), state)
        prompt = chat.decode(list(asked.prompt_ids), skip_special_tokens=False)
        budget = asked.request.max_tokens if asked.request else asked.failure
        title = f"first prompt ({len(asked.prompt_ids)} tokens, reply up to {budget})"
    print(f"# {title}\n{prompt}")
    if missing:
        show("not to be had here", missing)


def show(title: str, value: object) -> None:
    print(f"# {title}\n{json.dumps(value, indent=2, ensure_ascii=False)}\n")
