"""Servers with one of the OpenAI APIs: what each is, and whether it serves a run."""

from __future__ import annotations

import asyncio
import fnmatch
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import orjson

from kflow.engines.openai_engine import refusals
from kflow.engines.openai_engine.api import NEUTRAL, STREAM_INTERVAL, Api, Json
from kflow.engines.openai_engine.network import (
    LOOK_TIMEOUT,
    authorization,
    fault_in,
    finished,
    post,
    proxy_of,
    read,
    reason,
    session,
    whatever_is_there,
)
from kflow.engines.openai_engine.refusals import RENAMED, Asked, named
from kflow.engines.openai_engine.retry import (
    TELL_AFTER,
    TRIES,
    Fault,
    Fleet,
    Who,
    minutes,
    pause,
)
from kflow.engines.openai_engine.sent import body, constraint
from kflow.engines.openai_engine.streamed import Streamed
from kflow.ground.price import listed_price
from kflow.ground.redaction import key, masked
from kflow.ground.streams import tell
from kflow.results.description import Server
from kflow.types import Chat, EngineDied, Key, Message, Prompt, Request, Unreachable, UserError

if TYPE_CHECKING:
    import aiohttp

LONGEST_ANSWER = 1 << 22  # bytes of an answer about models or a version
PLAN_TIMEOUT = 5.0  # seconds for a list of models that a plan would like to know
TRIAL = 60.0  # seconds after which a request that is still not answered counts as not refused
FIRST_WORDS = 3.0  # seconds that the beginning of its reply is looked at
WINDOWS = ("max_model_len", "context_length", "context_window", "max_context_length")
STARTING = (429, 503)  # statuses of a list of models that is worth waiting for

# What a request can do without.
OPTIONAL = ("seed", "reasoning_effort", "stream_options", "top_p", *NEUTRAL, *STREAM_INTERVAL)


@dataclass(frozen=True)
class Needs:
    """What a run asks of its servers. model: its name there, given by `flag`. window: tokens.
    trial: a short request with the budget of a rollout, and `asked` the fields of its prompt.
    must_list: a server must say which models it has, which not every one does. max_outage: seconds.
    constrained: replies are, to a regular expression.
    """

    model: str
    flag: str
    window: int
    api: Api
    sampling: Mapping[str, object]
    trial: Request
    asked: Json
    must_list: bool
    max_outage: float
    constrained: bool = False


