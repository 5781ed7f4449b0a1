"""The scripted HTTP server with many modes: the first part of the path says how it lies.

    PYTHONPATH=../scripts python -m adversary.liar 9102      # from tests/

and --base_url http://127.0.0.1:9102/MODE/v1. A lie can be any bytes. `good` is what an honest vLLM
does; its replies depend on the request's seed alone.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import openai_harmony as harmony

from helpers import http_server
from helpers.http_server import CHUNKED, DONE, STREAM, Listener, header_lines, http_chunk

Chunk = dict[str, Any]


class Received(http_server.Received):
    """Counted among those of its mode."""

    @property
    def prompt(self) -> str:
        prompt = self.body["prompt"]
        return prompt if isinstance(prompt, str) else encoding().decode(prompt)


class Way(http_server.Answer):
    async def stream(self, *events: bytes, **headers: str) -> None:
        """A 200 of server-sent events, one HTTP chunk for each, each on its way at once."""
        head = STREAM + header_lines(headers) + CHUNKED + b"\r\n"
        await self.send(head, *map(http_chunk, events), b"0\r\n\r\n")


Behaviour = Callable[[Received, Way], Awaitable[None]]


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


class Liar(Listener):
    """The server. `heal` makes a mode honest from then on."""

    def __init__(self, modes: Mapping[str, Mode], port: int = 0) -> None:
        self._modes, self._healed, self.port = modes, set[str](), port
        self.received: dict[str, list[Received]] = defaultdict(list)
        encoding()
        self.start()

    def url(self, mode: str) -> str:
        return f"http://127.0.0.1:{self.port}/{mode}/v1"

    def heal(self, mode: str) -> None:
        self._healed.add(mode)

    async def answer(
        self, path: str, headers: Mapping[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> None:
        name, way = path.split("/")[1], Way(writer)
        mode = Mode() if name in self._healed else self._modes.get(name, Mode())
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
