"""Servers with one of the OpenAI APIs behind submit/completions.

Requests live in an event loop of a thread of its own, each in one task that sends it, reads its
reply and sends it again after a fault; finished replies come out of a queue. With the completions
API prompts are rendered and replies decoded on this side, so that a method sees what it would see
of the offline engine; with chat completions the server does both.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from tqdm import tqdm

from kflow.engines.openai_engine import retry
from kflow.engines.openai_engine.api import COMPLETIONS, Api, Json
from kflow.engines.openai_engine.retry import Attempts, Fault, Fleet, chain_of, deal
from kflow.engines.openai_engine.servers import (
    TRIAL,
    authorization,
    body,
    fault_in,
    reason,
    session,
)
from kflow.engines.openai_engine.streamed import Streamed
from kflow.ground.masking import masked, masked_url
from kflow.ground.terminal import printable
from kflow.results.description import Server
from kflow.results.rollout import EMPTY
from kflow.types import Chat, Completion, Figures, Key, Request

if TYPE_CHECKING:
    import aiohttp

pause = asyncio.sleep
# Waking up for every token of every stream is most of the work of reading them: what is there is
# read, then the connection is left alone for a while, so much longer the longer the reply is. Its
# end is noticed that much later.
READ_EVERY, SHARE = 0.5, 1 / 32  # seconds; of a reply's time so far
SHORT_READ = 1 << 16  # bytes; after a longer read there may be more
LAST_WORDS = 10.0  # seconds that a complete reply is waited for to end
SHORT_REPLY = 16  # tokens
COMPARED = 200  # characters of a reply that the server's text and its token ids must share
MOST_FILES = 65_536
CANCEL_EVERY = 0.2  # seconds
CLOSING = 2.0  # seconds that requests in flight get to let go of their connections


@dataclass(frozen=True)
class Limits:
    """max_concurrency: requests in flight at a time, None: all. request_timeout: seconds without
    anything new of a reply after which it is taken for lost. max_outage: seconds without a sign
    of life from any server after which the run ends, and without an answer to a request after
    which it is left to the next start of the run."""

    max_concurrency: int | None
    request_timeout: float
    max_outage: float


class OpenAIEngine:
    """Requests in, completions out as they finish. sampling: what every request shares. chains:
    that will be worked, each by one of its rollouts, to be dealt to the servers."""

    def __init__(
        self,
        servers: Sequence[Server],
        sampling: Mapping[str, object],
        chat: Chat,
        limits: Limits,
        api: Api = COMPLETIONS,
        chains: Sequence[Key] = (),
    ) -> None:
        self._servers, self._sampling, self._chat = servers, sampling, chat
        self._limits, self._api = limits, api
        names = [masked_url(server.url) for server in servers]
        self._fleet = Fleet(names, limits.max_outage, say, deal(chains, len(servers)))
        self._contradicted: set[int] = set()
        self._in_flight = 0
        self._replies: set[Streamed] = set()
        self._queue: SimpleQueue[Completion | BaseException] = SimpleQueue()
        self._died: BaseException | None = None
        allow_connections()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        if self._died is not None:
            raise self._died

    # What the loop of the run calls, in its thread.

    def submit(self, request: Request) -> None:
        self._in_flight += 1
        asked = self._api.asked(request, self._chat)
        self._loop.call_soon_threadsafe(self._start, request, asked)

    def completions(self) -> list[Completion]:
        """Wait until at least one rollout has finished; empty only when none is in flight."""
        done: list[Completion] = []
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

    def progress(self) -> Figures:
        """Running are the rollouts whose reply has begun."""
        replies = list(self._replies)
        tokens = [reply.tokens for reply in replies]
        running = min(self._in_flight, sum(reply.progress > 0 for reply in replies))
        known = [number for number in tokens if number is not None]
        whole = len(known) == len(tokens)
        return Figures(running, self._in_flight - running, sum(known) if whole else None)

    def close(self) -> None:
        """Let go of the requests in flight; a server stops working on them."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has just ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(CLOSING)

    # The event loop's thread.

    def _run(self, started: threading.Event) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:
            self._died = error
            self._queue.put(error)
        finally:
            started.set()

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._slots = asyncio.Semaphore(self._limits.max_concurrency or sys.maxsize)
        self._tasks: set[asyncio.Task[None]] = set()
        async with AsyncExitStack() as open_sessions:
            self._sessions: list[aiohttp.ClientSession] = [
                await open_sessions.enter_async_context(session(server.url))
                for server in self._servers
            ]
            started.set()
            await self._stop.wait()
            while self._tasks:
                # Again and again: a library that is closing a connection may swallow one.
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks, timeout=CANCEL_EVERY)

    def _start(self, request: Request, asked: Json) -> None:
        task = self._loop.create_task(self._work(request, asked))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._queue.put(error)

    async def _work(self, request: Request, asked: Json) -> None:
        """One rollout, to its reply or to why there is none."""
        chain, attempts = chain_of(request.key), Attempts(self._limits.max_outage)
        while True:
            async with self._slots:
                server = self._fleet.choose(chain, self._loop.time(), attempts.rejected)
                accepted = self._fleet.accepted(server)
                sent = body(self._api, self._servers[server], request, asked, self._sampling)
                try:
                    return self._queue.put(await self._attempt(server, request, sent))
                except Fault as error:
                    fault = error
            now = self._loop.time()
            verdict = attempts.fault(server, fault, now, accepted)
            if verdict is None or not verdict.final:
                self._fleet.fault(server, fault, now)
            if verdict is not None:
                why = f"{masked_url(self._servers[server].url)}: {verdict.why}"
                final, unanswered = (why, None) if verdict.final else (None, why)
                ended = Completion(request.key, failure=final, unanswered=unanswered)
                return self._queue.put(ended)
            if fault.rejects and attempts.rejected > 1:
                await self._ask_another(server)
            longest = self._limits.max_outage
            await pause(retry.pause(attempts.faults, fault.asked_pause, longest, random.random()))

    async def _ask_another(self, server: int) -> None:
        """Something short, so that a server's refusals can be told from a bad spell of it where no
        other rollout is in flight."""
        request = Request(Key("", "", 0, 0), (), SHORT_REPLY, 0)
        sent = body(self._api, self._servers[server], request, self._api.short, self._sampling)
        reply = Streamed(request.max_tokens, self._api.piece)
        with suppress(Fault, asyncio.TimeoutError):
            await asyncio.wait_for(self._read(server, sent, reply), TRIAL)

    async def _attempt(self, server: int, request: Request, sent: bytes) -> Completion:
        """Send a request once and read its reply to the end. Raises Fault, fit to be shown."""
        reply = Streamed(request.max_tokens, self._api.piece)
        url = self._servers[server].url
        self._replies.add(reply)
        try:
            await self._read(server, sent, reply)
            return self._completion(server, request.key, reply)
        except Fault as fault:
            shown = printable(masked(str(fault), url))[:600]
            raise Fault(
                shown,
                fault.asked_pause,
                down=fault.down,
                rejects=fault.rejects,
                busy=fault.busy,
                broken=reply.progress > 0 and not fault.rejects,
            ) from None
        finally:
            self._replies.discard(reply)

    async def _read(self, server: int, sent: bytes, reply: Streamed) -> None:
        """Send a request and read its reply to the end."""
        import aiohttp

        url, timeout = self._servers[server].url, self._limits.request_timeout
        begun = self._loop.time()
        until = begun + timeout
        posted = self._sessions[server].post(
            f"{url}/{self._api.path}",
            data=sent,
            headers={"Content-Type": "application/json", **authorization()},
            allow_redirects=False,
        )
        try:
            async with await asyncio.wait_for(posted, timeout) as response:
                if (fault := await fault_in(response)) is not None:
                    raise fault
                silence = self._loop.call_at(until, response.close)  # which ends the wait for more
                try:
                    while not reply.done and (received := await whatever_is_there(response)):
                        known = reply.progress, reply.finish_reason
                        reply.feed(received)
                        now = self._loop.time()
                        if (reply.progress, reply.finish_reason) != known:
                            complete = reply.finish_reason is not None
                            until = now + (LAST_WORDS if complete else timeout)
                            silence.cancel()
                            silence = self._loop.call_at(until, response.close)
                            self._fleet.alive(server, begun if reply.has_text else None)
                        if len(received) < SHORT_READ and not reply.done:
                            wait = min(READ_EVERY, SHARE * (now - begun), until - now)
                            await leave_alone(response, wait)
                finally:
                    silence.cancel()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            if reply.finish_reason is None:
                why = reason(error, url)
                if self._loop.time() >= until:
                    why = f"nothing new for {timeout:g} seconds (--request_timeout)"
                raise Fault(why, down=not reply.progress) from None
        reply.end()
        self._fleet.alive(server, begun if reply.has_text else None)

    def _completion(self, server: int, key: Key, reply: Streamed) -> Completion:
        """A reply as the run gets it; text that its token ids contradict is reported, once for a
        server."""
        url, completion = self._servers[server].url, self._api.completion(key, reply, self._chat)
        finish_reason = printable(masked(str(reply.finish_reason), url))
        if not completion.text.strip():
            # A seeded request repeats itself, so this may be the request's own.
            usual = reply.finish_reason in ("stop", "length")
            why = EMPTY + ("" if usual else f" ({finish_reason})")
            raise Fault(why, rejects=True)
        differs = reply.ids is not None and contradict(completion.text, reply.text)
        if differs and server not in self._contradicted:
            self._contradicted.add(server)
            say(
                f"{masked_url(url)}: the text of a reply and its token ids contradict each "
                "other; the ids are used. Is --model_name the model that it serves?"
            )
        return replace(completion, finish_reason=finish_reason)


