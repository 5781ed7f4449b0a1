"""When a request is given up, when it stays open, and what a bad spell of a server costs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import pytest

from http_server import DONE, Answer, Behaviour, Received, as_vllm, chunks, delta, whole
from kflow.engines.openai_engine.api import COMPLETIONS
from kflow.types import Completion, EngineDied, Key
from served import CHAT, SECRET, ask, good, reply_to, request, start, status, well
from test_openai_faults import died_mid_stream, endless_error, reset_at_once


def for_one(fault: Behaviour) -> Behaviour:
    """The fault for p1 always, good replies for the others."""

    async def behave(received: Received, answer: Answer) -> None:
        await (fault if received.body["seed"] % 1000 == 1 else well)(received, answer)

    return behave


EMPTY = chunks(delta("", [], "stop"), DONE)
REJECTIONS = {
    "400": (status(400), "HTTP 400: not now"),
    "413": (status(413), "HTTP 413: not now"),
    "422": (status(422), "HTTP 422: not now"),
    "400 without end": (endless_error, "HTTP 400: more more"),
    "an empty reply": (EMPTY, "the reply is empty"),
}


@pytest.mark.parametrize(("fault", "named"), REJECTIONS.values(), ids=REJECTIONS)
def test_a_request_refused_again_after_another_was_accepted_has_failed(
    fault: Behaviour, named: str, running: ExitStack
) -> None:
    engine, (server,) = start(running, for_one(fault))
    engine.submit(request(1))
    while len(server.received) < 1:
        time.sleep(0.001)
    done = ask(engine, request(0), request(2))
    failure = done["p1"].failure
    assert failure is not None
    assert named in failure
    assert failure.isprintable()
    assert len(failure) < 800
    assert done["p1"].unanswered is None
    assert (done["p0"], done["p2"]) == (good(0), good(2))


@pytest.mark.parametrize(("fault", "named"), REJECTIONS.values(), ids=REJECTIONS)
def test_alone_it_has_failed_when_something_short_was_accepted(
    fault: Behaviour, named: str, running: ExitStack
) -> None:
    engine, (server,) = start(running, for_one(fault))
    (done,) = ask(engine, request(1)).values()
    assert named in (done.failure or "")
    prompts = [received.body["prompt"] for received in server.received]
    assert prompts == [prompts[0], prompts[0], COMPLETIONS.short["prompt"], prompts[0]]


def test_something_short_is_not_waited_for_without_end(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kflow.engines.openai_engine.openai.TRIAL", 0.01)

    async def behave(received: Received, answer: Answer) -> None:
        if received.body["prompt"] == COMPLETIONS.short["prompt"]:
            await asyncio.sleep(3600)
        await (status(400) if received.number < 4 else well)(received, answer)

    engine, _ = start(running, behave)
    assert ask(engine, request(1)) == {"p1": good(1)}


def test_alone_on_a_server_that_refuses_all_it_has_not_failed(running: ExitStack) -> None:
    engine, _ = start(running, status(400), outage=0.05)
    with pytest.raises(EngineDied, match="HTTP 400: not now"):
        ask(engine, request(1))


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (status(400), "HTTP 400: not now (retried for"),
        (whole(b"<html>"), "not an event stream: <html> (retried for"),
        (reset_at_once, "retried for"),
        (status(500), "HTTP 500: not now (retried for"),
        (died_mid_stream, "EngineCore encountered an issue"),
    ],
)
def test_the_other_chains_go_on_without_one_that_is_not_answered(
    fault: Behaviour, named: str, running: ExitStack
) -> None:
    """On a server that begins one long reply before and ends it after."""

    async def behave(received: Received, answer: Answer) -> None:
        if received.body["seed"] == 0:
            *events, last = as_vllm(CHAT, reply_to(received))
            await answer.begin()
            while not finished.is_set():
                await answer.send(delta(" ", []))
                await asyncio.sleep(0.002)
            for each in (*events, last):
                await answer.send(each)
        else:
            await for_one(fault)(received, answer)

    finished = threading.Event()
    engine, (server,) = start(running, behave, outage=0.1)
    engine.submit(request(0))
    while not server.received:
        time.sleep(0.001)
    engine.submit(request(1))
    (lost,) = engine.completions()
    finished.set()
    assert lost.key.problem == "p1"
    assert lost.failure is None
    assert named in str(lost.unanswered)
    (completion,) = engine.completions()
    assert completion.text.strip() == good(0).text


def test_a_refusal_is_in_the_servers_words_without_the_key(running: ExitStack) -> None:
    async def telling(received: Received, answer: Answer) -> None:
        body = f'{{"error": {{"message": "no\\u001b[31m:\\n key {SECRET} is fine"}}}}'
        await answer.whole(400, body.encode())

    engine, (server,) = start(running, for_one(telling))
    engine.submit(request(1))
    while len(server.received) < 2:
        time.sleep(0.001)
    failure = ask(engine, request(0))["p1"].failure
    assert failure == f"{server.url}: HTTP 400: no\\x1b[31m: key *** is fine"


async def portal(answer: Answer) -> None:
    await answer.whole(200, b"<html>Sign in</html>", Content_Type="text/html")


async def empty_page(answer: Answer) -> None:
    await answer.whole(200)


async def refusal(answer: Answer) -> None:
    await answer.whole(400, b'{"error": {"message": "bad gateway, sort of"}}')


async def no_words(answer: Answer) -> None:
    await answer.stream(delta("", CHAT.encode(" "), "stop"), DONE)


@pytest.mark.parametrize("spell", [portal, empty_page, refusal, no_words])
def test_a_bad_spell_costs_nothing(
    spell: Callable[[Answer], Awaitable[None]], running: ExitStack
) -> None:
    """From the ninth request on, 40 are answered badly, whichever they are, while two replies
    from before are still going on."""

    async def behave(received: Received, answer: Answer) -> None:
        if 8 <= received.number < 48:
            return await spell(answer)
        if received.number >= 2:
            return await well(received, answer)
        await answer.begin()
        while len(server.received) < 49:
            await answer.send(delta(".", []))
            await asyncio.sleep(0.02)
        for each in as_vllm(CHAT, reply_to(received)):
            await answer.send(each)

    engine, (server,) = start(running, behave)
    done: dict[Key, Completion] = {}
    for number in range(4):
        engine.submit(request(number))
    while completions := engine.completions():
        for completion in completions:
            assert (completion.failure, completion.unanswered) == (None, None)
            done[completion.key] = completion
            problem, step = int(completion.key.problem[1:]), completion.key.step
            if step < 7:
                engine.submit(request(problem, step + 1))
    assert len(done) == 32
    late = [received for received in server.received if received.number >= 48]
    short = sum(received.body["prompt"] == COMPLETIONS.short["prompt"] for received in late)
    assert len(server.received) == 32 + 40 + short
