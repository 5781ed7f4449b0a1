"""Servers with one of the OpenAI APIs: what each is, and whether it serves a run."""

from __future__ import annotations

import asyncio
import fnmatch
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import orjson

from kflow.engines.openai_engine.api import NEUTRAL, STREAM_INTERVAL, Api, Json
from kflow.engines.openai_engine.network import (
    LOOK_TIMEOUT,
    authorization,
    fault_in,
    post,
    read,
    reason,
    run_apart,
    session,
    whatever_is_there,
)
from kflow.engines.openai_engine.refusals import RENAMED, Asked, named, of_names, sentence
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
from kflow.engines.openai_engine.streamed import Streamed, contradict
from kflow.ground.price import Price, price
from kflow.ground.redaction import key, masked
from kflow.ground.streams import tell
from kflow.results.description import Server
from kflow.types import Chat, EngineDied, Key, Message, Prompt, Request, Unreachable, UserError

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

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
    """What a run asks of its servers."""

    model: str  # its name there
    flag: str  # that gave it
    window: int  # tokens
    api: Api
    sampling: Mapping[str, object]
    chat: Chat
    max_outage: float  # seconds
    constrained: bool = False  # replies are, to a regular expression

    @cached_property
    def trial(self) -> Request:
        """A short question, with nearly the largest budget of a reply that any window has room for
        beside it."""
        question = (Message("user", "Reply with one word: yes."),)
        ids = tuple(self.chat.render(Prompt(question, 0.5)))
        budget = max(self.window // 2, int(0.9 * self.window) - 256)
        return Request(Key("", "", 0, 0), ids, budget, 0, None, question)

    @cached_property
    def asked(self) -> Json:
        """The fields of the trial's prompt."""
        return self.api.asked(self.trial, self.chat)


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

    looks = ask_all([*urls, *listed], look)
    servers = [each for each in looks.values() if isinstance(each, Server)]
    failed = {url: each for url, each in looks.items() if not isinstance(each, Server)}
    if not servers:
        raise next(iter(failed.values()))
    return Reached(servers, {url: left_out(url, error) for url, error in failed.items()})


def ask_all(urls: Iterable[str], ask: Callable[[str], Coroutine[Any, Any, T]]) -> dict[str, T]:
    """What is found out of each address, all at once."""
    places = list(dict.fromkeys(urls))

    async def work() -> list[T]:
        return await asyncio.gather(*map(ask, places))

    key()  # one that cannot be sent is found out before
    return dict(zip(places, run_apart(work), strict=True))


def left_out(url: str, error: Exception) -> str:
    """What is said of a listed server that does not pass."""
    return f"{str(error).rstrip('.')}. Until it passes, {masked(url)} takes no part."


def look(urls: Sequence[str], needs: Needs) -> list[Server]:
    """The servers by their lists of models alone. Raises UserError as `reach` does, Unreachable for
    one that does not answer soon, and for one that has no list and need not."""

    async def seen(url: str) -> Server:
        asked = Asked(url, "models", needs.model, needs.flag)
        try:
            async with session(url) as http:
                listed = await asyncio.wait_for(models_of(url, http), PLAN_TIMEOUT)
        except Fault as fault:
            if fault.who is Who.ACCOUNT and fault.status in (401, 403):
                raise UserError(sentence(asked, fault)) from None
            raise Unreachable(f"{asked.name}/models does not answer ({fault})") from None
        except Exception as error:  # the network's libraries have many types
            raise Unreachable(f"{asked.name} cannot be reached ({reason(error)})") from None
        if not (cards := models_in(listed)):
            raise Unreachable(f"{asked.name} lists no models")
        server = described(url, cards, needs, None)
        if needs.constrained:
            constraint(server, "")
        return server

    return list(ask_all(urls, seen).values())


async def reached(url: str, needs: Needs, say: Callable[[str], None] = tell) -> Server:
    """`reach` of one server. say: is called where its answer is waited for."""
    async with session(url) as http:
        server = await Probe(url, needs, http, say).run()
    if needs.constrained:
        constraint(server, "")
    return server


class Probe:
    """Asks one server for its models, and to begin a reply."""

    def __init__(
        self, url: str, needs: Needs, http: aiohttp.ClientSession, say: Callable[[str], None]
    ) -> None:
        self._url, self._needs, self._http, self._say = url, needs, http, say
        self._asked = Asked(url, "models", needs.model, needs.flag)
        self._name = self._asked.name
        self._fleet = Fleet([self._name], needs.max_outage, say)

    async def run(self) -> Server:
        listed = await self._list()
        cards = models_in(listed)
        if not cards and not self._needs.api.chat:
            raise UserError(no_models(self._name, listed))
        version = await version_of(self._url, self._http)
        server = described(self._url, cards, self._needs, version)
        if isinstance(self._needs.asked.get("prompt"), list):
            await self._check_vocabulary()
        return await self._try(server, tuple(cards))

    async def _check_vocabulary(self) -> None:
        """Raises UserError where the server reads another text in token ids than they stand for,
        as far as it says; it may leave out special tokens."""
        ids, chat = list(self._needs.trial.prompt_ids), self._needs.chat
        read = await detokenized(self._url, self._http, self._needs.model, ids)
        texts = [chat.decode(ids, skip_special_tokens=skip) for skip in (False, True)]
        if read is not None and all(contradict(text, read) for text in texts):
            raise UserError(
                f"{self._name} decodes token ids into other text than this tokenizer: give the "
                "model that the server serves as --model_name."
            )

    async def _list(self) -> bytes:
        """Its list of models; b"" for one that has none and need not."""
        faults = 0
        while True:
            try:
                with self._tell_when_late():
                    return await asyncio.wait_for(models_of(self._url, self._http), LOOK_TIMEOUT)
            except Fault as error:
                fault = error
            except Exception as error:  # the network's libraries have many types
                fault = Fault(reason(error), down=True)
                raise UserError(sentence(self._asked, fault)) from None
            if fault.status not in STARTING or fault.who is not Who.SERVER:
                if self._needs.api.chat:  # not every such server has one
                    return b""
                raise UserError(sentence(self._asked, fault))
            faults += 1
            await self._wait(fault, faults)

    async def _try(self, server: Server, names: Sequence[str]) -> Server:
        """The server with the optional fields that it refuses, found out by a short request whose
        reply is not read. names: of its models."""
        needs, faults = self._needs, 0
        # What the flags ask for is not left out.
        optional = [n for n in OPTIONAL if n == "reasoning_effort" or n not in needs.sampling]
        while True:
            sent = body(needs.api, server, needs.trial, needs.asked, needs.sampling)
            with self._tell_when_late():
                fault = await self._refusal(sent)
            if fault is None:
                if lacking := [field for field in server.refused if field not in RENAMED]:
                    tell(f"{self._name} refuses {', '.join(lacking)}: left out")
                return server
            refused = fault.who is Who.REQUEST
            if refused and (field := named(fault.words, orjson.loads(sent), optional)):
                server = replace(server, refused=(*server.refused, field))
                continue
            faults += 1
            if fault.who is not Who.SERVER and faults >= TRIES:
                asked = replace(self._asked, path=needs.api.path, names=names)
                raise UserError(sentence(replace(asked, sampling=tuple(needs.sampling)), fault))
            await self._wait(fault, faults)

    async def _refusal(self, sent: bytes) -> Fault | None:
        """Why the server refuses a request, None where it begins to answer, or is still at it after
        a while."""
        api = self._needs.api
        reply = Streamed(self._needs.trial.max_tokens, api.chat)
        try:
            posted = post(self._http, self._url, api, sent)
            async with await asyncio.wait_for(posted, TRIAL) as response:
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

    @contextmanager
    def _tell_when_late(self) -> Iterator[None]:
        """Say that an answer is waited for, where it is for long."""
        words = f"{self._name}: waiting for its answer to a first request"
        late = asyncio.get_running_loop().call_later(TELL_AFTER, self._say, words)
        try:
            yield
        finally:
            late.cancel()

    async def _wait(self, fault: Fault, faults: int) -> None:
        """Pause, and say so. Raises UserError where the server asks for longer than the user would
        wait, EngineDied where it has not answered for that long."""
        longest = self._needs.max_outage
        check_wait(self._name, fault, longest)
        seconds = pause(faults, fault, longest, random.random())
        if fault.who is Who.SERVER:
            self._fleet.fault(0, fault, asyncio.get_running_loop().time(), seconds)
        await asyncio.sleep(seconds)


def check_wait(name: str, fault: Fault, longest: float) -> None:
    """Raises UserError where a server asks at the start to wait for longer than the user would."""
    if (fault.asked_pause or 0) > longest:
        raise UserError(
            f"{name} asks to wait {fault.asked_pause:,.0f} seconds ({fault}), longer than "
            f"{minutes(longest)}: start again later, or raise the limit."
        )


async def begin(response: aiohttp.ClientResponse, reply: Streamed) -> None:
    """Read until something of a reply is there. Raises Fault for what is none."""
    while not reply.progress and not reply.done:
        received = await whatever_is_there(response)
        if not received:
            return reply.end()
        reply.feed(received)


def check_same_software(server: Server, others: Sequence[Server]) -> None:
    """Raises UserError for a server that joins a run with another version than those of its start,
    as far as they give one."""
    known = {f"{each.kind} {each.version}" for each in others if each.version is not None}
    own = f"{server.kind} {server.version}"
    if server.version is not None and known and own not in known:
        raise UserError(
            f"{masked(server.url)} is {own}, but this run uses {' and '.join(sorted(known))}: "
            "serve the same version there, or start the run again with --change_engine."
        )


def described(url: str, cards: Mapping[str, Json], needs: Needs, version: str | None) -> Server:
    """A server by its list of models. Raises UserError where that is not what the run needs."""
    name, model = masked(url), needs.model
    if not cards:
        return Server(url, model, "unknown", version, None)
    card = card_of(model, cards)
    if card is None:
        asked = Asked(url, "models", model, needs.flag, tuple(cards))
        raise UserError(f"{name} does not serve {model}: {of_names(asked)}.")
    owner = card.get("owned_by")
    # A LoRA's card leaves the window to that of the model it belongs to.
    window = window_of(card) or window_of(cards.get(str(card.get("parent")), {}))
    if window is not None and window < needs.window:
        setting = f"--max-model-len {needs.window}"
        if owner == "llamacpp":
            setting = f"-c {needs.window} for each slot"
        raise UserError(
            f"{name} has a window of {window} tokens, less than --max_new_tokens {needs.window}: "
            f"start it with {setting}, or lower --max_new_tokens."
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


def models_in(listed: bytes) -> dict[str, Json]:
    """The cards of a /v1/models answer by model name; empty for an answer that is none."""
    try:
        cards = orjson.loads(listed).get("data")
    except (ValueError, AttributeError):
        return {}
    named = [c for c in cards if isinstance(c, dict)] if isinstance(cards, list) else []
    return {c["id"]: c for c in named if isinstance(c.get("id"), str)}


async def models_of(url: str, http: aiohttp.ClientSession) -> bytes:
    return await get(f"{url}/models", http, authorization())


async def version_of(url: str, http: aiohttp.ClientSession) -> str | None:
    """What vLLM and SGLang say at /version, beside the API, which needs no key; else None."""
    place = f"{url.removesuffix('/v1')}/version"
    try:
        answer = await asyncio.wait_for(get(place, http, {}), LOOK_TIMEOUT)
        version = orjson.loads(answer).get("version")
    except Exception:  # no such page, or not one of these servers
        return None
    return version[:100] if isinstance(version, str) else None


async def detokenized(
    url: str, http: aiohttp.ClientSession, model: str, ids: Sequence[int]
) -> str | None:
    """The text of token ids by what vLLM, llama.cpp and SGLang have beside the API; None where a
    server has no such thing."""
    place = f"{url.removesuffix('/v1')}/detokenize"
    asked = {"model": model, "tokens": ids, "skip_special_tokens": False}

    async def ask() -> bytes:
        async with http.post(
            place, json=asked, headers=authorization(), allow_redirects=False
        ) as response:
            return await read(response, LONGEST_ANSWER)

    try:
        answer = orjson.loads(await asyncio.wait_for(ask(), LOOK_TIMEOUT))
        texts = [answer.get(name) for name in ("prompt", "content", "text")]
    except Exception:  # no such page, or not one of these servers
        return None
    return next((text for text in texts if isinstance(text, str)), None)


async def get(url: str, http: aiohttp.ClientSession, headers: Mapping[str, str]) -> bytes:
    """The beginning of what is at an address. Raises Fault for an answer that is an error."""
    async with http.get(url, headers=headers, allow_redirects=False) as response:
        if (fault := await fault_in(response)) is not None:
            raise fault
        return await read(response, LONGEST_ANSWER)


def listed_price(pricing: object) -> Price | None:
    """From a server's list of models, which has the price of one token as text (OpenRouter)."""
    if not isinstance(pricing, Mapping):
        return None
    prices = []
    for name in ("prompt", "completion"):
        try:
            prices.append(round(1e6 * float(pricing.get(name)), 9))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return None
    return price(*prices)
