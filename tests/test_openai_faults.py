"""What servers do wrong: all of it is asked again, and only a request that a working server refuses
again is given up."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import ExitStack

import pytest

from http_server import (
    DONE,
    Answer,
    Behaviour,
    Received,
    Server,
    as_vllm,
    chunks,
    delta,
    event,
    whole,
)
from kflow.engines.openai_engine.api import COMPLETIONS
from kflow.engines.openai_engine.openai import contradict
from served import (
    CHAT,
    SECRET,
    ask,
    at_first,
    good,
    hang,
    hang_mid_stream,
    reply_to,
    request,
    start,
    status,
    well,
)


async def reset_at_once(received: Received, answer: Answer) -> None:
    answer.reset()


async def reset_mid_stream(received: Received, answer: Answer) -> None:
    await answer.stream(delta("Half", [1]))
    answer.reset()


async def cut_mid_stream(received: Received, answer: Answer) -> None:
    await answer.stream(delta("Half", [1]))


async def aborted(received: Received, answer: Answer) -> None:
    await answer.stream(delta("Half", [1]), delta("", [], "abort"), DONE)


async def died_mid_stream(received: Received, answer: Answer) -> None:
    error = {"message": "EngineCore encountered an issue", "code": 400}
    await answer.stream(delta("Half", [1]), event(error=error), DONE)


async def endless(received: Received, answer: Answer) -> None:
    await answer.begin()
    while True:
        await answer.send(delta("more " * 5000))


async def endless_error(received: Received, answer: Answer) -> None:
    await answer.send(b"HTTP/1.1 400 No\r\n\r\n")
    while True:
        await answer.send(b"more " * 5000)


async def endless_headers(received: Received, answer: Answer) -> None:
    await answer.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await answer.send(b"X-More: " + b"more " * 1000 + b"\r\n")


BOMB = gzip.compress(bytes(50_000_000), 1)


async def bomb(received: Received, answer: Answer) -> None:
    await answer.whole(200, BOMB, Content_Encoding="gzip", Content_Type="text/event-stream")


async def packed_unsaid(received: Received, answer: Answer) -> None:
    await answer.whole(200, gzip.compress(b"".join(as_vllm(CHAT, reply_to(received)))))


def raw(content: bytes) -> Behaviour:
    async def send(received: Received, answer: Answer) -> None:
        await answer.send(content)

    return send


async def no_http(received: Received, answer: Answer) -> None:
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
    "503 in the year 10^20": status(503, Retry_After="Wed, 21 Oct 9" + "9" * 19 + " 07:28:00 GMT"),
    "400": status(400),
    "413": status(413),
    "422": status(422),
    "400 without end": endless_error,
    "headers without end": endless_headers,
    "a portal": whole(b"<!DOCTYPE html><title>Sign in</title>"),
    "an empty page": whole(b""),
    "an error with status 200": whole(b'{"error": {"message": "overloaded"}}'),
    "an error as an event": chunks(event(error={"message": "overloaded"})),
    "an empty reply": chunks(delta("", [], "stop"), DONE),
    "a blank reply": chunks(delta(" \n", None, "stop"), DONE),
    "wrong JSON": chunks(b"data: {oops\n\n"),
    "two choices": chunks(delta("a", [1]), event(choices=[{"index": 1, "text": "b"}]), DONE),
    "no finish_reason": chunks(delta("a", [1]), DONE),
    "more than was asked for": chunks(delta("a", [1] * 99, "stop"), DONE),
    "text without end": endless,
    "packed": bomb,
    "packed and unsaid": packed_unsaid,
    "ids of another vocabulary": chunks(delta("a", [2_000_000_000], "stop"), DONE),
    "a wrong length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
    "a short body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + delta("a", [1])),
    "a broken chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "no version": raw(b"HTTP/9 banana\r\n\r\n"),
    "101": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    "204": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
}


@pytest.mark.parametrize("fault", TRY_AGAIN.values(), ids=TRY_AGAIN)
def test_what_passes_is_asked_again_the_same(fault: Behaviour, running: ExitStack) -> None:
    engine, (server,) = start(running, at_first(3, fault))
    assert ask(engine, request()) == {"p0": good(0)}
    assert len(server.received) == 4
    first, *again = (received.body for received in server.received)
    assert all(body == first for body in again if body["prompt"] != COMPLETIONS.short["prompt"])


@pytest.mark.parametrize("fault", [hang, hang_mid_stream])
def test_a_connection_without_a_byte_is_taken_for_dead(
    fault: Behaviour, running: ExitStack
) -> None:
    engine, _ = start(running, at_first(2, fault), timeout=0.1)
    assert ask(engine, request()) == {"p0": good(0)}


def test_a_slow_server_is_waited_for_as_long_as_it_sends_text(running: ExitStack) -> None:
    async def slow(received: Received, answer: Answer) -> None:
        await answer.begin()
        for character in reply_to(received):
            await answer.send(delta(character))
            await asyncio.sleep(0.05)
        await answer.send(delta("", None, "stop") + DONE)

    engine, (server,) = start(running, slow, timeout=0.7)
    assert ask(engine, request()) == {"p0": good(0)}
    assert len(server.received) == 1


def test_a_pause_that_is_asked_for_is_kept(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    engine, _ = start(running, at_first(2, status(429, Retry_After="77")))
    monkeypatch.setattr("kflow.engines.openai_engine.openai.pause", sleep)
    assert ask(engine, request()) == {"p0": good(0)}
    assert [int(seconds) for seconds in pauses] == [77, 77]


def test_comments_and_single_bytes_are_no_progress(running: ExitStack) -> None:
    async def pings(received: Received, answer: Answer) -> None:
        await answer.stream(delta("Half", [1]))
        while True:
            await answer.send(b": ping\n\n")
            await asyncio.sleep(0.01)

    async def trickle(received: Received, answer: Answer) -> None:
        await answer.begin()
        for byte in b"data: " + b"x" * 10_000:
            await answer.send(bytes([byte]))
            await asyncio.sleep(0.01)

    async def slow_headers(received: Received, answer: Answer) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-More: no\r\n" * 1000:
            await answer.send(bytes([byte]))
            await asyncio.sleep(0.01)

    for fault in (pings, trickle, slow_headers):
        engine, _ = start(running, at_first(1, fault), timeout=0.2)
        assert ask(engine, request()) == {"p0": good(0)}


def test_a_connection_left_open_after_the_reply_is_not_waited_for(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def linger(received: Received, answer: Answer) -> None:
        await answer.begin()
        for each in as_vllm(CHAT, reply_to(received))[:-1]:
            await answer.send(each)
            await asyncio.sleep(0.01)
        await asyncio.sleep(3600)

    monkeypatch.setattr("kflow.engines.openai_engine.openai.LAST_WORDS", 0.05)
    engine, _ = start(running, linger, timeout=3600)
    assert ask(engine, request()) == {"p0": good(0)}


def test_a_reply_is_read_though_it_comes_as_one_body(running: ExitStack) -> None:
    async def one_body(received: Received, answer: Answer) -> None:
        ids = CHAT.encode(reply_to(received))
        choice = {"index": 0, "text": reply_to(received), "token_ids": ids, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice], "usage": {"completion_tokens": len(ids)}})
        await answer.whole(200, body.encode(), Content_Type="application/json")

    engine, (server,) = start(running, one_body)
    assert ask(engine, request(0), request(1)) == {"p0": good(0), "p1": good(1)}
    assert len(server.received) == 2


def test_another_finish_reason_is_kept_and_fit_to_be_shown(running: ExitStack) -> None:
    reason = f"\x1b[31m{SECRET}"
    engine, _ = start(running, chunks(delta("So", None, reason), DONE))
    assert ask(engine, request())["p0"].finish_reason == "\\x1b[31m***"


def test_text_that_contradicts_the_ids_is_reported_once_and_the_ids_count(
    running: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    async def other_text(received: Received, answer: Answer) -> None:
        await answer.stream(delta("Something else.", CHAT.encode(reply_to(received)), "stop"), DONE)

    engine, (server,) = start(running, other_text)
    assert ask(engine, request(0), request(1)) == {"p0": good(0), "p1": good(1)}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{server.url}: the text of a reply and its token ids contradict")


@pytest.mark.parametrize(
    ("decoded", "text", "differ"),
    [
        ("So it is.", "So it is.", False),
        (" So it is.", "So  it is", False),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE} au", "caf\ufffd au", True),
        ("So \ufffd", "So ", False),
        ("So", "", False),
        ("So it is.", "Thus it is.", True),
    ],
)
def test_what_is_a_contradiction(decoded: str, text: str, differ: bool) -> None:
    assert contradict(decoded, text) is differ


def test_the_key_does_not_follow_a_redirect(running: ExitStack) -> None:
    elsewhere = running.enter_context(Server(well))

    async def send_on(received: Received, answer: Answer) -> None:
        await answer.whole(307, Location=elsewhere.url + "/completions")

    engine, (server,) = start(running, at_first(2, send_on))
    assert ask(engine, request()) == {"p0": good(0)}
    assert len(server.received) == 3
    assert elsewhere.received == elsewhere.looked == []
