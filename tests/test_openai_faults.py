"""What servers do wrong: what passes is asked again, a reply that is none fails its rollout."""

from __future__ import annotations

import asyncio
import gzip
import time
from contextlib import ExitStack

import pytest

from http_server import DONE, Answer, Asked, Behaviour, Server, as_vllm, delta, event
from kflow.engines import retry
from served import (
    CHAT,
    SECRET,
    ask,
    at_first,
    good,
    hang,
    hang_mid_stream,
    request,
    said,
    start,
    status,
    well,
)


async def reset_at_once(asked: Asked, answer: Answer) -> None:
    answer.reset()


async def reset_mid_stream(asked: Asked, answer: Answer) -> None:
    await answer.stream(delta("Half", [1]))
    answer.reset()


async def cut_mid_stream(asked: Asked, answer: Answer) -> None:
    await answer.stream(delta("Half", [1]))


async def aborted(asked: Asked, answer: Answer) -> None:
    await answer.stream(delta("Half", [1]), delta("", [], "abort"), DONE)


async def died_mid_stream(asked: Asked, answer: Answer) -> None:
    error = {"message": "EngineCore encountered an issue", "code": 400}
    await answer.stream(delta("Half", [1]), event(error=error), DONE)


async def no_http(asked: Asked, answer: Answer) -> None:
    await answer.send(b"220 mail.example.org ESMTP\r\n")


TRY_AGAIN: dict[str, Behaviour] = {
    "reset at once": reset_at_once,
    "reset mid-stream": reset_mid_stream,
    "cut mid-stream": cut_mid_stream,
    "aborted": aborted,
    "died mid-stream": died_mid_stream,
    "no HTTP": no_http,
    "408": status(408),
    "429": status(429, Retry_After="0"),
    "429 nonsense": status(429, Retry_After="later"),
    "500": status(500),
    "502": status(502),
    "503": status(503, Retry_After="Tue, 21 Oct 2014 07:28:00 GMT"),
    "504": status(504),
    "404 while a router's servers start": status(404),
    "401": status(401),
    "redirect": status(307, Location="http://127.0.0.1:9/"),
}


@pytest.mark.parametrize("fault", TRY_AGAIN.values(), ids=TRY_AGAIN)
def test_what_passes_is_asked_again_the_same(fault: Behaviour, running: ExitStack) -> None:
    engine, (server,) = start(running, at_first(3, fault))
    assert ask(engine, request()) == {"p0": good(0)}
    assert len(server.asked) == 4
    assert all(asked.body == server.asked[0].body for asked in server.asked)


@pytest.mark.parametrize("fault", [hang, hang_mid_stream])
def test_a_connection_without_a_byte_is_taken_for_dead(
    fault: Behaviour, running: ExitStack
) -> None:
    engine, (server,) = start(running, at_first(2, fault), timeout=0.1)
    assert ask(engine, request()) == {"p0": good(0)}
    assert len(server.asked) == 3


def test_a_slow_server_is_waited_for_as_long_as_it_sends(running: ExitStack) -> None:
    async def slow(asked: Asked, answer: Answer) -> None:
        await answer.begin()
        for byte in b"".join(as_vllm(CHAT, said(asked)))[:60]:
            await answer.send(bytes([byte]))
            await asyncio.sleep(0.02)
        await answer.send(b"".join(as_vllm(CHAT, said(asked)))[60:])

    engine, (server,) = start(running, slow, timeout=0.6)
    assert ask(engine, request()) == {"p0": good(0)}
    assert len(server.asked) == 1


