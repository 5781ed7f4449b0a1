"""From the settings to an engine that can be started: what tells the engines apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kflow.engines.openai_engine import openai, sent, servers
from kflow.engines.openai_engine.api import AS_TEXT, COMPLETIONS, chat_completions
from kflow.engines.openai_engine.roster import Roster
from kflow.engines.openai_engine.servers import Needs
from kflow.engines.vllm_engine import recipes, speculation, vllm
from kflow.engines.vllm_engine.arguments import check_variables
from kflow.engines.vllm_engine.recipes import Load, Recipe
from kflow.families.family import Family
from kflow.families.messages import BYTES_PER_TOKEN
from kflow.ground.streams import say, tell
from kflow.results.description import NOTHING_KNOWN, Description
from kflow.results.manifest import Model
from kflow.running import provenance
from kflow.running.settings import Settings
from kflow.types import Chat, Engine, Key

# Flags that are passed to vLLM under their own names.
PASSED = (
    "tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend",
    "gpu_memory_utilization", "dtype", "max_num_seqs", "enforce_eager", "trust_remote_code",
)  # fmt: skip


@dataclass(frozen=True)
class EngineSpec:
    """An engine as the settings ask for it, not started yet."""

    # Starts it for chains named by their next rollouts; gives it with what is known of it then.
    # Raises UserError where it cannot serve what is asked.
    start: Callable[[Chat, Sequence[Key]], tuple[Engine, Description]]
    arguments: dict[str, Any]  # for run.json
    description: Description = NOTHING_KNOWN  # what is known before it starts
    # Asks running servers what they are, and nothing that costs; of other engines None. Raises
    # UserError for one that cannot serve what is asked, Unreachable where none answers.
    look: Callable[[Chat], Description] | None = None
    # Variables that are set, or unset where None, before it starts.
    environment: Mapping[str, str | None] = field(default_factory=dict)


def specify(
    family: Family,
    settings: Settings,
    model: Model | None,
    shared: Mapping[str, object],
    in_flight: int,
) -> EngineSpec:
    """shared: the sampling that every request is sent with. in_flight: rollouts at a time, at
    most."""
    if settings.engine != "vllm":
        return specify_servers(family, settings, shared)
    recipe = recipe_of(family, settings, model, in_flight)
    speculation.check_sampling(recipe.arguments, settings.temperature, recipes.installed())
    description = Description(settings.recipe, recipe.kernels, recipe.deviations)

    def start(chat: Chat, chains: Sequence[Key]) -> tuple[Engine, Description]:
        for sentence in recipe.deviations:
            say(f"Unlike the {settings.recipe} recipe: {sentence}")
        apply(recipe.environment)
        decode = partial(chat.decode, skip_special_tokens=True)
        with recipes.without_warnings():
            return vllm.VllmEngine(recipe.arguments, shared, decode), description

    return EngineSpec(start, recipe.arguments, description, environment=recipe.environment)


def recipe_of(
    family: Family, settings: Settings, model: Model | None, in_flight: int | None
) -> Recipe:
    """What vLLM is started with: the recipe, the flags given, then --engine_args. in_flight: None
    for vLLM's own batch."""
    values = {name: getattr(settings, name) for name in PASSED}
    given = {name: value for name, value in values.items() if value not in (None, False)}
    given |= {"model": settings.model.name, "max_model_len": settings.max_new_tokens}
    if model is not None and model.revision is not None:
        given |= {"revision": model.revision, "tokenizer_revision": model.revision}
    published = dict(family.engine_args)
    # What this program chooses otherwise than the published system (docs/fidelity.md): a batch and
    # graphs for what is in flight, async_scheduling off where it is not given, prefix caching.
    if settings.as_published:
        in_flight = None
        given |= {name: published[name] for name in ("async_scheduling",) if name in published}
    elif settings.num_seeds > 1:
        # The chains of a problem ask the same first question.
        published["enable_prefix_caching"] = True
    node = recipes.node()
    quantized = provenance.config(settings.model_name, model).get("quantization_config")
    mxfp4 = isinstance(quantized, dict) and quantized.get("quant_method") == "mxfp4"
    given |= dict(settings.engine_args)
    recipe = recipes.recipe(
        published,
        family.environment,
        given,
        node,
        Load(in_flight, mxfp4, settings.force_sections),
        settings.recipe,
        os.environ,
    )
    if node.vllm is not None:
        check_variables(os.environ.keys() - recipe.environment.keys(), node.vllm)
    if settings.speculate is None:
        return recipe
    arguments = speculation.with_drafts(recipe.arguments, given, settings.speculate, in_flight)
    return replace(recipe, arguments=arguments)


def apply(environment: Mapping[str, str | None]) -> None:
    """Set or unset variables of this process, which the engine's own inherit."""
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def specify_servers(family: Family, settings: Settings, shared: Mapping[str, object]) -> EngineSpec:
    sampling = dict(shared)
    if settings.engine == "chat":
        api, kind = chat_completions(family.end_of_thinking), "unknown"
        if family.reasoning_effort is not None:
            sampling["reasoning_effort"] = family.reasoning_effort
        reckoned = f"{BYTES_PER_TOKEN} bytes per token"
        marks: dict[str, object] = {
            "prefill": False,
            "token_ids": False,
            "seeds_guaranteed": False,
            "measured_by": "tokenizer" if settings.model.is_folder else reckoned,
        }
    else:
        api, kind = AS_TEXT if settings.prompt_as_text else COMPLETIONS, "vllm"
        marks = {"prompt_as_text": settings.prompt_as_text}
    sampling |= settings.request_args
    by_name = api.chat and not settings.served_model_name
    flag = "--model_name" if by_name else "--served_model_name"
    name = settings.served_model_name or settings.model.name
    limits = openai.Limits(
        settings.max_concurrency, settings.request_timeout, 60 * settings.max_outage
    )

    def needs(chat: Chat) -> Needs:
        return Needs(
            name,
            flag,
            settings.max_new_tokens,
            api,
            sampling,
            chat,
            limits.max_outage,
            settings.force_sections,
        )

    def look(chat: Chat) -> Description:
        roster = Roster.of(settings.base_url)
        seen = servers.look((*roster.given, *roster.listed), needs(chat))
        return Description(servers=sent.recorded(seen, api, sampling))

    def start(chat: Chat, chains: Sequence[Key]) -> tuple[Engine, Description]:
        roster, asked = Roster.of(settings.base_url), needs(chat)
        reached = servers.reach(roster.given, asked, roster.listed)
        for sentence in reached.left_out.values():
            tell(sentence)
        engine = openai.OpenAIEngine(
            reached.servers, sampling, chat, limits, api, chains, settings.record_refusals
        )
        if roster.files:
            engine.follow(roster, reached, asked)
        return engine, Description(servers=sent.recorded(reached.servers, api, sampling))

    arguments = {
        "base_url": list(settings.base_url),
        "served_model_name": name,
        **marks,
        **vars(limits),
        # `kind`: the servers whose requests stand for all in the record.
        "request": sent.common(api, kind, name, sampling),
    }
    return EngineSpec(start, arguments, look=look)
