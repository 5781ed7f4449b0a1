"""From the settings to an engine that can be started: what tells the engines apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from . import recipes, speculation
from .engines import openai, servers, vllm
from .families.family import Family
from .provenance import Model, split
from .settings import Settings
from .types import Chat, Engine, Key

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
    """An engine as the settings ask for it, not started yet. arguments: for run.json. start: of the
    chains that will be worked, by their next rollouts; raises UserError where the engine cannot
    serve what is asked."""

    arguments: dict[str, Any]
    start: Callable[[Chat, Sequence[Key]], Started]


def launch(
    family: Family,
    settings: Settings,
    model: Model | None,
    shared: Mapping[str, object],
    problems: int,
) -> Launch:
    """shared: the sampling that every request is sent with. problems: how many."""
    if settings.engine == "openai":
        return openai_launch(settings, shared)
    arguments = engine_arguments(family, settings, model, problems)

    def start(chat: Chat, chains: Sequence[Key]) -> Started:
        decode = partial(chat.decode, skip_special_tokens=True)
        return Started(vllm.VllmEngine(arguments, shared, decode), {})

    return Launch(arguments, start)


def engine_arguments(
    family: Family, settings: Settings, model: Model | None, problems: int
) -> dict[str, Any]:
    """What vLLM is started with: the family's arguments, the flags given, then --engine_args."""
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
    given |= dict(settings.engine_args)
    vllm = recipes.installed()
    arguments = recipes.translate(published, given, vllm)
    if settings.speculate is None:
        return arguments
    chains, window = problems * settings.num_seeds, settings.max_new_tokens
    here = speculation.drafting(vllm)
    return speculation.with_drafts(arguments, given, settings.speculate, chains, window, here)


def openai_launch(settings: Settings, shared: Mapping[str, object]) -> Launch:
    name = settings.served_model_name or split(settings.model_name)[0]
    limits = openai.Limits(
        settings.max_concurrency, settings.request_timeout, 60 * settings.max_outage
    )

    def start(chat: Chat, chains: Sequence[Key]) -> Started:
        reached = servers.look(list(settings.base_url), name, settings.max_new_tokens)
        if settings.force_sections:
            for server in reached:
                servers.constraint(server, "")
        as_text = settings.prompt_as_text
        engine = openai.OpenAIEngine(reached, shared, chat, limits, as_text, chains)
        return Started(engine, {"servers": servers.described(reached, shared)})

    arguments = {
        "base_url": list(settings.base_url),
        "served_model_name": name,
        "prompt_as_text": settings.prompt_as_text,
        **vars(limits),
        "request": servers.common("vllm", name, shared),
    }
    return Launch(arguments, start)
