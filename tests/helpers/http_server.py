"""A scripted HTTP server on loopback that speaks either of the APIs, well or badly."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from helpers.fakes import K, Script, ScriptedChat, obliging
from helpers.scripted import QUESTIONS
from kflow.results.rollout import sampling_seed
from kflow.types import Completion, Key, Request

DONE = b"data: [DONE]\n\n"
SEEDS = (1 << 31) - 1  # what a server gets of a seed
TRIAL = "Reply with one word"  # what each server is asked before the run


class SharedChat(ScriptedChat):
    """A chat format that both ends of a connection use, each in its thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def encode(self, text: str) -> list[int]:
        with self._lock:
            return super().encode(text)


@dataclass(frozen=True)
class Received:
    """One request as it arrived. number: how many came before it; again: how many of these with its
    seed, where that is counted."""

    path: str
    headers: Mapping[str, str]
    body: Any
    number: int = 0
    again: int = 0


class Answer:
    """The way back: what is written is on its way at once."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, *contents: bytes) -> None:
        for content in contents:
            self._writer.write(content)
            await self._writer.drain()

    async def whole(self, status: int, body: bytes = b"", **headers: str) -> None:
        lines = f"HTTP/1.1 {status} Scripted\r\nContent-Length: {len(body)}\r\n"
        await self.send(lines.encode() + header_lines(headers) + b"\r\n" + body)

    async def begin(self) -> None:
        """A stream that ends with its connection."""
        await self.send(STREAM + b"\r\n")

    async def stream(self, *events: bytes) -> None:
        await self.begin()
        await self.send(*events)

    async def stream_in_chunks(self, *events: bytes, **headers: str) -> None:
        """As uvicorn sends a stream: an HTTP chunk for each event."""
        await self.send(STREAM + header_lines(headers) + CHUNKED + b"\r\n")
        await self.send(b"".join(map(http_chunk, events)) + b"0\r\n\r\n")

    def reset(self) -> None:
        """Drop the connection in the middle of whatever it was."""
        self._writer.transport.abort()


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def header_lines(headers: Mapping[str, str]) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return "".join(lines).encode("utf-8", "surrogateescape")


def http_chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


Behaviour = Callable[[Received, Answer], Awaitable[None]]


def event(**chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def delta(text: str, ids: list[int] | None = None, finish: str | None = None) -> bytes:
    choice: dict[str, object] = {"index": 0, "text": text, "finish_reason": finish}
    return event(choices=[choice if ids is None else {**choice, "token_ids": ids}])


def message(finish: str | None = None, **fields: object) -> bytes:
    """A piece of a chat completion."""
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": finish}])


def usage(tokens: object, **more: object) -> bytes:
    return event(choices=[], usage={"completion_tokens": tokens, **more})


def as_vllm(chat: ScriptedChat, text: str) -> list[bytes]:
    """A reply in three chunks, with the token ids and the count that vLLM sends."""
    ids = chat.encode(text)
    cuts = [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
    parts = [delta(chat.decode(cut, True), cut) for cut in cuts]
    return [*parts, delta("", [], "stop"), usage(len(ids)), DONE]


def chunks(*events: bytes) -> Behaviour:
    async def send(received: Received, answer: Answer) -> None:
        await answer.stream(*events)

    return send


@dataclass
class Scripted:
    """What rollouts are answered, found by their sampling seeds, in the order they are asked.

    script: as for ScriptedEngine. before: what is done first; True: that was all.
    """

    chat: SharedChat = field(default_factory=SharedChat)
    script: Script = obliging
    before: Callable[[Received, Answer, Key], Awaitable[bool]] | None = None
    seeds: int = 4
    steps: int = 4
    problems: Iterable[str] = tuple(name for name, _, _ in QUESTIONS)

    def __post_init__(self) -> None:
        self.keys = {
            sampling_seed(0, seed, problem, step) & SEEDS: K(problem, seed, step)
            for problem in self.problems
            for seed in range(self.seeds)
            for step in range(self.steps)
        }

    async def __call__(self, received: Received, answer: Answer) -> None:
        prompt = received.body["prompt"]
        text = prompt if isinstance(prompt, str) else self.chat.decode(prompt, False)
        if TRIAL in text:
            return await answer.stream(*as_vllm(self.chat, "Yes."))
        key = self.keys[received.body["seed"]]
        if self.before is not None and await self.before(received, answer, key):
            return
        ids = prompt if isinstance(prompt, list) else self.chat.encode(prompt)
        request = Request(key, tuple(ids), received.body["max_tokens"], received.body["seed"])
        reply = self.script(request, text)
        assert not isinstance(reply, Completion)
        await answer.stream(*as_vllm(self.chat, reply))


class Listener:
    """An HTTP server in a thread, for one request a connection; what it answers is up to those who
    inherit from it."""

    host, port = "127.0.0.1", 0

    async def answer(
        self, path: str, headers: Mapping[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.open()

    def open(self) -> None:
        """Take connections, at the same port as before."""
        self._do(self._listen())

    def shut(self) -> None:
        """Stop as a killed process does: refuse connections and reset those there are."""
        self._do(self._die())

    def close(self) -> None:
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._writers: dict[asyncio.Task[Any] | None, asyncio.StreamWriter] = {}
        self._server = await asyncio.start_server(self._serve, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _die(self) -> None:
        self._server.close()
        for task, writer in list(self._writers.items()):
            writer.transport.abort()
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[asyncio.current_task()] = writer
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                await self.answer(first.split()[1], headers, content, writer)
        finally:
            self._writers.pop(asyncio.current_task(), None)
            writer.close()


@dataclass
class Server(Listener):
    """Running while it is entered. behaviour: of POST to either API. card, version: what
    /v1/models says of the one model, and /version; models: all that /v1/models answers instead, to
    the first looks alone where `loading` is their number. prefix: what stands before /v1. reads:
    the text of any token ids, at /detokenize."""

    behaviour: Behaviour
    card: Mapping[str, object] = field(default_factory=lambda: {"id": "model", "owned_by": "vllm"})
    version: str | None = "0.10.2"
    models: bytes | None = None
    models_status: int = 200
    loading: int = 0
    prefix: str = ""
    reads: str | None = None
    port: int = 0
    host: str = "127.0.0.1"
    received: list[Received] = field(default_factory=list)
    looked: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.prefix}/v1"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def answer(
        self, path: str, headers: Mapping[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> None:
        path, answer = path.removeprefix(self.prefix), Answer(writer)
        if path in ("/v1/completions", "/v1/chat/completions"):
            received = Received(path, headers, json.loads(content), len(self.received))
            self.received.append(received)
            return await self.behaviour(received, answer)
        self.looked.append(Received(path, headers, None, len(self.looked)))
        if path == "/v1/models":
            if 0 < self.loading < len(self.looked):
                self.models, self.models_status = None, 200
            listed = {"object": "list", "data": [self.card]}
            body = json.dumps(listed).encode() if self.models is None else self.models
            return await answer.whole(self.models_status, body)
        if path == "/version" and self.version is not None:
            return await answer.whole(200, json.dumps({"version": self.version}).encode())
        if path == "/detokenize" and self.reads is not None:
            return await answer.whole(200, json.dumps({"content": self.reads}).encode())
        await answer.whole(200 if path == "/health" else 404)
