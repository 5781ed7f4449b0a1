"""Servers with one of the OpenAI APIs: what each one is, what it is sent, how it is reached."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from kflow.engines.openai_engine.api import NEUTRAL, STREAM_INTERVAL, Api, Json
from kflow.engines.openai_engine.retry import Fault, fault_of, pause, retry_after
from kflow.engines.openai_engine.streamed import short
from kflow.ground.masking import KEY, key, masked, masked_url
from kflow.results.description import Server, ServerRecord
from kflow.types import Key, Request, UserError

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0  # seconds
BODY_TIMEOUT = 10.0  # seconds for the body of an answer that is not a reply
LONGEST_ANSWER = 1 << 22  # bytes of an answer about models or a version
LONGEST_ERROR = 1 << 16  # bytes
TRIAL = 60.0  # seconds after which a request that is still not answered counts as not refused
TRIALS = 5  # of a request that a server is too busy for

# What a request can do without, and what a newer API calls by another name.
OPTIONAL = ("seed", "reasoning_effort", "stream_options", "top_p", *NEUTRAL, *STREAM_INTERVAL)
# A version in which no key can be.
NUMBERED = re.compile(r"\d{1,4}(\.\d{1,4}){1,3}([.+]?(dev|rc|post|cu|cpu)\w{0,12})?")
RENAMED = {"max_tokens": "max_completion_tokens"}


def session(url: str) -> aiohttp.ClientSession:
    """Connections to one server, each for one request: until a chain's next rollout many a server
    closes one that is idle. TCP finds out within two minutes that a peer is gone. Neither
    redirects nor cookies are followed, and no password is taken from a file."""
    import aiohttp

    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=kept_alive),
        proxy=proxy,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
    )


def authorization() -> dict[str, str]:
    """The header with the key, where there is one."""
    secret = key()
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def kept_alive(address: tuple[Any, Any, int, str, Any]) -> socket.socket:
    family, kind, protocol, _, _ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    return connection


async def fault_in(response: aiohttp.ClientResponse) -> Fault | None:
    """What a response says by its status and headers, before its body is read; None: a reply."""
    if response.status == 200:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            return Fault(
                f"a compressed reply ({encoding[:20]}), which was not asked for", down=True
            )
        return None
    message = message_in(await read(response, LONGEST_ERROR))
    if 300 <= response.status < 400:
        message = "it redirects to another address, which is not followed"
    asked_pause = retry_after(response.headers.get("Retry-After"), datetime.now(timezone.utc))
    why = f"HTTP {response.status}" + (f": {message}" if message else "")
    return fault_of(response.status, why, asked_pause)


async def read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body's first bytes, at most so many; what is there of one that does not end."""
    import aiohttp

    body = bytearray()

    async def fill() -> None:
        while len(body) < most and (piece := await response.content.readany()):
            body.extend(piece)

    with suppress(aiohttp.ClientError, asyncio.TimeoutError):
        await asyncio.wait_for(fill(), BODY_TIMEOUT)
    return bytes(body[:most])


def message_in(body: bytes) -> str:
    """What a server's error says: the message in its JSON, else the beginning of its text."""
    try:
        value = orjson.loads(body)
        for name in ("error", "message", "detail"):
            value = value.get(name, value) if isinstance(value, dict) else value
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
    except ValueError:
        text = short(body)
    return " ".join(text[:2000].split())[:500]