def test_a_pause_that_is_asked_for_is_kept(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    engine, _ = start(running, at_first(2, status(429, Retry_After="77")))
    monkeypatch.setattr("kflow.engines.openai.pause", sleep)
    assert ask(engine, request()) == {"p0": good(0)}
    assert [int(seconds) for seconds in pauses] == [77, 77]


async def endless(asked: Asked, answer: Answer) -> None:
    await answer.begin()
    while True:
        await answer.send(delta("more " * 5000))


async def endless_error(asked: Asked, answer: Answer) -> None:
    await answer.send(b"HTTP/1.1 400 No\r\n\r\n")
    while True:
        await answer.send(b"more " * 5000)


async def bomb(asked: Asked, answer: Answer) -> None:
    packed = gzip.compress(b"x" * 50_000_000)
    await answer.whole(200, packed, Content_Encoding="gzip", Content_Type="text/event-stream")


async def wrong_ids(asked: Asked, answer: Answer) -> None:
    await answer.stream(delta("a", [2_000_000_000], "stop"), DONE)


def chunks(*events: bytes) -> Behaviour:
    async def send(asked: Asked, answer: Answer) -> None:
        await answer.stream(*events)

    return send


LIES: dict[str, tuple[Behaviour, str]] = {
    "wrong JSON": (chunks(b"data: {oops\n\n"), "no JSON: {oops"),
    "no stream": (chunks(b'{"choices": []}'), "no stream of events"),
    "no choices": (chunks(event(id="x")), "no list of choices"),
    "zero choices": (chunks(event(choices=[]), DONE), "0 choices"),
    "two choices": (chunks(event(choices=[{}, {}])), "2 choices"),
    "no text": (chunks(event(choices=[{"index": 0}])), "without a text"),
    "no finish_reason": (chunks(delta("a", [1]), DONE), "no finish_reason"),
    "endless text": (endless, "more text than 50 tokens can hold"),
    "packed": (bomb, "no stream of events"),
    "ids of another vocabulary": (wrong_ids, "token ids are none of ours"),
    "400": (status(400), "HTTP 400: not now"),
    "422": (status(422), "HTTP 422: not now"),
    "400 without end": (endless_error, "HTTP 400: more more"),
}


@pytest.mark.parametrize(("lie", "named"), LIES.values(), ids=LIES)
def test_a_reply_that_is_none_fails_its_rollout_only(
    lie: Behaviour, named: str, running: ExitStack
) -> None:
    async def behave(asked: Asked, answer: Answer) -> None:
        await (lie if asked.body["seed"] == 1 else well)(asked, answer)

    engine, (server,) = start(running, behave)
    done = ask(engine, *(request(n) for n in range(3)))
    failure = done["p1"].failure
    assert failure is not None
    assert named in failure
    assert failure.isprintable()
    assert len(failure) < 800
    assert done["p0"] == good(0)
    assert done["p2"] == good(2)
    assert len(server.asked) == 3


def test_a_refusal_is_in_the_servers_words_without_the_key(running: ExitStack) -> None:
    async def telling(asked: Asked, answer: Answer) -> None:
        told = f'{{"error": {{"message": "no\\u001b[31m:\\n key {SECRET} is fine"}}}}'
        await answer.whole(400, told.encode())

    engine, (server,) = start(running, telling)
    failure = ask(engine, request())["p0"].failure
    assert failure == f"{server.url}: HTTP 400: no\\x1b[31m: key *** is fine"


def test_the_key_does_not_follow_a_redirect(running: ExitStack) -> None:
    elsewhere = running.enter_context(Server(well))

    async def send_on(asked: Asked, answer: Answer) -> None:
        await answer.whole(307, Location=elsewhere.url + "/completions")

    engine, (server,) = start(running, at_first(2, send_on))
    assert ask(engine, request()) == {"p0": good(0)}
    assert len(server.asked) == 3
    assert elsewhere.asked == elsewhere.looked == []


def test_a_request_that_a_living_server_fails_at_is_given_up(running: ExitStack) -> None:
    async def behave(asked: Asked, answer: Answer) -> None:
        poison = asked.body["seed"] == 1
        await (status(500) if poison else well)(asked, answer)

    engine, (server,) = start(running, behave)
    engine.submit(request(1))
    while len(server.asked) < retry.OWN_FAULTS + 3:
        time.sleep(0.001)
    # That it alone fails shows only by another's success.
    done = ask(engine, request(0))
    assert done["p0"] == good(0)
    assert "HTTP 500: not now" in str(done["p1"].failure)
