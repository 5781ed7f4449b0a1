"""Servers with the OpenAI completions API behind submit/completions.

Requests live in an event loop of a thread of its own, each in one task that sends it, reads its
stream and sends it again after a fault; finished replies come out of a queue. Prompts are rendered
and replies decoded on this side, so that a method sees what it would see of the offline engine.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from ..terminal import printable
from ..types import Chat, Completion, Key, Record, Request
from . import retry
from .retry import Fault, Fleet
from .servers import (
    CONNECT_TIMEOUT,
    Server,
    Unanswered,
    body,
    hide_key,
    http_client,
    openai_client,
    reason,
)
from .streamed import Implausible, Streamed

if TYPE_CHECKING:
    from openai import AsyncOpenAI

pause = asyncio.sleep
# Waking up for every token of every stream is most of the work of reading them: after the first
# reads, what comes within half a second is read together.
PROMPT_READS, READ_EVERY = 32, 0.5  # seconds
MOST_FILES = 65_536
CANCEL_EVERY = 0.2  # seconds
CLOSING = 2.0  # seconds that requests in flight get to let go of their connections


@dataclass(frozen=True)
class Limits:
    """max_concurrency: requests in flight at a time, None: all. request_timeout: seconds without
    a single byte after which a request is taken for lost. max_outage: seconds without a sign of
    life from any server after which the run ends."""

    max_concurrency: int | None
    request_timeout: float
    max_outage: float


class Finished(NamedTuple):
    """What became of a request: a reply, or why there is none."""

    key: Key
    reply: Streamed | None
    failure: str | None = None


class OpenAIEngine:
    """Requests in, completions out as they finish.

    sampling: what every request shares. as_text: send prompts as text, for servers that take no
    token ids.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        sampling: Mapping[str, object],
        chat: Chat,
        limits: Limits,
        as_text: bool = False,
    ) -> None:
        self._servers, self._sampling, self._chat = servers, sampling, chat
        self._limits, self._as_text = limits, as_text
        self._fleet = Fleet([server.url for server in servers], limits.max_outage, say)
        self._in_flight = self._succeeded = 0
        self._queue: SimpleQueue[Finished | BaseException] = SimpleQueue()
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
        prompt: Sequence[int] | str = list(request.prompt_ids)
        if self._as_text:
            prompt = self._chat.decode(list(request.prompt_ids), skip_special_tokens=False)
        self._in_flight += 1
        self._loop.call_soon_threadsafe(self._start, request, prompt)

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
                done.append(self._completion(item))
        if self._died is not None and not done:
            raise self._died
        return done

    def _completion(self, finished: Finished) -> Completion:
        key, reply = finished.key, finished.reply
        if reply is None:
            return Completion(key, failure=finished.failure)
        if reply.ids is None:
            used = self._chat.count(reply.text) if reply.used is None else reply.used
            return Completion(key, reply.text, used, reply.finish_reason)
        try:
            text = self._chat.decode(reply.ids, skip_special_tokens=True)
        except Exception as error:  # whatever a tokenizer raises for ids it does not have
            return Completion(key, failure=f"the server's token ids are none of ours ({error})")
        return Completion(key, text, len(reply.ids), reply.finish_reason)

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
        async with AsyncExitStack() as open_clients:
            self._clients: list[AsyncOpenAI] = []
            for server in self._servers:
                http = http_client(server.url, self._limits.max_concurrency)
                await open_clients.enter_async_context(http)
                self._clients.append(openai_client(server.url, http))
            started.set()
            await self._stop.wait()
            while self._tasks:
                # Again and again: a library that is closing a connection may swallow one.
                for task in self._tasks:
                    task.cancel()
                await asyncio.wait(self._tasks, timeout=CANCEL_EVERY)

    def _start(self, request: Request, prompt: Sequence[int] | str) -> None:
        task = self._loop.create_task(self._work(request, prompt))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._queue.put(error)

    async def _work(self, request: Request, prompt: Sequence[int] | str) -> None:
        """One rollout, to its reply or to the failure that stands for it."""
        chain = (request.key.problem, request.key.seed)
        faults, own_faults, succeeded = 0, 0, self._succeeded
        while True:
            async with self._slots:
                server = self._fleet.choose(chain, self._loop.time())
                asked = body(self._servers[server], request, prompt, self._sampling)
                try:
                    reply = await self._attempt(server, asked, request.max_tokens)
                except Fault as error:
                    fault = error
                except (Unanswered, Implausible) as error:
                    return self._fail(request.key, server, error)
                else:
                    self._succeeded += 1
                    return self._queue.put(Finished(request.key, reply))
            self._fleet.fault(server, fault, self._loop.time())
            faults, own_faults = faults + 1, own_faults + fault.own
            if own_faults >= retry.OWN_FAULTS and self._succeeded > succeeded:
                return self._fail(request.key, server, fault)
            longest = self._limits.max_outage
            await pause(retry.pause(faults, fault.asked_pause, longest, random.random()))

    def _fail(self, key: Key, server: int, error: Exception) -> None:
        why = f"{self._servers[server].url}: {hide_key(str(error))}"
        self._queue.put(Finished(key, None, printable(why)))

    async def _attempt(self, server: int, asked: Record, max_tokens: int) -> Streamed:
        """Send a request once and read its stream to the end."""
        import httpx2
        import openai

        reply, reads = Streamed(max_tokens), 0
        timeout = httpx2.Timeout(
            self._limits.request_timeout, connect=CONNECT_TIMEOUT, pool=None, write=CONNECT_TIMEOUT
        )
        create = self._clients[server].completions.with_streaming_response.create
        try:
            async with create(**asked, timeout=timeout) as response:  # type: ignore[call-overload]
                async for chunk in response.http_response.aiter_raw():
                    self._fleet.alive(server)
                    reply.feed(chunk)
                    if reply.done:
                        break
                    reads += 1
                    if reads > PROMPT_READS:
                        await asyncio.sleep(READ_EVERY)
            reply.end()
        except Unanswered as error:
            verdict = error.fault()
            if verdict is error:
                self._fleet.alive(server)
            raise verdict from None
        except (openai.OpenAIError, httpx2.HTTPError, OSError) as error:
            if reply.finish_reason is None:
                raise Fault(reason(error), down=not reads, own=bool(reads)) from None
        return reply


def say(line: str) -> None:
    """A line above the progress bar."""
    tqdm.write(printable(line), file=sys.stderr)


def allow_connections() -> None:
    """Let this process have thousands of connections: a usual soft limit is 1,024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
