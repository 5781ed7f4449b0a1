"""The engine that asks servers, against a scripted one that does all that a server may do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from http_server import (
    DONE,
    Answer,
    Asked,
    Behaviour,
    Server,
    SharedChat,
    as_vllm,
    delta,
    event,
    usage,
)
from kflow.engines import retry, servers
from kflow.engines.openai import Limits, OpenAIEngine
from kflow.types import Completion, EngineDied, Key, Request

SECRET = "sk-this-is-secret"
OUTAGE = 1000.0  # seconds: never, in a test
CHAT = SharedChat()
PROMPT = tuple(CHAT.encode("Why is that so?"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(retry, "ASK_AGAIN", 0.02)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(
    running: ExitStack,
    *behaviours: Behaviour,
    timeout: float = 30.0,
    outage: float = OUTAGE,
    concurrency: int | None = None,
    kind: str = "vllm",
    as_text: bool = False,
    sampling: dict[str, object] | None = None,
) -> tuple[OpenAIEngine, list[Server]]:
    """An engine and the servers it asks, one for each behaviour."""
    up = [running.enter_context(Server(behaviour)) for behaviour in behaviours]
    known = [servers.Server(server.url, "model", kind, "0.10.2", None) for server in up]
    limits = Limits(concurrency, timeout, outage)
    engine = OpenAIEngine(known, sampling or {"temperature": 0.6}, CHAT, limits, as_text)
    return running.enter_context(closing(engine)), up


def request(number: int = 0, step: int = 0, max_tokens: int = 50) -> Request:
    return Request(Key(f"p{number}", 0, step), PROMPT, max_tokens, 1000 * step + number)


def ask(engine: OpenAIEngine, *requests: Request) -> dict[str, Completion]:
    """All completions by problem; every request gets exactly one, earlier ones too."""
    for each in requests:
        engine.submit(each)
    done: list[Completion] = []
    while completions := engine.completions():
        done += completions
    found = {completion.key.problem: completion for completion in done}
    assert len(found) == len(done)
    assert found.keys() >= {each.key.problem for each in requests}
    return found


def said(asked: Asked) -> str:
    return f"Reply to {asked.body['seed']} as asked."


async def well(asked: Asked, answer: Answer) -> None:
    await answer.stream(*as_vllm(CHAT, said(asked)))


def at_first(times: int, fault: Behaviour) -> Behaviour:
    """The fault for the first requests, then good replies."""

    async def behave(asked: Asked, answer: Answer) -> None:
        await (fault if asked.number < times else well)(asked, answer)

    return behave


def good(number: int, step: int = 0) -> Completion:
    text = f"Reply to {1000 * step + number} as asked."
    return Completion(Key(f"p{number}", 0, step), text, CHAT.count(text), "stop")


def test_what_is_sent(running: ExitStack) -> None:
    engine, (server,) = start(
        running, well, sampling={"temperature": 0.7, "top_k": 5, "stop_token_ids": [7, 8]}
    )
    assert ask(engine, request(3)) == {"p3": good(3)}
    (asked,) = server.asked
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert asked.body == {
        "model": "model",
        "prompt": list(PROMPT),
        "max_tokens": 50,
        "seed": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": 5,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": [7, 8],
        "skip_special_tokens": True,
        "add_special_tokens": False,
        "return_token_ids": True,
        "stream_interval": 16,
    }


def test_a_server_of_unknown_make_is_sent_the_apis_own_fields(running: ExitStack) -> None:
    async def plain(asked: Asked, answer: Answer) -> None:
        await answer.stream(delta(said(asked)), delta("", None, "stop"), usage(5), DONE)

    engine, (server,) = start(running, plain, kind="someone", as_text=True)
    assert ask(engine, request()) == {"p0": Completion(good(0).key, good(0).text, 5, "stop")}
    body = server.asked[0].body
    assert body["prompt"] == "Why is that so?"
    assert body.keys() == {
        "model", "prompt", "max_tokens", "seed", "stream", "stream_options", "temperature", "top_p",
    }  # fmt: skip


def test_tokens_are_counted_here_where_the_server_does_not(running: ExitStack) -> None:
    async def silent(asked: Asked, answer: Answer) -> None:
        await answer.stream(delta(said(asked), None, "length"), DONE)

    engine, _ = start(running, silent)
    assert ask(engine, request())["p0"].tokens == CHAT.count(good(0).text)


def test_64_chains_at_once_and_out_of_order(running: ExitStack) -> None:
    async def together(asked: Asked, answer: Answer) -> None:
        await answer.begin()
        while len(server.asked) < 64:
            await asyncio.sleep(0.001)
        await asyncio.sleep((63 - asked.number) / 1000)
        for chunk in as_vllm(CHAT, said(asked)):
            await answer.send(chunk)

    engine, (server,) = start(running, together)
    done = ask(engine, *(request(n) for n in range(64)))
    assert done == {f"p{n}": good(n) for n in range(64)}
    assert len(server.asked) == 64


def test_no_more_requests_in_flight_than_asked_for(running: ExitStack) -> None:
    at_work, most = 0, 0

    async def counting(asked: Asked, answer: Answer) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.005)
        at_work -= 1
        await well(asked, answer)

    engine, _ = start(running, counting, concurrency=3)
    assert len(ask(engine, *(request(n) for n in range(12)))) == 12
    assert most == 3


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


async def hang(asked: Asked, answer: Answer) -> None:
    await asyncio.sleep(3600)


async def hang_mid_stream(asked: Asked, answer: Answer) -> None:
    await answer.stream(delta("Half", [1]))
    await asyncio.sleep(3600)


async def no_http(asked: Asked, answer: Answer) -> None:
    await answer.send(b"220 mail.example.org ESMTP\r\n")


def status(number: int, **headers: str) -> Behaviour:
    async def refuse(asked: Asked, answer: Answer) -> None:
        await answer.whole(number, b'{"error": {"message": "not now"}}', **headers)

    return refuse


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
    import gzip

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


def test_a_server_that_dies_and_comes_back(
    running: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    async def hold(asked: Asked, answer: Answer) -> None:
        await answer.stream(delta("Half", [1]))
        await asyncio.sleep(3600)

    engine, (server,) = start(running, at_first(4, hold))
    for number in range(4):
        engine.submit(request(number))
    while len(server.asked) < 4:
        time.sleep(0.001)
    server.shut()
    while "is away" not in (told := capsys.readouterr().err):
        time.sleep(0.001)
    server.open()
    assert ask(engine) == {f"p{n}": good(n) for n in range(4)}
    (away, *_), (back,) = told.splitlines(), capsys.readouterr().err.splitlines()
    assert away.startswith(f"{server.url} is away: ")
    assert back == f"{server.url} is back"


def test_chains_keep_to_their_server_and_move_when_it_dies(running: ExitStack) -> None:
    engine, (first, second) = start(running, well, well)

    def seeds(server: Server) -> list[int]:
        found = sorted(asked.body["seed"] for asked in server.asked)
        server.asked.clear()
        return found

    for step in range(3):
        done = ask(engine, *(request(n, step) for n in range(8)))
        assert done == {f"p{n}": good(n, step) for n in range(8)}
        assert seeds(first) == [1000 * step + n for n in range(0, 8, 2)]
        assert seeds(second) == [1000 * step + n for n in range(1, 8, 2)]
    first.shut()
    assert ask(engine, *(request(n, 3) for n in range(8))) == {
        f"p{n}": good(n, 3) for n in range(8)
    }
    assert seeds(second) == [3000 + n for n in range(8)]
    first.open()
    step = 4
    while not first.asked:
        ask(engine, *(request(n, step) for n in range(8)))
        step += 1
    seeds(first), seeds(second)
    ask(engine, *(request(n, step) for n in range(8)))
    assert seeds(first) == [1000 * step + n for n in range(0, 8, 2)]


def test_the_run_ends_after_the_outage_and_not_before(running: ExitStack) -> None:
    engine, (server,) = start(running, well, outage=0.05)
    server.shut()
    engine.submit(request())
    with pytest.raises(EngineDied, match=rf"^No server has answered for .*{server.url} last"):
        engine.completions()


def test_what_was_finished_before_the_end_is_handed_over(running: ExitStack) -> None:
    async def behave(asked: Asked, answer: Answer) -> None:
        await (well if asked.body["seed"] == 0 else status(503))(asked, answer)
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
    assert len(server.asked) > 1


@pytest.mark.parametrize("fault", [hang, hang_mid_stream, status(503)])
def test_closing_lets_go_of_what_is_in_flight(fault: Behaviour, running: ExitStack) -> None:
    engine, (server,) = start(running, fault)
    for number in range(20):
        engine.submit(request(number))
    while len(server.asked) < 20:
        time.sleep(0.001)
    engine.close()
    engine.close()
    assert not engine._thread.is_alive()


def test_a_bug_in_the_thread_is_no_silence(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("kflow.engines.openai.body", broken)
    engine, _ = start(running, well)
    engine.submit(request())
    with pytest.raises(ZeroDivisionError):
        engine.completions()
