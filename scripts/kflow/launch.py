"""From the flags to an engine that can be started: the only place that tells the engines apart."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from .engines import openai, servers, vllm
from .engines.masking import masked_url
from .families.family import Family
from .types import Chat, Engine, Record


class Started(NamedTuple):
    """A running engine, and what the session's record gets to say of it."""

    engine: Engine
    session: Record


@dataclass(frozen=True)
class Launch:
    """An engine as the flags ask for it, not started yet.

    title: what its arguments are, for --dry_run. settings: what must stay the same within a
    results folder. start: raises UserError where the engine cannot serve what is asked.
    """

    title: str
    arguments: Record
    settings: Record
    start: Callable[[Chat], Started]


def launch(family: Family, options: argparse.Namespace, shared: Mapping[str, object]) -> Launch:
    """shared: the sampling that every request is sent with."""
    choose = vllm_launch if options.engine == "vllm" else openai_launch
    return choose(family, options, shared)


def shown(options: argparse.Namespace) -> Record:
    """The flags as a record or a dry run has them: addresses without what may be a key."""
    flags = vars(options)
    urls = (
        {"base_url": [masked_url(url) for url in flags["base_url"]]} if "base_url" in flags else {}
    )
    return {**flags, **urls}


def vllm_launch(
    family: Family, options: argparse.Namespace, shared: Mapping[str, object]
) -> Launch:
    arguments, found = engine_arguments(family, options), vllm.installed()

    def start(chat: Chat) -> Started:
        decode = partial(chat.decode, skip_special_tokens=True)
        return Started(vllm.VllmEngine(arguments, shared, decode), {})

    name = "none installed, shown as for vllm 0.10.2" if found is None else " ".join(found)
    settings = {k: v for k, v in arguments.items() if k not in vllm.SAME_RESULTS}
    return Launch(f"engine arguments ({name})", arguments, settings, start)


def engine_arguments(family: Family, options: argparse.Namespace) -> dict[str, object]:
    """What vLLM is started with: the family's arguments, the flags given, then --engine_args."""
    names = (
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "distributed_executor_backend",
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


def openai_launch(
    family: Family, options: argparse.Namespace, shared: Mapping[str, object]
) -> Launch:
    model = options.served_model_name or options.model_name
    urls = list(dict.fromkeys(options.base_url))
    limits = openai.Limits(
        options.max_concurrency, options.request_timeout, 60 * options.max_outage
    )

    def start(chat: Chat) -> Started:
        found = servers.look(urls, model, options.max_new_tokens)
        if options.force_sections:
            for server in found:
                servers.constraint(server, "")
        engine = openai.OpenAIEngine(found, shared, chat, limits, options.prompt_as_text)
        return Started(engine, {"servers": servers.described(found, shared)})

    settings: Record = {
        "kind": "openai",
        "served_model_name": model,
        "prompt_as_text": options.prompt_as_text,
    }
    arguments = {"base_url": [masked_url(url) for url in urls], **settings, **vars(limits)}
    arguments["request_to_vllm"] = servers.common("vllm", model, shared)
    return Launch("servers, and what each request has in common", arguments, settings, start)