def describe_needs(
    model: str,
    flag: str,
    window: int,
    api: Api,
    sampling: Mapping[str, object],
    chat: Chat,
    max_outage: float,
    constrained: bool = False,
) -> Needs:
    """A short question, with nearly the largest budget of a reply that any window has room for
    beside it."""
    question = (Message("user", "Reply with one word: yes."),)
    ids = tuple(chat.render(Prompt(question, 0.5)))
    budget = max(window // 2, int(0.9 * window) - 256)
    trial = Request(Key("", "", 0, 0), ids, budget, 0, None, question)
    asked = api.asked(trial, chat)
    must_list = not api.chat
    return Needs(
        model, flag, window, api, sampling, trial, asked, must_list, max_outage, constrained
    )


class Reached(NamedTuple):
    """left_out: what is said of each address that did not pass, and may later."""

    servers: list[Server]
    left_out: dict[str, str]


def reach(urls: Sequence[str], needs: Needs, listed: Sequence[str] = ()) -> Reached:
    """The servers as they describe themselves, with the optional fields that they refuse, found out
    by a short request to each. listed: addresses in a file, which are left out where they do not
    pass and another server does.

    Raises UserError for one that cannot be reached, refuses the key or the request, does not serve
    the model or has less room; EngineDied for one that has not answered for max_outage.
    """

    async def look(url: str) -> Server | UserError | EngineDied:
        try:
            return await reached(url, needs)
        except (UserError, EngineDied) as error:
            if url in urls:
                raise
            return error

    async def all_of_them() -> dict[str, Server | UserError | EngineDied]:
        places = list(dict.fromkeys([*urls, *listed]))
        return dict(zip(places, await asyncio.gather(*map(look, places)), strict=True))

    key()
    looks = finished(all_of_them)
    servers = [each for each in looks.values() if isinstance(each, Server)]
    failed = {url: each for url, each in looks.items() if not isinstance(each, Server)}
    if not servers:
        raise next(iter(failed.values()))
    return Reached(servers, {url: sentence_of(url, error) for url, error in failed.items()})


def sentence_of(url: str, error: Exception) -> str:
    """What is said of a listed server that does not pass."""
    return f"{str(error).rstrip('.')}. Until it passes, {masked(url)} takes no part."


def look(urls: Sequence[str], needs: Needs) -> list[Server]:
    """The servers by their lists of models alone. Raises UserError as `reach` does, Unreachable for
    one that does not answer soon, and for one that has no list and need not."""

    async def seen(url: str) -> Server:
        asked = Asked(masked(url), "models", needs.model, needs.flag, proxy=masked(proxy_of(url)))
        try:
            async with session(url) as http:
                listed = await asyncio.wait_for(models_of(url, http), PLAN_TIMEOUT)
        except Fault as fault:
            if fault.who is Who.ACCOUNT and fault.status in (401, 403):
                raise UserError(refusals.sentence(asked, fault)) from None
            raise Unreachable(f"{asked.url}/models does not answer ({fault})") from None
        except Exception as error:  # the network's libraries have many types
            raise Unreachable(f"{asked.url} cannot be reached ({reason(error)})") from None
        if not (cards := models_in(listed)):
            raise Unreachable(f"{asked.url} lists no models")
        return described(url, cards, needs, None)

    async def all_of_them() -> list[Server]:
        return list(await asyncio.gather(*map(seen, urls)))

    key()
    return finished(all_of_them)


async def reached(url: str, needs: Needs, say: Callable[[str], None] = tell) -> Server:
    """`reach` of one server. say: is called where its answer is waited for."""
    asked = Asked(masked(url), "models", needs.model, needs.flag, proxy=masked(proxy_of(url)))
    fleet = Fleet([asked.url], needs.max_outage, say)
    async with session(url) as http:
        listed = await listed_by(url, asked, needs, fleet, http, say)
        cards = models_in(listed)
        if needs.must_list and not cards:
            raise UserError(no_models(asked.url, listed))
        server = described(url, cards, needs, await version_of(url, http))
        asked = replace(
            asked, path=needs.api.path, names=tuple(cards), sampling=tuple(needs.sampling)
        )
        server = await tried(server, asked, needs, fleet, http, say)
    if needs.constrained:
        constraint(server, "")
    return server


def check_same_software(server: Server, others: Sequence[Server]) -> None:
    """Raises UserError for a server that joins a run with another version than those of its start,
    as far as they give one."""
    known = {f"{each.kind} {each.version}" for each in others if each.version is not None}
    own = f"{server.kind} {server.version}"
    if server.version is not None and known and own not in known:
        raise UserError(
            f"{masked(server.url)} is {own}, and this start has {' and '.join(sorted(known))}: "
            "serve it with that, or start the run again with --change_engine."
        )


async def listed_by(
    url: str,
    asked: Asked,
    needs: Needs,
    fleet: Fleet,
    http: aiohttp.ClientSession,
    say: Callable[[str], None],
) -> bytes:
    """A server's list of models; b"" for one that has none and need not."""
    faults = 0
    while True:
        try:
            with tell_when_late(asked.url, say):
                return await asyncio.wait_for(models_of(url, http), LOOK_TIMEOUT)
        except Fault as error:
            fault = error
        except Exception as error:  # the network's libraries have many types
            raise UserError(refusals.sentence(asked, Fault(reason(error), down=True))) from None
        if not needs.must_list:
            return b""
        if fault.status not in STARTING or fault.who is not Who.SERVER:
            raise UserError(refusals.sentence(asked, fault))
        faults += 1
        await wait(fault, faults, asked, needs, fleet)


@contextmanager
def tell_when_late(name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Say that a server's answer is waited for, where it is for long."""
    loop = asyncio.get_running_loop()
    late = loop.call_later(TELL_AFTER, say, f"{name}: waiting for its answer to a first request")
    try:
        yield
    finally:
        late.cancel()


async def wait(fault: Fault, faults: int, asked: Asked, needs: Needs, fleet: Fleet) -> None:
    """Pause for a server at the start, and say so. Raises UserError where it asks for longer than
    the user would wait, EngineDied where it has not answered for that long."""
    too_long = too_long_a_wait(asked.url, fault, needs.max_outage)
    if too_long is not None:
        raise too_long
    seconds = pause(faults, fault, needs.max_outage, random.random())
    if fault.who is Who.SERVER:
        fleet.fault(0, fault, asyncio.get_running_loop().time(), seconds)
    await asyncio.sleep(seconds)


def described(url: str, cards: Mapping[str, Json], needs: Needs, version: str | None) -> Server:
    """A server by its list of models. Raises UserError where that is not what the run needs."""
    name, model = masked(url), needs.model
    if not cards:
        return Server(url, model, "unknown", version, None)
    card = card_of(model, cards)
    if card is None:
        asked = Asked(name, "models", model, needs.flag, tuple(cards))
        raise UserError(f"{name} does not serve {model}: {refusals.of_names(asked)}.")
    owner = card.get("owned_by")
    # A LoRA's card leaves the window to that of the model it belongs to.
    window = window_of(card) or window_of(cards.get(str(card.get("parent")), {}))
    if window is not None and window < needs.window:
        raise UserError(
            f"{name} has a window of {window} tokens, less than --max_new_tokens {needs.window}: "
            f"start it with --max-model-len {needs.window}, or lower --max_new_tokens."
        )
    kind = owner[:100] if isinstance(owner, str) else "unknown"
    return Server(url, model, kind, version, window, price=listed_price(card.get("pricing")))


def no_models(name: str, listed: bytes) -> str:
    """Why a list of models is of no use, and what to do about it."""
    with suppress(ValueError):
        value = orjson.loads(listed)
        if isinstance(value, dict) and value.get("data") == []:
            return (
                f"{name}/models lists no model, so it is not known how this server samples: use "
                "--engine chat."
            )
    return (
        f"{name}/models does not list models as an OpenAI-compatible server does: correct "
        "--base_url, which usually ends in /v1."
    )


def window_of(card: Json) -> int | None:
    """By the names that vLLM, llama.cpp and hosted services have for it."""
    meta = card.get("meta")
    rooms = [card.get(name) for name in WINDOWS] + [meta.get("n_ctx") if meta else None]
    return next((room for room in rooms if type(room) is int), None)


def card_of(model: str, cards: Mapping[str, Json]) -> Json | None:
    """A model's card: by its name, by its name without what tells a router how to choose a host
    (`NAME:nitro`), or by a pattern (`openai/*`)."""
    base, _, _ = model.rpartition(":")
    known = cards.get(model) or cards.get(base)
    patterns = (c for name, c in cards.items() if "*" in name and fnmatch.fnmatchcase(model, name))
    return known or next(patterns, None)


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
        version = await asyncio.wait_for(ask(), LOOK_TIMEOUT)
    except Exception:  # no such page, or not one of these servers
        return None
    return version[:100] if isinstance(version, str) else None


async def tried(
    server: Server,
    asked: Asked,
    needs: Needs,
    fleet: Fleet,
    http: aiohttp.ClientSession,
    say: Callable[[str], None],
) -> Server:
    """A server with the optional fields that it refuses, found out by a short request whose reply
    is not read."""
    faults = 0
    # What the flags ask for is not left out.
    optional = [n for n in OPTIONAL if n == "reasoning_effort" or n not in needs.sampling]
    while True:
        sent = body(needs.api, server, needs.trial, needs.asked, needs.sampling)
        with tell_when_late(asked.url, say):
            fault = await refusal(server.url, needs, sent, http)
        if fault is None:
            if lacking := [field for field in server.refused if field not in RENAMED]:
                tell(f"{asked.url} refuses {', '.join(lacking)}: left out")
            return server
        refused = fault.who is Who.REQUEST
        if refused and (field := named(fault.words, orjson.loads(sent), optional)):
            server = replace(server, refused=(*server.refused, field))
            continue
        faults += 1
        if fault.who is not Who.SERVER and faults >= TRIES:
            raise UserError(refusals.sentence(asked, fault))
        await wait(fault, faults, asked, needs, fleet)


def too_long_a_wait(name: str, fault: Fault, max_outage: float) -> UserError | None:
    """Where a server asks at the start to wait for longer than the user would."""
    if (fault.asked_pause or 0) <= max_outage:
        return None
    return UserError(
        f"{name} asks to wait {fault.asked_pause:,.0f} seconds ({fault}), longer than "
        f"{minutes(max_outage)}: come back then, or raise it."
    )


async def refusal(url: str, needs: Needs, sent: bytes, http: aiohttp.ClientSession) -> Fault | None:
    """Why a server refuses a request, None where it begins to answer, or is still at it after a
    while."""
    reply = Streamed(needs.trial.max_tokens, needs.api.chat)
    try:
        async with await asyncio.wait_for(post(http, url, needs.api, sent), TRIAL) as response:
            if (fault := await fault_in(response)) is not None:
                return fault
            await asyncio.wait_for(begin(response, reply), FIRST_WORDS)
    except asyncio.TimeoutError:
        return None
    except Fault as fault:
        # A page in the place of a reply is another address's.
        return fault if reply.begun else Fault(fault.words, Who.ACCOUNT)
    except Exception as error:  # the network's libraries have many types
        return Fault(reason(error), down=True)
    return None


async def begin(response: aiohttp.ClientResponse, reply: Streamed) -> None:
    """Read until something of a reply is there. Raises Fault for what is none."""
    while not reply.progress and not reply.done:
        received = await whatever_is_there(response)
        if not received:
            return reply.end()
        reply.feed(received)
