"""What servers with one of the OpenAI APIs are sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson

from kflow.engines.openai_engine.api import Api, Json
from kflow.engines.openai_engine.refusals import RENAMED
from kflow.ground.redaction import masked
from kflow.results.description import Server, ServerRecord
from kflow.types import Request, UserError

SEEDS = (1 << 31) - 1  # servers are sent the low 31 bits: many take a seed for a signed number


def common(api: Api, kind: str, model: str, sampling: Mapping[str, object]) -> Json:
    """What every request to a server of this kind has in common. sampling: by the flags and the
    model family."""
    return {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_p": 1.0,
        **api.extras.get(kind, {}),
        **sampling,
    }


def body(
    api: Api, server: Server, request: Request, asked: Json, sampling: Mapping[str, object]
) -> bytes:
    """One request as JSON. asked: the fields that hold its prompt."""
    fields = {
        **common(api, server.kind, server.model, sampling),
        **({} if request.pattern is None else constraint(server, request.pattern)),
        **asked,
        "max_tokens": request.max_tokens,
        "seed": request.seed & SEEDS,
    }
    return orjson.dumps(taken(server, fields))


def taken(server: Server, fields: Json) -> Json:
    """The fields of a request that a server takes, by the names that it takes them by."""
    left_out = set(server.refused) - RENAMED.keys()
    renamed = {name: RENAMED[name] for name in server.refused if name in RENAMED}
    return {renamed.get(n, n): value for n, value in fields.items() if n not in left_out}


def constraint(server: Server, pattern: str) -> Json:
    """The field for a regular expression, by the name this server has for it. A vLLM that does
    not give its version gets both: each ignores the other's.

    Raises UserError for a server that is not known to have one.
    """
    if server.kind == "sglang":
        return {"regex": pattern}
    if server.kind != "vllm":
        raise UserError(
            f"{masked(server.url)} is neither a vLLM nor an SGLang server, so its "
            "replies cannot be constrained: leave out --force_sections."
        )
    old: Json = {"guided_regex": pattern}
    new: Json = {"structured_outputs": {"regex": pattern}}
    numbers = tuple(map(int, re.findall(r"\d+", server.version or "")[:2]))
    return (new if numbers >= (0, 11) else old) if numbers else old | new


def recorded(
    servers: Sequence[Server], api: Api, sampling: Mapping[str, object]
) -> tuple[ServerRecord, ...]:
    """The servers as a session's record has them."""
    return tuple(
        ServerRecord(
            **vars(replace(server, url=masked(server.url))),
            request=taken(server, common(api, server.kind, server.model, sampling)),
        )
        for server in servers
    )
