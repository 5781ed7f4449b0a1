"""An engine that asks scripted servers, and what to ask and expect of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from helpers.fakes import K
from helpers.http_server import (
    Answer,
    Behaviour,
    Received,
    Scripted,
    Server,
    SharedChat,
    as_vllm,
    delta,
)
from helpers.scripted import Ran, run_script
from kflow.engines.openai_engine import retry, roster, servers
from kflow.engines.openai_engine.api import COMPLETIONS, Api
from kflow.engines.openai_engine.openai import Limits, OpenAIEngine
from kflow.results import description
from kflow.types import Chat, Completion, Request

SECRET = "sk-this-is-secret"
OUTAGE = 1000.0  # seconds: never, in a test
CHAT = SharedChat()
PROMPT = tuple(CHAT.encode("Why is that so?"))


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses too short to notice, and a key."""
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(retry, "ASK_AGAIN", 0.02)
    monkeypatch.setattr(retry, "ACCOUNT_PATIENCE", 0.05)
    monkeypatch.setattr(servers, "FIRST_WORDS", 0.05)
    monkeypatch.setattr(roster, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(roster, "TRY_AGAIN", 0.02)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


def flags(*servers: Server | str) -> list[str]:
    """For a script that asks servers with the completions API."""
    return ["--engine", "openai", "--served_model_name", "model", *addresses(*servers)]


def addresses(*servers: Server | str) -> list[str]:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return [word for url in urls for word in ("--base_url", url)]


def run(script: str, scripted: Scripted, argv: Sequence[str], folder: Path) -> Ran:
    return run_script(script, list(argv), folder, served=scripted.chat)


def start(
    running: ExitStack,
    *behaviours: Behaviour,
    timeout: float = 30.0,
    outage: float = OUTAGE,
    concurrency: int | None = None,
    kind: str = "vllm",
    api: Api = COMPLETIONS,
    chat: Chat = CHAT,
    sampling: dict[str, object] | None = None,
) -> tuple[OpenAIEngine, list[Server]]:
    """An engine and the servers it asks, one for each behaviour."""
    up = [running.enter_context(Server(behaviour)) for behaviour in behaviours]
    fleet = [description.Server(server.url, "model", kind, "0.10.2", None) for server in up]
    limits = Limits(concurrency, timeout, outage)
    engine = OpenAIEngine(fleet, sampling or {"temperature": 0.6}, chat, limits, api)
    return running.enter_context(closing(engine)), up


def request(number: int = 0, step: int = 0, max_tokens: int = 50) -> Request:
    return Request(K(f"p{number}", 0, step), PROMPT, max_tokens, 1000 * step + number)


def ask(engine: OpenAIEngine, *requests: Request) -> dict[str, Completion]:
    """All completions by problem; every request gets exactly one, earlier ones too."""
    for each in requests:
        engine.submit(each)
    done: list[Completion] = []
    while completions := engine.completions():
        done += completions
    by_problem = {completion.key.problem: completion for completion in done}
    assert len(by_problem) == len(done)
    assert by_problem.keys() >= {each.key.problem for each in requests}
    return by_problem


def reply_to(received: Received) -> str:
    return f"Reply to {received.body['seed']} as asked."


async def well(received: Received, answer: Answer) -> None:
    await answer.stream(*as_vllm(CHAT, reply_to(received)))


def at_first(times: int, fault: Behaviour) -> Behaviour:
    """The fault for the first requests, then good replies."""

    async def behave(received: Received, answer: Answer) -> None:
        await (fault if received.number < times else well)(received, answer)

    return behave


def good(number: int, step: int = 0) -> Completion:
    text = f"Reply to {1000 * step + number} as asked."
    return Completion(K(f"p{number}", 0, step), text, CHAT.count(text), "stop")


async def hang_mid_stream(received: Received, answer: Answer) -> None:
    await answer.stream(delta("Half", [1]))
    await asyncio.sleep(3600)


def status(number: int, **headers: str) -> Behaviour:
    async def refuse(received: Received, answer: Answer) -> None:
        await answer.whole(number, b'{"error": {"message": "not now"}}', **headers)

    return refuse
