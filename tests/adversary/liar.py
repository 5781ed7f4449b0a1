"""One HTTP server with many modes: the first part of the path says how it lies.

    python -m adversary.liar 9102      # from tests/; then --base_url http://127.0.0.1:9102/MODE/v1

It is written on raw sockets, so that a lie can be any bytes. `good` is what an honest vLLM does;
its replies depend on the request's seed alone.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import openai_harmony as harmony

Chunk = dict[str, Any]


@dataclass(frozen=True)
class Received:
    """One request. number: of those of this mode before it; again: of those with its seed."""

    path: str
    headers: Mapping[str, str]
    body: Any
    number: int = 0
    again: int = 0

    @property
    def prompt(self) -> str:
        prompt = self.body["prompt"]
        return prompt if isinstance(prompt, str) else encoding().decode(prompt)


class Way:
    """The way back; what is sent is on its way at once."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, *contents: bytes) -> None:
        for content in contents:
            self._writer.write(content)
            await self._writer.drain()

    async def whole(self, status: int, body: bytes, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Some", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogateescape") + body)

    async def stream(self, *events: bytes, **headers: str) -> None:
        """A 200 of server-sent events, one HTTP chunk for each, as uvicorn sends them."""
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        await self.send(STREAM + more.encode() + CHUNKED + b"\r\n", *map(http_chunk, events))
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        self._writer.transport.abort()


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
DONE = b"data: [DONE]\n\n"
Behaviour = Callable[[Received, Way], Awaitable[None]]


def http_chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


@cache
def encoding() -> harmony.HarmonyEncoding:
    return harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)


@cache
def reply_ids(seed: int) -> list[int]:
    text = (
        f"<|channel|>analysis<|message|>Thinking of {seed}, at length.<|end|><|start|>assistant"
        "<|channel|>final<|message|>[Why the reference solution is wrong?]: It counted "
        f"{seed % 97} twice.\n\n[Summary]: Count «é» houses from {seed % 89} on, 日本 \U0001f600."
        f"\n\n[Answer]: \\boxed{{{100 + seed % 3}}}<|return|>"
    )
    return list(encoding().encode(text, allowed_special="all"))


def plain(ids: list[int]) -> str:
    return str(encoding().decode([i for i in ids if not encoding().is_special_token(i)]))


@cache
def reply_text(seed: int) -> str:
    return plain(reply_ids(seed))


def chunks(seed: int, ids: bool = True) -> list[Chunk]:
    """A good reply as the JSON of its events: three pieces, the end, the usage. Cuts are made
    where a piece is text by itself. ids: with the token ids, which only vLLM sends."""
    all_ids = reply_ids(seed)
    if not ids:
        text = reply_text(seed)
        pieces: list[Chunk] = [{"text": text[at : at + 40]} for at in range(0, len(text), 40)]
    else:
        cuts = [all_ids[:8], all_ids[8:20], all_ids[20:]]
        pieces = [{"text": plain(cut), "token_ids": cut} for cut in cuts]
    end: Chunk = {"text": "", "finish_reason": "stop"} | ({"token_ids": []} if ids else {})
    choices = [{"index": 0, "finish_reason": None, **piece} for piece in [*pieces, end]]
    usage = {"prompt_tokens": 10, "completion_tokens": len(all_ids), "total_tokens": 0}
    events: list[Chunk] = [{"id": "c", "choices": [choice]} for choice in choices]
    return [*events, {"id": "c", "choices": [], "usage": usage}]


def event(chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def events(seed: int, ids: bool = True) -> list[bytes]:
    return [*map(event, chunks(seed, ids)), DONE]


async def good(received: Received, way: Way) -> None:
    await way.stream(*events(received.body["seed"]))


CARD = {"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 131072}


def listing(*cards: object) -> bytes:
    return json.dumps({"object": "list", "data": cards}).encode()


async def good_models(received: Received, way: Way) -> None:
    await way.whole(200, listing(CARD), Content_Type="application/json", Connection="close")


async def good_version(received: Received, way: Way) -> None:
    await way.whole(200, b'{"version": "0.10.2"}', Connection="close")


@dataclass(frozen=True)
class Mode:
    """What the server does at each of its addresses."""

    completions: Behaviour = good
    models: Behaviour = good_models
    version: Behaviour = good_version


class Liar:
    """The server, in a thread. `heal` makes a mode honest from then on."""

    def __init__(self, modes: Mapping[str, Mode], port: int = 0) -> None:
        self._modes, self._healed = modes, set[str]()
        self.received: dict[str, list[Received]] = defaultdict(list)
        self._loop = asyncio.new_event_loop()
        encoding()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", port, backlog=1024)
        server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port = server.sockets[0].getsockname()[1]

    def url(self, mode: str) -> str:
        return f"http://127.0.0.1:{self.port}/{mode}/v1"

    def heal(self, mode: str) -> None:
        self._healed.add(mode)

    def close(self) -> None:
        async def stop() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(stop(), self._loop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._answer(first.split()[1], headers, content, Way(writer))
            finally:
                writer.close()

    async def _answer(
        self, path: str, headers: Mapping[str, str], content: bytes, way: Way
    ) -> None:
        name = path.split("/")[1]
        mode = self._modes.get(name, Mode())
        mode = Mode() if name in self._healed else mode
        if not path.endswith("/v1/completions"):
            behave = mode.models if path.endswith("/models") else mode.version
            return await behave(Received(path, headers, None), way)
        body, before = json.loads(content), self.received[name]
        again = sum(received.body["seed"] == body["seed"] for received in before)
        received = Received(path, headers, body, len(before), again)
        before.append(received)
        await mode.completions(received, way)


if __name__ == "__main__":
    import sys

    from adversary.lies import MODES

    print(Liar(MODES, int(sys.argv[1])).url("MODE"), *sorted(MODES), flush=True)
    threading.Event().wait()
