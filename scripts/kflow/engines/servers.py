"""Servers with the OpenAI completions API: what each one is, what it is sent, how it is reached."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from ..types import Record, Request, UserError
from .retry import fault_of, retry_after
from .streamed import short

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

CONNECT_TIMEOUT = 10.0  # seconds
LONGEST_ANSWER = 1 << 22  # bytes of an answer that is not streamed
KEY = "OPENAI_API_KEY"

# What vLLM's offline engine samples with unless told otherwise. A server would put in the model's
# own generation_config instead (vLLM, SGLang), or defaults of its own (llama.cpp).
NEUTRAL: Mapping[str, object] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
# By what /v1/models says of who owns a model: fields beyond the API's own that the server takes.
EXTRAS: Mapping[str, Mapping[str, object]] = {
    "vllm": {
        **NEUTRAL,
        "skip_special_tokens": True,
        "return_token_ids": True,
        "add_special_tokens": False,
        "stream_interval": 16,  # tokens per chunk: less to do at both ends
    },
    "sglang": {**NEUTRAL, "skip_special_tokens": True},
    "llamacpp": NEUTRAL,
}
API_FIELDS = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True)
class Server:
    """A server as it described itself. kind: the owner it gives for the model. version, window
    (tokens): None where it does not tell."""

    url: str
    model: str
    kind: str
    version: str | None
    window: int | None


def key() -> str:
    """The key from the environment, "" without one. Raises UserError for one that cannot be sent:
    the HTTP library would put it into its complaint."""
    found = os.environ.get(KEY, "").strip()
    if not re.fullmatch(r"[!-~]*", found):
        raise UserError(f"{KEY} holds blanks or characters beyond ASCII: set it to a server's key.")
    return found


def hide_key(text: str) -> str:
    """A server's words without the key, which it may repeat in a complaint."""
    found = os.environ.get(KEY, "").strip()
    return text.replace(found, "***") if found else text


class Unanswered(Exception):
    """An HTTP status other than 200, and the server's message: one clause."""

    def __init__(self, status: int, message: str, asked_pause: float | None) -> None:
        super().__init__(f"HTTP {status}: {message}" if message else f"HTTP {status}")
        self.status, self.asked_pause = status, asked_pause

    def fault(self) -> Exception:
        """To be sent again, or not at all."""
        return fault_of(self.status, str(self), self.asked_pause) or self


def message_in(body: bytes) -> str:
    """What a server's error says: the message in its JSON, else the beginning of its text."""
    try:
        found = orjson.loads(body)
        for name in ("error", "message", "detail"):
            found = found.get(name, found) if isinstance(found, dict) else found
        text = found if isinstance(found, str) else orjson.dumps(found).decode()
    except ValueError:
        text = short(body)
    return hide_key(" ".join(text.split()))[:500]


async def raise_for_status(response: httpx2.Response) -> None:
    """A hook for every response: the official client would read all of a bad one, however long,
    and follow what it sends."""
    if response.status_code != 200:
        body = await read(response, 1 << 16)
        pause = retry_after(response.headers.get("retry-after"), datetime.now(timezone.utc))
        said = message_in(body)
        if 300 <= response.status_code < 400:
            said = "it sends on to another address, which is not followed"
        raise Unanswered(response.status_code, said, pause)


async def read(response: httpx2.Response, most: int) -> bytes:
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            break
    return body[:most]


def http_client(url: str, connections: int | None) -> httpx2.AsyncClient:
    """A pool for one server. A connection serves one request: between two rollouts, a server
    closes the connection as often as not. A peer that is gone is found out by TCP in two minutes.
    """
    import httpx2

    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=0)
    keepalive = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    ]
    return httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(limits=limits, proxy=proxy, socket_options=keepalive),
        follow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        event_hooks={"response": [raise_for_status]},
    )


def openai_client(url: str, http: httpx2.AsyncClient) -> AsyncOpenAI:
    import openai

    found = key() or "none"  # the client refuses to work without one, and servers ignore it
    return openai.AsyncOpenAI(api_key=found, base_url=url, http_client=http, max_retries=0)


def look(urls: Sequence[str], model: str, window: int) -> list[Server]:
    """Ask every server what it is. window: tokens it must have room for.

    Raises UserError for one that cannot be reached, does not serve the model, or has less room.
    """

    async def all_of_them() -> list[Server]:
        return list(await asyncio.gather(*(describe(url, model) for url in urls)))

    key()
    servers = asyncio.run(all_of_them())
    for server in servers:
        if server.window is not None and server.window < window:
            raise UserError(
                f"{server.url} has a window of {server.window} tokens, less than --max_new_tokens "
                f"{window}: start it with --max-model-len {window}, or lower --max_new_tokens."
            )
    return servers


