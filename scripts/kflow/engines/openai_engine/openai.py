"""Servers with one of the OpenAI APIs behind submit/completions.

Requests live in an event loop of a thread of its own, each in one task that sends it, reads its
reply and sends it again after a fault; finished replies come out of a queue. With the completions
API prompts are rendered and replies decoded on this side, so that a method sees what it would see
of the offline engine; with chat completions the server does both.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from kflow.engines.openai_engine import refusals, retry, sent
from kflow.engines.openai_engine.api import COMPLETIONS, Api, Json
from kflow.engines.openai_engine.network import (
    DaemonThreads,
    allow_connections,
    fault_in,
    leave_alone,
    post,
    reason,
    session,
    whatever_is_there,
)
from kflow.engines.openai_engine.refusals import Asked, lowered
from kflow.engines.openai_engine.retry import (
    Demand,
    Fault,
    Fleet,
    Next,
    Tries,
    Who,
    chain_of,
    deal,
)
from kflow.engines.openai_engine.roster import Follower, Roster
from kflow.engines.openai_engine.servers import Needs, Reached, check_wait
from kflow.engines.openai_engine.streamed import Streamed, contradict
from kflow.ground.finish import LENGTH, on_record
from kflow.ground.redaction import masked, masked_words
from kflow.ground.streams import tell
from kflow.ground.terminal import printable
from kflow.results.description import Server, ServerRecord
from kflow.results.rollout import EMPTY
from kflow.types import Chat, Completion, EngineState, Key, Request, UserError

if TYPE_CHECKING:
    import aiohttp

pause = asyncio.sleep
# Waking up for every token of every stream is most of the work of reading them: what is there is
# read, then the connection is left alone for a while, so much longer the longer the reply is. Its
# end is noticed that much later.
READ_EVERY, SHARE = 0.5, 1 / 32  # seconds; of a reply's time so far
SHORT_READ = 1 << 16  # bytes; after a longer read there may be more
SURELY = 2.5  # times as many tokens as a server has counted: it has cut a prompt or a reply
MOST_SHORTENED = 3  # times that a request is asked for a shorter reply
CANCEL_EVERY = 0.2  # seconds
CLOSING = 0.6  # seconds that requests in flight get to let go of their connections


@dataclass(frozen=True)
class Limits:
    """max_outage: seconds without a sign of life from any server after which the run ends, and
    without an answer to a request after which it is left to the next start of the run."""

    max_concurrency: int | None  # requests in flight at a time, None: all
    request_timeout: float  # seconds without anything new of a reply: then it is taken for lost
    max_outage: float


@dataclass
class Peer:
    """A server that takes part, or did."""

    server: Server
    name: str  # its address as it may be shown
    http: aiohttp.ClientSession
    model: str = ""  # its name in the last reply that has one
    told: set[str] = field(default_factory=set)  # kinds of what was said of it, each once


class OpenAIEngine:
    """Requests in, completions out as they finish. sampling: what every request shares. chains:
    that will be worked, each by one of its rollouts, to be dealt to the servers. record_refusals:
    put a refusal on record that nothing shows to be the request's own."""

    def __init__(
        self,
        servers: Sequence[Server],
        sampling: Mapping[str, object],
        chat: Chat,
        limits: Limits,
        api: Api = COMPLETIONS,
        chains: Sequence[Key] = (),
        record_refusals: bool = False,
    ) -> None:
        self._sampling, self._chat, self._limits, self._api = sampling, chat, limits, api
        self._record_refusals = record_refusals
        names = [masked(server.url) for server in servers]
        self._fleet = Fleet(names, limits.max_outage, tell, deal(chains, len(servers)))
        self._peers: list[Peer] = []
        self.joined: list[ServerRecord] = []  # servers that take part since some time after
        self.findings: list[str] = []  # what was said of servers, for the record
        self._in_flight = 0
        self._replies: set[Streamed] = set()
        self._queue: SimpleQueue[Completion | BaseException] = SimpleQueue()
        self._died: BaseException | None = None
        allow_connections()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(servers, started), daemon=True)
        self._thread.start()
        started.wait()
        if self._died is not None:
            raise self._died

    def follow(self, roster: Roster, reached: Reached, needs: Needs) -> None:
        """Let the servers that take part be those that a roster's files list from now on. reached:
        those of the start."""
        follower = Follower(roster, reached, needs, self._join, self._leave, self._spawn)
        self._loop.call_soon_threadsafe(lambda: self._spawn(follower.follow()))

    # What the loop of the run calls, in its thread.

    def submit(self, request: Request) -> None:
        self._in_flight += 1
        asked = self._api.asked(request, self._chat)
        self._loop.call_soon_threadsafe(self._start, request, asked)

    def completions(self) -> list[Completion]:
        """Wait until at least one rollout has finished; empty only when none is in flight."""
        done: list[Completion] = []
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._await, self._in_flight)
        while self._in_flight and self._died is None:
            try:
                item = self._queue.get(block=not done)
            except Empty:
                break
            if isinstance(item, BaseException):
                self._died = item
            else:
                self._in_flight -= 1
                done.append(item)
        if self._died is not None and not done:
            raise self._died
        return done

    def progress(self) -> EngineState:
        """Running are the rollouts whose reply has begun."""
        replies = list(self._replies)
        tokens = [number for reply in replies if (number := reply.tokens) is not None]
        running = min(self._in_flight, sum(reply.progress > 0 for reply in replies))
        whole = sum(tokens) if len(tokens) == len(replies) else None
        return EngineState(running, self._in_flight - running, whole, waits=self._fleet.waits)

    def close(self) -> None:
        """Let go of the requests in flight; a server stops working on them."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has just ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(CLOSING)

    # The event loop's thread.

    def _run(self, servers: Sequence[Server], started: threading.Event) -> None:
        try:
            asyncio.run(self._serve(servers, started))
        except BaseException as error:
            self._died = error
            self._queue.put(error)
        finally:
            started.set()

    async def _serve(self, servers: Sequence[Server], started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_default_executor(DaemonThreads())
        self._slots = asyncio.Semaphore(self._limits.max_concurrency or sys.maxsize)
        self._tasks: set[asyncio.Task[None]] = set()
        # Requests that were set aside, by their keys, and how many are in flight where the run
        # waits for them and asks nothing more meanwhile.
        self._aside: dict[Key, tuple[Tries, asyncio.Future[bool]]] = {}
        self._awaited: int | None = None
        async with AsyncExitStack() as self._open_sessions:
            for server in servers:
                await self._connect(server)
            started.set()
            await self._stop.wait()
            while self._tasks:
                # Again and again: a library that is closing a connection may swallow one.
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks, timeout=CANCEL_EVERY)

    def _start(self, request: Request, asked: Json) -> None:
        self._awaited = None
        self._spawn(self._work(request, asked))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._queue.put(error)

    async def _connect(self, server: Server) -> Peer:
        http = await self._open_sessions.enter_async_context(session(server.url))
        self._peers.append(Peer(server, masked(server.url), http))
        return self._peers[-1]

    async def _join(self, server: Server) -> None:
        name = (await self._connect(server)).name
        self._fleet.add(name)
        self.joined += sent.recorded([server], self._api, self._sampling)
        tell(f"{name} takes part from now on")

    def _leave(self, url: str) -> None:
        """No further requests go to a server; one in flight goes to another if it breaks off."""
        number = max(n for n, peer in enumerate(self._peers) if peer.server.url == url)
        self._fleet.remove(number)
        tell(f"{self._peers[number].name} is not listed any more: it gets no further requests")

    def _await(self, in_flight: int) -> None:
        self._awaited = in_flight
        self._look_aside()

    def _look_aside(self) -> None:
        """Wake up what was set aside and may pass by now, or all of it where nothing else is in
        flight that could show who is at fault."""
        waiting = [each for each in self._aside.values() if not each[1].done()]
        alone = len(waiting) == self._awaited
        for attempts, again in waiting:
            if alone or attempts.may_pass(self._fleet):
                again.set_result(not alone)

    async def _set_aside(self, key: Key, attempts: Tries) -> bool:
        """Whether to ask again; False where nothing will show any more whether that is worth it."""
        again: asyncio.Future[bool] = self._loop.create_future()
        self._aside[key] = attempts, again
        self._look_aside()
        try:
            return await again
        finally:
            del self._aside[key]

    async def _work(self, request: Request, asked: Json) -> None:
        """One rollout, to its reply or to why there is none."""
        chain, longest = chain_of(request.key), self._limits.max_outage
        attempts, asked_for = Tries(Demand.of(request), longest), request.max_tokens
        shortened = 0
        while True:
            async with self._slots:
                sent = self._loop.time()
                server = self._fleet.choose(chain, sent, attempts.refused)
                try:
                    done = await self._attempt(server, request, asked)
                    less = request.max_tokens if shortened else None
                    return self._queue.put(replace(attempts.charged(done), max_tokens=less))
                except Fault as error:
                    fault = error
            left = lowered(fault.words, len(request.prompt_ids), request.max_tokens, asked_for)
            if fault.who is Who.REQUEST and left is not None and shortened < MOST_SHORTENED:
                shortened += 1
                request = replace(request, max_tokens=left)
                self._tell_once(
                    server,
                    "lowered",
                    f"{fault}; such rollouts now ask for the {left} tokens that this leaves "
                    "(max_tokens in their records)",
                )
                continue
            now = self._loop.time()
            after = attempts.fault(server, fault, sent, now, self._fleet)
            if after is Next.ASIDE and not await self._set_aside(request.key, attempts):
                return self._queue.put(self._given_up(server, request, attempts, fault))
            seconds = retry.pause(attempts.faults, fault, longest, random.random())
            if after in (Next.AGAIN, Next.OPEN) and fault.who is not Who.REQUEST:
                if not self._fleet.begun:
                    check_wait(self._peers[server].name, fault, longest)
                self._fleet.fault(server, fault, now, seconds)
            if after in (Next.FAILED, Next.OPEN):
                why = self._why(server, attempts.last)
                final = after is Next.FAILED
                return self._queue.put(attempts.ended(request.key, why, final))
            await pause(seconds)

    def _tell_once(self, server: int, kind: str, words: str) -> None:
        peer = self._peers[server]
        if kind not in peer.told:
            peer.told.add(kind)
            self.findings.append(f"{peer.name}: {words}")
            tell(self.findings[-1])

    def _given_up(
        self, server: int, request: Request, attempts: Tries, fault: Fault
    ) -> Completion | UserError:
        """What becomes of a request that was refused where nothing shows that it is its own fault:
        at the start a mistake of the user's, later a step that stays open."""
        refused = fault.who is Who.REQUEST
        final = refused and self._record_refusals
        advice = "; --record_refusals puts it on record as failed" if refused else ""
        if self._fleet.begun or final or not fault.status:
            why = self._why(server, fault)
            return attempts.ended(request.key, why if final else why + advice, final)
        peer, tokens = self._peers[server].server, Demand.of(request).whole
        fields = tuple(self._sampling)
        asked = Asked(peer.url, self._api.path, peer.model, sampling=fields, tokens=tokens)
        return UserError(refusals.sentence(asked, fault, advice))

    def _why(self, server: int, fault: Fault) -> str:
        """Of an empty reply it is the model, else the server, that is to be looked at."""
        own = fault.words.startswith(EMPTY)
        return str(fault) if own else f"{self._peers[server].name}: {fault}"

    async def _attempt(self, server: int, request: Request, asked: Json) -> Completion:
        """Send a request once and read its reply to the end. Raises Fault."""
        reply = Streamed(request.max_tokens, self._api.chat)
        self._replies.add(reply)
        try:
            await self._read(server, request, asked, reply)
            self._fleet.complete(server)
            return self._completion(server, request, reply)
        except Fault as fault:
            fault.broken = reply.progress > 0 and fault.who is Who.SERVER
            raise
        finally:
            self._replies.discard(reply)

    async def _read(self, server: int, request: Request, asked: Json, reply: Streamed) -> None:
        """Send a request and read its reply to the end."""
        import aiohttp

        timeout, begun = self._limits.request_timeout, self._loop.time()
        until, peer = begun + timeout, self._peers[server]
        content = sent.body(self._api, peer.server, request, asked, self._sampling)
        posted = post(peer.http, peer.server.url, self._api, content)
        accepted, broken = False, ""
        try:
            async with await asyncio.wait_for(posted, timeout) as response:
                if (fault := await fault_in(response)) is not None:
                    raise fault
                silence = self._loop.call_at(until, response.close)  # which ends the wait for more
                try:
                    while not reply.done and (received := await whatever_is_there(response)):
                        known = reply.progress
                        reply.feed(received)
                        now = self._loop.time()
                        if reply.progress != known:
                            until = now + timeout
                            silence.cancel()
                            silence = self._loop.call_at(until, response.close)
                            self._fleet.alive(server)
                        if reply.has_text and not accepted:
                            accepted = True
                            self._accept(server, request, begun)
                        if len(received) < SHORT_READ and not reply.done:
                            wait = min(READ_EVERY, SHARE * (now - begun), until - now)
                            await leave_alone(response, wait)
                finally:
                    silence.cancel()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            broken = reason(error)
        if self._loop.time() >= until:
            broken = f"nothing new for {timeout:g} seconds (--request_timeout)"
        try:
            reply.end(orderly=not broken)
        except Fault as fault:
            raise Fault(broken, down=fault.down) if broken and not reply.done else fault from None
        if reply.has_text and not accepted:  # in one piece
            self._accept(server, request, begun)

    def _accept(self, server: int, request: Request, sent: float) -> None:
        self._fleet.accept(server, Demand.of(request), sent, self._loop.time())
        self._look_aside()

    def _completion(self, server: int, request: Request, reply: Streamed) -> Completion:
        """A reply as the run gets it. Text that its token ids contradict is reported, and so is a
        prompt of which the server has read a part only, each once for a server."""
        completion = self._api.completion(request.key, reply, self._chat)
        reason = on_record(reply.finish_reason)
        finish_reason = None if reason is None else printable(masked_words(reason))
        provider = None if reply.provider is None else printable(masked(reply.provider))
        done = replace(completion, finish_reason=finish_reason, cost=reply.cost, provider=provider)
        if not completion.text.strip():
            # A seeded request repeats itself, so this may be the request's own.
            usual = finish_reason in ("stop", "length")
            why = EMPTY + ("" if usual else f" ({finish_reason})")
            raise Fault(why, Who.REQUEST, reply=done)
        if reply.ids is not None and contradict(completion.text, reply.text):
            self._tell_once(
                server,
                "contradicted",
                "the text of a reply and its token ids contradict each other; the ids are used. Is "
                "--model_name the model that this server serves?",
            )
        peer = self._peers[server]
        window = peer.server.window if reply.ids or reply.used else None
        if what := cuts(request, completion, finish_reason, window):
            self._tell_once(server, "cut", what)
        prompt, sent_tokens = reply.billed[0], len(request.prompt_ids)
        if not self._api.chat and prompt not in (None, sent_tokens):
            self._tell_once(
                server,
                "counted",
                f"it has counted {prompt} tokens of a prompt of {sent_tokens}. Does it add some of "
                "its own, or serve a model other than --model_name?",
            )
        if peer.model and reply.model not in ("", peer.model):
            before, now = (printable(masked(name)) for name in (peer.model, reply.model))
            self._tell_once(server, "model", f"replies now come from {now}, no longer {before}")
        peer.model = reply.model or peer.model
        return done


def cuts(request: Request, reply: Completion, finish_reason: str | None, window: int | None) -> str:
    """What shows that a server has cut a prompt or a reply without a word, "" for nothing. window:
    the server's, in tokens; None where it, or what is set against it, is not known."""
    prompt, read = len(request.prompt_ids), reply.prompt_tokens
    smaller = "Is its window smaller (Ollama: num_ctx)?"
    if read is not None and prompt > SURELY * read:
        return f"it has counted {read} tokens of a prompt of about {prompt}. {smaller}"
    if "completion_tokens" in reply.estimated:
        return ""
    whole = (prompt if read is None else read) + reply.tokens
    if window is not None and "prompt_tokens" not in reply.estimated and whole > window:
        return (
            f"it has counted {whole} tokens of a prompt and its reply, more than its window of "
            f"{window}. Does it drop the beginning (llama.cpp: --context-shift)?"
        )
    if finish_reason == LENGTH and SURELY * reply.tokens < request.max_tokens:
        why = smaller
        if read is not None and read > prompt:
            why = f"It has counted {read} tokens in a prompt estimated at {prompt}."
        return f"a reply was truncated at {reply.tokens} tokens of {request.max_tokens}. {why}"
    return ""
