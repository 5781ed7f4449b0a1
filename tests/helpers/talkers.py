"""Scripted servers with chat completions, and whole scripts that ask them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.fakes import obliging
from helpers.http_server import (
    DONE,
    SEEDS,
    TRIAL,
    Answer,
    Received,
    Server,
    SharedChat,
    event,
    message,
    usage,
)
from helpers.scripted import QUESTIONS, Ran, run_script
from helpers.served import addresses
from kflow.results.rollout import sampling_seed
from kflow.types import Key, Request

OSS = "vllm_kflow_oss"
STEPS = ["--reflex_size", "3"]
SLOTS = 4
LISTED = {"id": "some/model", "owned_by": "someone"}
Rule = Callable[[Received, Answer], Awaitable[bool]]


async def nothing(received: Received, answer: Answer) -> bool:
    return False


@dataclass
class Talker:
    """Answers rollouts, found by their sampling seeds, with the thinking beside the text. counts:
    whether it says how many tokens there were. before: what is done first; True: that was all.
    cost, provider: what it says of a reply beside that. rollouts: those it was asked, in order,
    without what each server is asked before the run."""

    counts: bool = True
    before: Rule = nothing
    cost: float | None = None
    provider: str | None = None
    rollouts: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._keys = {
            sampling_seed(0, 0, problem, step, slot) & SEEDS: Key("", problem, 0, step, slot)
            for problem, _, _ in QUESTIONS
            for step in range(5)
            for slot in range(SLOTS)
        }

    def key(self, received: Received) -> Key:
        """Whose rollout this is."""
        return self._keys.get(received.body.get("seed", -1), Key("", "p", 0, 0))

    async def __call__(self, received: Received, answer: Answer) -> None:
        if not is_trial(received):
            self.rollouts.append(received)
        if await self.before(received, answer):
            return
        if is_trial(received):
            return await answer.stream(message(content="Yes."), message("stop"), DONE)
        thoughts, text = self.reply(received)
        charged = {} if self.cost is None else {"cost": self.cost}
        counted = usage(200, prompt_tokens=100, total_tokens=300, **charged)
        await answer.stream(
            message(role="assistant", reasoning_content=thoughts),
            message("stop", content=text),
            *([event(choices=[], provider=self.provider)] if self.provider else []),
            *([counted] if self.counts else []),
            DONE,
        )

    def reply(self, received: Received) -> tuple[str, str]:
        """The reasoning and the text of a good reply."""
        prompt = received.body["messages"][-1]["content"]
        whole = obliging(Request(self.key(received), (), 1, 0), prompt)
        thoughts, text = whole.split("\n</think>\n\n")
        return thoughts, text


def is_trial(received: Received) -> bool:
    return bool(received.body["messages"][0]["content"].startswith(TRIAL))


def flags(*servers: Server | str) -> list[str]:
    return ["--engine", "chat", "--model_name", "some/model", *addresses(*servers)]


def run(script: str, argv: Sequence[str], folder: Path) -> Ran:
    return run_script(script, list(argv), folder, served=SharedChat())


def error(words: str, **more: object) -> bytes:
    """What a server says of a refusal."""
    return json.dumps({"error": {"message": words, **more}}).encode()


def refusing_where(
    which: Callable[[Received], bool], status: int, body: bytes, **headers: str
) -> Rule:
    """Refuses the requests that a function picks, each time."""

    async def rule(received: Received, answer: Answer) -> bool:
        if which(received):
            await answer.whole(status, body, **headers)
            return True
        return False

    return rule


def refusing(fields: Mapping[str, str], code: int = 400) -> Rule:
    """Refuses a request that has one of the fields, with these words."""

    async def rule(received: Received, answer: Answer) -> bool:
        for name, words in fields.items():
            if name in received.body:
                await answer.whole(code, error(words, type="invalid_request_error"))
                return True
        return False

    return rule
