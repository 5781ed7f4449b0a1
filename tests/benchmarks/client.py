"""What streamed replies cost the client: CPU time per token, and time against curl.

    python tests/benchmarks/client.py [--streams 64] [--tokens 2000] [--rate 200]

A uvicorn server in a separate process sends replies as vLLM does: an event, and so an HTTP
chunk, for every token or for 16 (`stream_interval`), with token ids, `--rate` tokens/s per stream.
They are read by the engine of --engine openai, by curl, which discards them, and by the official
client's stream. The slowdown is the time until the last reply has ended, divided by
curl's. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import uvicorn
from openai import AsyncOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from kflow.engines.openai_engine.openai import Limits, OpenAIEngine
from kflow.results.description import Server
from kflow.types import Key, Prompt, Request


class Words:
    """A chat format whose decoding costs next to nothing."""

    stop_token_ids: tuple[int, ...] = ()

    def render(self, prompt: Prompt) -> list[int]:
        return []

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "word " * len(ids)

    def count(self, text: str) -> int:
        return len(text.split())


def chunk(tokens: int, finish: str | None) -> bytes:
    choice = {"index": 0, "text": "word " * tokens, "logprobs": None, "finish_reason": finish}
    choice |= {"stop_reason": None, "prompt_token_ids": None, "token_ids": [4093] * tokens}
    body = {"id": "cmpl-8481187d20792ea8", "object": "text_completion", "created": 1795426418}
    body |= {"model": "openai/gpt-oss-120b", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def serve(listening: socket.socket, rate: float) -> None:
    async def app(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        received, more = b"", True
        while more:
            message = await receive()
            received, more = received + message["body"], message["more_body"]
        asked = json.loads(received)
        interval, tokens = asked["stream_interval"], asked["max_tokens"]
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        loop = asyncio.get_running_loop()
        begun, whole = loop.time(), chunk(interval, None)
        for sent in range(0, tokens, interval):
            size = min(interval, tokens - sent)
            await asyncio.sleep(begun + (sent + size) / rate - loop.time())
            event = whole if sent + size < tokens else chunk(size, "length")
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    config = uvicorn.Config(app, log_level="error", lifespan="off", backlog=1024)
    uvicorn.Server(config).run([listening])


def engine(url: str, streams: int, tokens: int, interval: int) -> int:
    """Tokens received."""
    server = Server(url, "model", "vllm", None, None)
    sampling = {"stream_interval": interval}
    received = 0
    with closing(OpenAIEngine([server], sampling, Words(), Limits(None, 600, 60))) as asked:
        for number in range(streams):
            asked.submit(Request(Key("", str(number), 0, 0), (1,) * 1000, tokens, 0))
        while completions := asked.completions():
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
        async with AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
            return sum(await asyncio.gather(*(one(client) for _ in range(streams))))

    return asyncio.run(run())


def curl(url: str, streams: int, tokens: int, interval: int) -> int:
    """Tokens sent to it."""
    data = json.dumps({"max_tokens": tokens, "stream_interval": interval})
    command = ["curl", "--silent", "--no-progress-meter", "--fail", "--no-buffer", "--data", data]
    command += ["--parallel", "--parallel-immediate", "--parallel-max", str(streams)]
    for _ in range(streams):
        command += ["--output", "/dev/null", f"{url}/completions"]
    subprocess.run(command, check=True)
    return streams * tokens


Read = Callable[[str, int, int, int], int]


def measure(read: Read, url: str, streams: int, tokens: int, interval: int) -> tuple[float, float]:
    """Seconds on the clock, and microseconds of this process's CPU time per token."""
    cpu, clock = time.process_time(), time.monotonic()
    received = read(url, streams, tokens, interval)
    assert received == streams * tokens, (received, streams * tokens)
    return time.monotonic() - clock, 1e6 * (time.process_time() - cpu) / received


def benchmark(streams: int, tokens: int, rate: float) -> dict[str, object]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    spawn = multiprocessing.get_context("spawn")
    server = spawn.Process(target=serve, args=(listening, rate))
    server.start()
    figures: dict[str, object] = {"benchmark": "client", "streams": streams, "tokens": tokens}
    try:
        for read in (engine, official, curl):
            read(url, 1, 1, 1)  # imports and first connections do not count
        for interval in (1, 16):
            _, figures[f"engine_us_per_token_{interval}_a_chunk"] = (
                round(figure, 1) for figure in measure(engine, url, streams, tokens, interval)
            )
            _, figures[f"official_us_per_token_{interval}_a_chunk"] = (
                round(figure, 1)
                for figure in measure(official, url, streams, tokens // 10, interval)
            )
        for number in sorted({1, streams}):
            ours, _ = measure(engine, url, number, tokens, 1)
            curls, _ = measure(curl, url, number, tokens, 1)
            figures[f"slowdown_{number}_streams"] = round(ours / curls, 3)
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
    parser.add_argument("--rate", type=float, default=200.0)
    options = parser.parse_args()
    print(json.dumps(benchmark(options.streams, options.tokens, options.rate)))