async def whatever_is_there(response: aiohttp.ClientResponse) -> bytes:
    """The next bytes of a body; none at its end. What came right before the connection broke off
    may be the end of a reply, but the library keeps it behind its error."""
    import aiohttp

    try:
        return await response.content.readany()
    except aiohttp.ClientPayloadError:
        if left := response.content._read_nowait(-1):
            return left
        raise


async def leave_alone(response: aiohttp.ClientResponse, seconds: float) -> None:
    """Let what a server sends pile up in the kernel; nothing wakes up for it meanwhile."""
    transport = None if response.connection is None else response.connection.transport
    if transport is not None:  # else all of it is there
        transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            transport.resume_reading()


def contradict(decoded: str, text: str) -> bool:
    """Whether a server's text is not what its token ids stand for. Blanks, and characters that
    are cut in two, come out differently where a text is decoded piece by piece."""
    beginnings = [
        "".join(each[: 4 * COMPARED].replace("\ufffd", "").split())[:COMPARED]
        for each in (decoded, text)
    ]
    size = min(map(len, beginnings))
    return beginnings[0][:size] != beginnings[1][:size]


def say(line: str) -> None:
    """A line above the progress bar."""
    tqdm.write(printable(line), file=sys.stderr)


def allow_connections() -> None:
    """Let this process have thousands of connections: a usual soft limit is 1,024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