async def describe(url: str, model: str) -> Server:
    try:
        async with http_client(url, None) as http:
            client = openai_client(url, http).with_options(timeout=CONNECT_TIMEOUT)
            async with client.models.with_streaming_response.list() as response:
                listed = await read(response.http_response, LONGEST_ANSWER)
            version = await version_of(url, http)
    except Exception as error:  # the network, TLS or a status: the libraries have many types
        raise UserError(
            f"{url} cannot be used ({reason(error)}): start the server first, or correct "
            f"--base_url, which usually ends in /v1, or set {KEY}."
        ) from None
    cards = models_in(listed)
    if not cards:
        raise UserError(
            f"{url}/models does not list models as an OpenAI-compatible server does: correct "
            "--base_url, which usually ends in /v1."
        )
    if model not in cards:
        names = hide_key(", ".join(sorted(cards)[:10]))[:500]
        raise UserError(
            f"{url} does not serve {model}, but {names}: give its name as --served_model_name."
        )
    card = cards[model]
    kind, room = card.get("owned_by"), card.get("max_model_len")
    return Server(
        url,
        model,
        kind[:100] if isinstance(kind, str) else "unknown",
        version,
        room if type(room) is int else None,
    )


def models_in(listed: bytes) -> dict[str, Record]:
    """The cards of a /v1/models answer by model name; empty for an answer that is none."""
    try:
        cards = orjson.loads(listed).get("data")
    except (ValueError, AttributeError):
        return {}
    named = [c for c in cards if isinstance(c, dict)] if isinstance(cards, list) else []
    return {c["id"]: c for c in named if isinstance(c.get("id"), str)}


async def version_of(url: str, http: httpx2.AsyncClient) -> str | None:
    """What vLLM and SGLang say at /version, beside the API, which needs no key; else None."""
    root = url.removesuffix("/v1")
    try:
        async with http.stream("GET", f"{root}/version", timeout=CONNECT_TIMEOUT) as response:
            found = orjson.loads(await read(response, LONGEST_ANSWER)).get("version")
    except Exception:  # no such page, or not one of these servers
        return None
    return hide_key(found)[:100] if isinstance(found, str) else None


def reason(error: BaseException) -> str:
    """Why a server was not reached: the innermost error of the network's libraries."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = hide_key(" ".join(str(error).split()))[:300]
    return text or type(error).__name__


def common(kind: str, model: str, sampling: Mapping[str, object]) -> dict[str, Any]:
    """What every request to a server of this kind is sent with, as the official client takes it:
    what is not in OpenAI's API is in `extra_body`. sampling: by the flags and the model family."""
    wanted = {"top_p": 1.0, **EXTRAS.get(kind, {}), **sampling}
    return {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: wanted[name] for name in API_FIELDS if name in wanted},
        "extra_body": {name: wanted[name] for name in wanted if name not in API_FIELDS},
    }


def body(
    server: Server, request: Request, prompt: Sequence[int] | str, sampling: Mapping[str, object]
) -> Record:
    """One completion request. The prompt goes where the client passes things on as they are: it
    would look at every token id of its own argument, 10 ms for 1,000 of them."""
    shared = common(server.kind, server.model, sampling)
    shared["extra_body"]["prompt"] = prompt
    if request.pattern is not None:
        shared["extra_body"] |= constraint(server, request.pattern)
    return {**shared, "prompt": "", "max_tokens": request.max_tokens, "seed": request.seed}


def constraint(server: Server, pattern: str) -> Record:
    """The field for a regular expression, by the name this server has for it. A vLLM that does
    not give its version gets both: each ignores the other's.

    Raises UserError for a server that is not known to have one.
    """
    if server.kind == "sglang":
        return {"regex": pattern}
    if server.kind != "vllm":
        raise UserError(
            f"{server.url} is no vLLM or SGLang server, and how to constrain its replies is not "
            "known: leave out --force_sections."
        )
    old: Record = {"guided_regex": pattern}
    new: Record = {"structured_outputs": {"regex": pattern}}
    numbers = tuple(map(int, re.findall(r"\d+", server.version or "")[:2]))
    return (new if numbers >= (0, 11) else old) if numbers else old | new


def described(servers: Sequence[Server], sampling: Mapping[str, object]) -> list[Record]:
    """The servers as a session's record has them, with what each request to them has in common."""
    return [{**asdict(s), "request": common(s.kind, s.model, sampling)} for s in servers]
