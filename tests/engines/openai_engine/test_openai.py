"""The engine that asks servers: what it sends, where to, and how it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
from aiohttp.client_proto import ResponseHandler

from helpers.fakes import K
from helpers.http_server import (
    DONE,
    Answer,
    Behaviour,
    Received,
    Server,
    as_vllm,
    chunks,
    delta,
    event,
    usage,
)
from helpers.served import (
    CHAT,
    PROMPT,
    SECRET,
    ask,
    at_first,
    good,
    hang_mid_stream,
    reply_to,
    request,
    start,
    status,
    well,
)
from kflow.engines.openai_engine import retry
from kflow.engines.openai_engine.api import AS_TEXT
from kflow.engines.openai_engine.openai import cuts
from kflow.engines.openai_engine.streamed import contradict
from kflow.types import Completion, EngineDied, EngineState, Request, UserError

TEXT = "It is so."


def test_64_chains_at_once_and_out_of_order(running: ExitStack) -> None:
    async def together(received: Received, answer: Answer) -> None:
        await answer.begin()
        while len(server.received) < 64:
            await asyncio.sleep(0.001)
        await asyncio.sleep((63 - received.number) / 1000)
        for chunk in as_vllm(CHAT, reply_to(received)):
            await answer.send(chunk)

    engine, (server,) = start(running, together)
    done = ask(engine, *(request(n) for n in range(64)))
    assert done == {f"p{n}": good(n) for n in range(64)}
    assert len(server.received) == 64


@pytest.mark.parametrize("with_ids", [True, False])
def test_what_is_in_flight(with_ids: bool, running: ExitStack) -> None:
    """One reply has begun, one has not, and one request waits for a slot."""
    go_on = threading.Event()

    async def slow(received: Received, answer: Answer) -> None:
        await answer.begin()
        text, ids = reply_to(received), CHAT.encode(reply_to(received))
        if received.number == 0:
            await answer.send(delta(text, ids if with_ids else None))
        while not go_on.is_set():
            await asyncio.sleep(0.001)
        await answer.send(delta("" if received.number == 0 else text, ids[:0], "stop"))
        await answer.send(DONE)

    engine, _ = start(running, slow, concurrency=2)
    assert engine.progress() == EngineState(0, 0, 0)
    for number in range(3):
        engine.submit(request(number))
    tokens = len(CHAT.encode(good(0).text)) if with_ids else None
    while engine.progress() != EngineState(1, 2, tokens):
        time.sleep(0.001)
    go_on.set()
    assert len(ask(engine)) == 3
    assert engine.progress() == EngineState(0, 0, 0)


def test_no_more_requests_in_flight_than_asked_for(running: ExitStack) -> None:
    at_work, most = 0, 0

    async def counting(received: Received, answer: Answer) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.005)
        at_work -= 1
        await well(received, answer)

    engine, _ = start(running, counting, counting, concurrency=3)
    assert len(ask(engine, *(request(n) for n in range(12)))) == 12
    assert most == 3


def test_a_server_that_dies_and_comes_back(
    running: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, (server,) = start(running, at_first(4, hang_mid_stream))
    for number in range(4):
        engine.submit(request(number))
    while len(server.received) < 4:
        time.sleep(0.001)
    server.shut()
    stderr = ""
    while "retrying" not in stderr:
        stderr += capsys.readouterr().err
        time.sleep(0.001)
    assert str(engine.progress().waits).startswith(f"{server.url}: ")
    server.open()
    assert ask(engine) == {f"p{n}": good(n) for n in range(4)}
    away, back = (stderr + capsys.readouterr().err).splitlines()
    assert away.startswith(f"{server.url}: ")
    assert away.endswith("retrying for up to 16.6667 minutes (--max_outage)")
    assert back == f"{server.url} answers again"


def test_chains_keep_to_their_server_and_move_when_it_dies(running: ExitStack) -> None:
    engine, (first, second) = start(running, well, well)
    evens, odds = range(0, 8, 2), range(1, 8, 2)

    def seeds(server: Server) -> list[int]:
        sent_seeds = sorted(received.body["seed"] % 1000 for received in server.received)
        server.received.clear()
        return sent_seeds

    def work(step: int) -> tuple[list[int], list[int]]:
        done = ask(engine, *(request(n, step) for n in range(8)))
        assert done == {f"p{n}": good(n, step) for n in range(8)}
        return seeds(first), seeds(second)

    for step in range(2):
        assert work(step) == ([*evens], [*odds])
    first.shut()
    assert work(2)[1] == [*range(8)]
    first.open()
    step = 3
    while not work(step)[0]:
        step += 1
    assert work(step + 1) == ([*evens], [*odds])


def test_what_was_finished_before_the_end_is_handed_over(running: ExitStack) -> None:
    async def behave(received: Received, answer: Answer) -> None:
        await (well if received.body["seed"] == 0 else status(503))(received, answer)
        finished.set()

    finished = threading.Event()
    engine, (server,) = start(running, behave, outage=0.05)
    engine.submit(request(0))
    finished.wait()
    time.sleep(0.01)
    engine.submit(request(1))
    while engine._thread.is_alive() and engine._queue.qsize() < 2:
        time.sleep(0.001)
    assert engine.completions() == [good(0)]
    with pytest.raises(EngineDied, match="HTTP 503: not now"):
        engine.completions()
    assert len(server.received) > 1


def test_a_first_rollout_that_is_to_wait_longer_than_the_outage_ends_the_start(
    running: ExitStack,
) -> None:
    engine, _ = start(running, status(429, Retry_After="3600"), outage=0.5)
    engine.submit(request())
    with pytest.raises(UserError, match="asks to wait 3,600 seconds"):
        engine.completions()


@pytest.mark.parametrize("fault", [hang_mid_stream, status(503)])
def test_closing_lets_go_of_what_is_in_flight(fault: Behaviour, running: ExitStack) -> None:
    engine, (server,) = start(running, fault)
    for number in range(20):
        engine.submit(request(number))
    while len(server.received) < 20:
        time.sleep(0.001)
    engine.close()
    engine.close()
    engine._thread.join(30)  # on a busy machine longer than close itself waits
    assert not engine._thread.is_alive()


def test_a_bug_in_the_thread_is_no_silence(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("kflow.engines.openai_engine.sent.body", broken)
    engine, _ = start(running, well)
    engine.submit(request())
    with pytest.raises(ZeroDivisionError):
        engine.completions()


def test_an_end_that_never_comes_is_waited_for_and_asked_again(running: ExitStack) -> None:
    async def linger(received: Received, answer: Answer) -> None:
        await answer.stream(*as_vllm(CHAT, reply_to(received))[:-1])
        await asyncio.sleep(3600)

    engine, (server,) = start(running, at_first(1, linger), timeout=0.3)
    assert ask(engine, request()) == {"p0": good(0)}
    assert len(server.received) == 2


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


@pytest.mark.parametrize(
    ("reason", "on_record"),
    [("eos", "stop"), ("STOP", "stop"), ("MAX_TOKENS", "length"), ("model_length", "length"),
     ("content_filter", "content_filter"), (f"\x1b[31m{SECRET}", "\\x1b[31m***")],
)  # fmt: skip
def test_a_finish_reason_goes_on_record_by_one_name_and_fit_to_be_shown(
    reason: str, on_record: str, running: ExitStack
) -> None:
    engine, _ = start(running, chunks(delta("So", None, reason), DONE))
    assert ask(engine, request())["p0"].finish_reason == on_record


def test_text_that_contradicts_the_ids_is_reported_once_and_the_ids_count(
    running: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    async def other_text(received: Received, answer: Answer) -> None:
        await answer.stream(delta("Something else.", CHAT.encode(reply_to(received)), "stop"), DONE)

    engine, (server,) = start(running, other_text)
    assert ask(engine, request(0), request(1)) == {"p0": good(0), "p1": good(1)}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{server.url}: the text of a reply and its token ids contradict")


def test_a_prompt_that_a_server_counts_otherwise_is_reported_once(
    running: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    """A token of its own at the beginning, say, which it puts before a prompt that has one."""

    async def counting(received: Received, answer: Answer) -> None:
        more = len(PROMPT) + received.body["seed"] % 2
        counts = usage(5, prompt_tokens=more)
        await answer.stream(delta(TEXT), delta("", None, "stop"), counts, DONE)

    engine, (server,) = start(running, counting, kind="llamacpp", api=AS_TEXT)
    ask(engine, request(0))
    assert capsys.readouterr().err == ""
    ask(engine, request(1), request(3))
    (line,) = capsys.readouterr().err.splitlines()
    counted = f"it has counted {len(PROMPT) + 1} tokens of a prompt of {len(PROMPT)}."
    assert line.startswith(f"{server.url}: {counted}")


def test_another_model_behind_an_address_is_reported(
    running: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    async def renamed(received: Received, answer: Answer) -> None:
        model = "one" if received.number < 2 else "\x1banother"
        last = event(choices=[{"text": "", "finish_reason": "stop"}], model=model)
        await answer.stream(delta(TEXT), last, DONE)

    engine, (server,) = start(running, renamed)
    for number in range(4):
        ask(engine, request(number))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{server.url}: replies now come from \\x1banother, no longer one"


@pytest.mark.parametrize(
    ("prompt", "tokens", "finish", "counted", "window", "said"),
    [
        (444, 337, "length", 444, 512, "781 tokens of a prompt and its reply"),
        (444, 68, "length", 444, 512, ""),
        (175, 68, "length", 444, 512, "counted 444 tokens in a prompt estimated at 175"),
        (175, 68, "length", 100, None, "num_ctx"),
        (444, 337, "stop", None, 781, ""),
        (444, 337, "stop", None, 780, "drop the beginning"),
    ],
)
def test_what_shows_that_a_server_has_cut_something(
    prompt: int, tokens: int, finish: str, counted: int | None, window: int | None, said: str
) -> None:
    asked = Request(K("p", 0, 0), (1,) * prompt, 337 if said or counted is None else 100, 0)
    reply = Completion(asked.key, "x", tokens, prompt_tokens=counted)
    reckoned = replace(reply, prompt_tokens=None, estimated=("prompt_tokens",))
    assert "more than its window" not in cuts(asked, reckoned, finish, 1)
    found = cuts(asked, reply, finish, window)
    assert said in found
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("decoded", "text", "differ"),
    [
        (" So it is.", "So  it is", False),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE} au", "caf\ufffd au", True),
        ("So \ufffd", "So ", False),
        ("So", "", False),
        ("So it is.", "Thus it is.", True),
    ],
)
def test_what_is_a_contradiction(decoded: str, text: str, differ: bool) -> None:
    assert contradict(decoded, text) is differ


def test_what_is_there_is_read_without_waiting(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply of 2,000 HTTP chunks that are all there takes a few waits, not one for each."""
    waits: list[float] = []

    async def sleep(seconds: float, *_: object) -> None:
        if seconds and threading.current_thread() is engine._thread:
            waits.append(seconds)
        await real_sleep(0)

    async def at_once(received: Received, answer: Answer) -> None:
        events = [delta(" on", [PROMPT[number % len(PROMPT)]]) for number in range(2000)]
        await answer.stream_in_chunks(*events, delta("", [], "stop"), DONE)

    real_sleep = asyncio.sleep
    engine, _ = start(running, at_once)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert ask(engine, request(max_tokens=2000))["p0"].tokens == 2000
    assert len(waits) < 100


