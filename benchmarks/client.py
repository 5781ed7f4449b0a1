"""What streamed replies cost the client: CPU time per token with many streams at once.

    python benchmarks/client.py [--streams 64] [--tokens 2000] [--rate 50]

A server in a process of its own sends chunks as vLLM does, with token ids, each stream at `--rate`
tokens/s, one token a chunk or 16 (`stream_interval`, which the engine asks for). The client is the
engine of --engine openai, reading the official client's raw stream; and, for comparison, the
official client's own reading of the same stream. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

from openai import AsyncOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from kflow.engines.openai import Limits, OpenAIEngine
from kflow.engines.servers import Server, http_client, openai_client
from kflow.types import Key, Prompt, Request

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


class Words:
    """A chat format whose decoding costs next to nothing."""

    stop_token_ids: tuple[int, ...] = ()

    def render(self, prompt: Prompt) -> list[int]:
        return []

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "word " * len(ids)

    def count(self, text: str) -> int:
        return len(text.split())

    def visible(self, text: str) -> str:
        return text


def chunk(tokens: int, finish: str | None) -> bytes:
    choice = {"index": 0, "text": " word" * tokens, "logprobs": None, "finish_reason": finish}
    choice |= {"stop_reason": None, "prompt_token_ids": None, "token_ids": [4093] * tokens}
    body = {"id": "cmpl-8481187d20792ea8", "object": "text_completion", "created": 1795426418}
    body |= {"model": "openai/gpt-oss-120b", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def serve(port: Connection, rate: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        asked = json.loads(await reader.readexactly(length))
        interval, left = asked["stream_interval"], asked["max_tokens"]
        writer.write(HEAD)
        while left > 0:
            await asyncio.sleep(interval / rate)
            tokens = min(interval, left)
            left -= tokens
            writer.write(chunk(tokens, None if left else "length"))
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def ours(url: str, streams: int, tokens: int, interval: int) -> int:
    """Tokens received."""
    server = Server(url, "model", "vllm", None, None)
    sampling = {"stream_interval": interval}
    engine = OpenAIEngine([server], sampling, Words(), Limits(None, 60, 60))
    received = 0
    with closing(engine):
        for number in range(streams):
            engine.submit(Request(Key(str(number), 0, 0), (1,) * 1000, tokens, 0))
        while completions := engine.completions():
            received += sum(completion.tokens for completion in completions)
    return received


def official(url: str, streams: int, tokens: int, interval: int) -> int:
    """Tokens received."""

    async def one(client: AsyncOpenAI) -> int:
        stream = await client.completions.create(
            model="model",
            prompt=[1] * 1000,
            max_tokens=tokens,
            stream=True,
            extra_body={"stream_interval": interval},
        )
        texts = [part.choices[0].text async for part in stream]
        return len("".join(texts).split())

    async def run() -> int:
        async with http_client(url, None) as http:
            client = openai_client(url, http)
            return sum(await asyncio.gather(*(one(client) for _ in range(streams))))

    return asyncio.run(run())


def benchmark(streams: int, tokens: int, rate: float) -> dict[str, object]:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there, rate))
    server.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    figures: dict[str, object] = {"benchmark": "client", "streams": streams, "tokens": tokens}
    try:
        for name, read in (("engine", ours), ("official", official)):
            read(url, 1, 1, 1)  # imports and first connections do not count
            for interval in (1, 16):
                before = time.process_time()
                received = read(url, streams, tokens, interval)
                assert received == streams * tokens, (received, streams * tokens)
                spent = time.process_time() - before
                figures[f"{name}_us_per_token_{interval}_a_chunk"] = round(
                    1e6 * spent / received, 1
                )
    finally:
        server.terminate()
        server.join()
    return {**figures, "rate": rate, "cpus": os.cpu_count()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=50.0)
    options = parser.parse_args()
    print(json.dumps(benchmark(options.streams, options.tokens, options.rate)))
