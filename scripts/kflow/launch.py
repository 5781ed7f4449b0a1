"""From the settings to an engine that can be started: what tells the engines apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from . import provenance, recipes, variables
from .engines import openai, servers, vllm
from .families.family import Family
from .provenance import Model, split
from .recipes import Load, Recipe
from .settings import Settings
from .terminal import say
from .types import Chat, Engine

# Flags that are passed to vLLM under their own names.
PASSED = (
    "tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend",
    "gpu_memory_utilization", "dtype", "max_num_seqs",
)  # fmt: skip
SWITCHES = ("enforce_eager", "trust_remote_code")


class Started(NamedTuple):
    """A running engine, and how it describes itself, for the session's record."""

    engine: Engine
    described: Mapping[str, object]


@dataclass(frozen=True)
class Launch:
    """An engine as the settings ask for it, not started yet. arguments: for run.json. start: raises
    UserError where the engine cannot serve what is asked. described: what is known of the engine
    before it starts, for the session's record. environment: variables that are set, or unset where
    None, before it starts. sized: the same for so many rollouts in flight."""

    arguments: dict[str, Any]
    start: Callable[[Chat], Started]
    described: dict[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str | None] = field(default_factory=dict)
    sized: Callable[[int], Launch] | None = None


def launch(
    family: Family,
    settings: Settings,
    model: Model | None,
    shared: Mapping[str, object],
    in_flight: int | None = None,
) -> Launch:
    """shared: the sampling that every request is sent with. in_flight: rollouts at most, None where
    it is not known."""
    if settings.engine == "openai":
        return openai_launch(settings, shared)
    recipe = recipe_of(family, settings, model, in_flight)

    def start(chat: Chat) -> Started:
        for sentence in recipe.deviations:
            say(f"Unlike the {settings.recipe} recipe: {sentence}")
        apply(recipe.environment)
        decode = partial(chat.decode, skip_special_tokens=True)
        return Started(vllm.VllmEngine(recipe.arguments, shared, decode), described)

    known = {"kernels": recipe.kernels, "deviations": list(recipe.deviations)}
    described = {"recipe": settings.recipe} | {name: each for name, each in known.items() if each}
    sized = partial(launch, family, settings, model, shared)
    return Launch(recipe.arguments, start, described, recipe.environment, sized)


def recipe_of(
    family: Family, settings: Settings, model: Model | None, in_flight: int | None
) -> Recipe:
    """What vLLM is started with: the recipe, the flags given, then --engine_args."""
    values = {name: getattr(settings, name) for name in PASSED}
    given = {name: value for name, value in values.items() if value is not None}
    given |= {name: True for name in SWITCHES if getattr(settings, name)}
    given |= {"model": split(settings.model_name)[0], "max_model_len": settings.max_new_tokens}
    if model is not None and model.revision is not None:
        given |= {"revision": model.revision, "tokenizer_revision": model.revision}
    published = dict(family.engine_args)
    if settings.num_seeds > 1:
        # The chains of a problem ask the same first question: not the published run any more.
        published["enable_prefix_caching"] = True
    node = recipes.node()
    config = provenance.config(settings.model_name, model)
    recipe = recipes.recipe(
        published,
        family.environment,
        given | dict(settings.engine_args),
        node,
        Load(in_flight, config, settings.force_sections),
        settings.recipe,
        os.environ,
    )
    if node.vllm is not None:
        variables.check(os.environ.keys() - recipe.environment.keys(), node.vllm)
    return recipe


def apply(environment: Mapping[str, str | None]) -> None:
    """Set or unset variables of this process, which the engine's own inherit."""
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def openai_launch(settings: Settings, shared: Mapping[str, object]) -> Launch:
    name = settings.served_model_name or split(settings.model_name)[0]
    limits = openai.Limits(
        settings.max_concurrency, settings.request_timeout, 60 * settings.max_outage
    )

    def start(chat: Chat) -> Started:
        reached = servers.look(list(settings.base_url), name, settings.max_new_tokens)
        if settings.force_sections:
            for server in reached:
                servers.constraint(server, "")
        engine = openai.OpenAIEngine(reached, shared, chat, limits, settings.prompt_as_text)
        return Started(engine, {"servers": servers.described(reached, shared)})

    arguments = {
        "base_url": list(settings.base_url),
        "served_model_name": name,
        "prompt_as_text": settings.prompt_as_text,
        **vars(limits),
        "request": servers.common("vllm", name, shared),
    }
    return Launch(arguments, start)