def test_after_a_long_read_there_is_no_waiting(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave_alone(*_: object) -> None:
        raise AssertionError("waited")

    async def in_pieces(received: Received, answer: Answer) -> None:
        await answer.begin()
        for each in as_vllm(CHAT, reply_to(received)):
            await answer.send(each)
            await asyncio.sleep(0.02)

    monkeypatch.setattr("kflow.engines.openai_engine.openai.SHORT_READ", 1)
    monkeypatch.setattr("kflow.engines.openai_engine.openai.leave_alone", leave_alone)
    engine, _ = start(running, in_pieces)
    assert ask(engine, request()) == {"p0": good(0)}


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 9999"])
def test_a_reply_that_is_whole_counts_though_the_connection_broke(
    framing: bytes, running: ExitStack
) -> None:
    async def broken(received: Received, answer: Answer) -> None:
        events = b"".join(as_vllm(CHAT, reply_to(received)))
        size = b"%x\r\n" % len(events) if framing.startswith(b"T") else b""
        await answer.send(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s%s" % (framing, size, events))

    engine, (server,) = start(running, broken)
    assert ask(engine, request()) == {"p0": good(0)}
    assert len(server.received) == 1


def test_a_server_that_breaks_replies_off_is_said_to_answer_again_once(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(retry, "TELL_AFTER", 0.0)
    engine, (server,) = start(running, at_first(3, chunks(delta("Half", [1]))))
    assert ask(engine, request()) == {"p0": good(0)}
    broken, back = capsys.readouterr().err.splitlines()
    assert broken.startswith(f"{server.url}: the connection was closed mid-reply")
    assert back == f"{server.url} answers again"


def test_a_slow_stream_wakes_the_client_up_less_often_than_it_has_tokens(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes meanwhile stays in the kernel."""
    woken = 0

    def data_received(protocol: ResponseHandler, data: bytes) -> None:
        nonlocal woken
        woken += 1
        real_data_received(protocol, data)

    async def slowly(received: Received, answer: Answer) -> None:
        await answer.begin()
        for number in range(500):
            await answer.send(delta(" on", [PROMPT[number % len(PROMPT)]]))
            await asyncio.sleep(0.001)
        await answer.send(delta("", [], "stop") + DONE)

    real_data_received = ResponseHandler.data_received
    monkeypatch.setattr(ResponseHandler, "data_received", data_received)
    monkeypatch.setattr("kflow.engines.openai_engine.openai.SHARE", 1.0)
    engine, _ = start(running, slowly)
    assert ask(engine, request(max_tokens=500))["p0"].tokens == 500
    assert woken < 100