def finished(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, run in a thread: this one may have an event loop that runs, as in
    a notebook."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def look(urls: Sequence[str], model: str, window: int, must_list: bool = True) -> list[Server]:
    """Ask every server what it is. window: tokens it must have room for. must_list: a server must
    say which models it has, which not every server does.

    Raises UserError for one that cannot be reached, does not serve the model, or has less room.
    """

    async def all_of_them() -> list[Server]:
        return list(await asyncio.gather(*(describe(url, model, must_list) for url in urls)))

    key()
    servers = finished(all_of_them())
    for server in servers:
        if server.window is not None and server.window < window:
            raise UserError(
                f"{masked_url(server.url)} has a window of {server.window} tokens, less than "
                f"--max_new_tokens {window}: start it with --max-model-len {window}, or lower "
                "--max_new_tokens."
            )
    return servers


async def describe(url: str, model: str, must_list: bool) -> Server:
    name, listed = masked_url(url), b""
    try:
        async with session(url) as http:
            try:
                listed = await asyncio.wait_for(models_of(url, http), 2 * CONNECT_TIMEOUT)
            except Fault:
                if must_list:
                    raise
            version = await version_of(url, http)
    except Exception as error:  # the network, TLS or a status: the library has many types
        raise UserError(
            f"{name} cannot be used ({reason(error, url)}): start the server first, or correct "
            f"--base_url, which usually ends in /v1, or set {KEY}."
        ) from None
    cards = models_in(listed)
    if not cards and not must_list:
        return Server(url, model, "unknown", version, None)
    if not cards:
        raise UserError(
            f"{name}/models does not list models as an OpenAI-compatible server does: correct "
            "--base_url, which usually ends in /v1."
        )
    if model not in cards:
        names = masked(", ".join(sorted(cards)[:10])[:500], url)
        raise UserError(
            f"{name} does not serve {model}, but {names}: give its name as --served_model_name."
        )
    card = cards[model]
    kind, room = card.get("owned_by"), card.get("max_model_len")
    return Server(
        url,
        model,
        masked(kind[:100], url) if isinstance(kind, str) else "unknown",
        version,
        room if type(room) is int else None,
    )


async def models_of(url: str, http: aiohttp.ClientSession) -> bytes:
    headers = authorization()
    async with http.get(f"{url}/models", headers=headers, allow_redirects=False) as response:
        if (fault := await fault_in(response)) is not None:
            raise fault
        return await read(response, LONGEST_ANSWER)


def models_in(listed: bytes) -> dict[str, Json]:
    """The cards of a /v1/models answer by model name; empty for an answer that is none."""
    try:
        cards = orjson.loads(listed).get("data")
    except (ValueError, AttributeError):
        return {}
    named = [c for c in cards if isinstance(c, dict)] if isinstance(cards, list) else []
    return {c["id"]: c for c in named if isinstance(c.get("id"), str)}


async def version_of(url: str, http: aiohttp.ClientSession) -> str | None:
    """What vLLM and SGLang say at /version, beside the API, which needs no key; else None."""

    async def ask() -> object:
        async with http.get(f"{url.removesuffix('/v1')}/version", allow_redirects=False) as got:
            return orjson.loads(await read(got, LONGEST_ANSWER)).get("version")

    try:
        version = await asyncio.wait_for(ask(), CONNECT_TIMEOUT)
    except Exception:  # no such page, or not one of these servers
        return None
    if not isinstance(version, str):
        return None
    return version if NUMBERED.fullmatch(version) else masked(version[:100], url)


def reason(error: BaseException, url: str) -> str:
    """Why a server was not reached: the innermost error of the network's libraries."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = masked(" ".join(str(error)[:2000].split()), url)[:500]
    # The library writes that a connection broke off as the status 400.
    return text.removeprefix("400, message: ") or type(error).__name__


def tried(
    servers: Sequence[Server], api: Api, sampling: Mapping[str, object], budget: int
) -> list[Server]:
    """The servers with the optional fields that they refuse, found out by a short request to each,
    whose reply is not read. budget: tokens, as large as those of the rollouts.

    Raises UserError for one that refuses the request itself.
    """

    async def all_of_them() -> list[Server]:
        return list(await asyncio.gather(*(tried_out(s, api, sampling, budget) for s in servers)))

    return finished(all_of_them())


async def tried_out(
    server: Server, api: Api, sampling: Mapping[str, object], budget: int
) -> Server:
    name, faults = masked_url(server.url), 0
    request = Request(Key("", "", 0, 0), (), budget, 0)
    # What the flags ask for is not left out.
    optional = [each for each in OPTIONAL if each == "reasoning_effort" or each not in sampling]
    async with session(server.url) as http:
        while True:
            sent = body(api, server, request, api.short, sampling)
            try:
                fault = await refusal(server.url, api, sent, http)
            except Exception as error:  # the network's libraries have many types
                fault = Fault(reason(error, server.url))
            if fault is None:
                return server
            why = masked(str(fault), server.url)
            if fault.rejects and (field := named(why, orjson.loads(sent), optional)):
                server = replace(server, refused=(*server.refused, field))
                continue
            if fault.rejects:
                raise UserError(
                    f"{name} refuses a rollout's request ({why}): change the flag that it "
                    "names, or lower --max_new_tokens."
                )
            faults += 1
            if not fault.busy or faults == TRIALS:
                raise UserError(
                    f"{name} cannot be used ({why}): correct --base_url, which usually ends in "
                    f"/v1, or --served_model_name, or set {KEY}."
                )
            await asyncio.sleep(pause(faults, fault.asked_pause, TRIAL, 1.0))


async def refusal(url: str, api: Api, sent: bytes, http: aiohttp.ClientSession) -> Fault | None:
    """Why a server refuses a request, None where it begins to answer, or is still at it after a
    while."""
    headers = {"Content-Type": "application/json", **authorization()}
    posted = http.post(f"{url}/{api.path}", data=sent, headers=headers, allow_redirects=False)
    try:
        async with await asyncio.wait_for(posted, TRIAL) as response:
            return await fault_in(response)
    except asyncio.TimeoutError:
        return None


def named(refusal: str, sent: Json, optional: Sequence[str]) -> str | None:
    """The field of a request that a refusal names, of those that can be left out or have another
    name; None where it names none."""
    for name, other in RENAMED.items():
        if name in sent and other in refusal:
            return name
    return next((n for n in optional if n in sent and re.search(rf"\b{n}\b", refusal)), None)


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
        "seed": request.seed,
    }
    return orjson.dumps(accepted(server, fields))


def accepted(server: Server, fields: Json) -> Json:
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
            f"{masked_url(server.url)} is neither a vLLM nor an SGLang server, so its "
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
            **vars(replace(server, url=masked_url(server.url))),
            request=accepted(server, common(api, server.kind, server.model, sampling)),
        )
        for server in servers
    )
