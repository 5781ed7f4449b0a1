"""The engine on servers that have only chat completions: what is sent, and what is made of what
comes back."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest

from fakes import K
from http_server import (
    DONE,
    Answer,
    Behaviour,
    Received,
    chunks,
    delta,
    event,
    message,
    usage,
    whole,
)
from kflow.engines.openai_engine.api import chat_completions
from kflow.engines.openai_engine.openai import OpenAIEngine
from kflow.engines.openai_engine.retry import Fault
from kflow.engines.openai_engine.streamed import Streamed, of_chat
from kflow.families import gpt_oss
from kflow.families.messages import in_messages
from kflow.sections import visible
from kflow.types import Completion, Message, Request
from served import SECRET, ask, start, status

FAMILY = in_messages(gpt_oss.FAMILY)
CHAT = FAMILY.chat("a model by name", False, None)
API = chat_completions(FAMILY.end_of_thinking)
KEY = K("p0", 0, 0)
REQUEST = Request(KEY, (), 50, 7, messages=(Message("system", "Be brief."), Message("user", "é?")))
COUNTED = usage(9, prompt_tokens=4, total_tokens=13)
WELL = [
    message(role="assistant", content=""),
    message(reasoning_content="So "),
    message(reasoning_content="be it."),
    message(content="It is"),
    message("stop", content=" 4."),
    COUNTED,
    DONE,
]
GOOD = Completion(KEY, "So be it.\nassistantfinal\n\nIt is 4.", 9, "stop", prompt_tokens=4)


def begin(running: ExitStack, *behaviours: Behaviour, **more: Any) -> tuple[OpenAIEngine, Any]:
    return start(running, *behaviours, api=API, chat=CHAT, **more)


def body(**fields: Any) -> bytes:
    """A whole reply of a server that ignores `stream`."""
    choice = {"index": 0, "message": fields, "finish_reason": "stop"}
    counts = {"prompt_tokens": 4, "completion_tokens": 9, "total_tokens": 13}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": counts}).encode()


def test_what_is_sent(running: ExitStack) -> None:
    sampling = {"temperature": 0.7, "reasoning_effort": "low"}
    engine, (server,) = begin(running, chunks(*WELL), kind="someone", sampling=sampling)
    assert ask(engine, REQUEST) == {"p0": GOOD}
    (received,) = server.received
    assert received.path == "/v1/chat/completions"
    assert received.headers["authorization"] == f"Bearer {SECRET}"
    assert received.body == {
        "model": "model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "é?"},
        ],
        "max_tokens": 50,
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "top_p": 1.0,
        "reasoning_effort": "low",
    }


def test_a_server_of_known_make_samples_as_the_offline_engine(running: ExitStack) -> None:
    engine, (server,) = begin(running, chunks(*WELL), kind="vllm")
    assert ask(engine, REQUEST) == {"p0": GOOD}
    fields = server.received[0].body
    assert (fields["repetition_penalty"], fields["top_k"], fields["stream_interval"]) == (1, -1, 16)
    assert not {"prompt", "return_token_ids", "add_special_tokens"} & fields.keys()


TEXT = "It is 4."
BY_ESTIMATE = 3  # TEXT's 8 bytes, 3 a token
# Name -> what is sent, the text, prompt and reply tokens, what of these is estimated.
REPLIES: dict[str, tuple[Behaviour, str, int | None, int, tuple[str, ...]]] = {
    "another name for reasoning": (
        chunks(message(reasoning="So be it."), message("stop", content=TEXT), COUNTED, DONE),
        GOOD.text, 4, 9, (),
    ),
    "both names, the same text": (
        chunks(
            message(reasoning="So be it.", reasoning_content="So be it."),
            message("stop", content=TEXT), COUNTED, DONE,
        ),
        GOOD.text, 4, 9, (),
    ),
    "reasoning in turns": (
        chunks(
            message(reasoning="So "), message(content="It is"), message(reasoning="be it."),
            message("stop", content=" 4."), COUNTED, DONE,
        ),
        GOOD.text, 4, 9, (),
    ),
    "reasoning in one body": (
        whole(body(role="assistant", content=TEXT, reasoning_content="So be it.")),
        GOOD.text, 4, 9, (),
    ),
    "one body": (whole(body(role="assistant", content=TEXT)), TEXT, 4, 9, ()),
    "no reasoning": (chunks(message("stop", content=TEXT), COUNTED, DONE), TEXT, 4, 9, ()),
    "thinking within the text": (
        chunks(message("stop", content=f"Hm.assistantfinal{TEXT}"), COUNTED, DONE),
        f"Hm.assistantfinal{TEXT}", 4, 9, (),
    ),
    "truncated while it thinks": (
        chunks(message(reasoning="So be"), message("length", content=None), COUNTED, DONE),
        "So be", 4, 9, (),
    ),
    "no usage": (
        chunks(message("stop", content=TEXT), DONE),
        TEXT, None, BY_ESTIMATE, ("prompt_tokens", "completion_tokens"),
    ),
    "usage of the reply alone": (
        chunks(message("stop", content=TEXT), usage(9), DONE), TEXT, None, 9, ("prompt_tokens",),
    ),
    "usage of zeros": (
        chunks(message("stop", content=TEXT), usage(0, prompt_tokens=0, total_tokens=0), DONE),
        TEXT, None, BY_ESTIMATE, ("prompt_tokens", "completion_tokens"),
    ),
    "reasoning counted in the total alone": (
        chunks(
            message("stop", content=TEXT), usage(9, prompt_tokens=4, total_tokens=113), DONE
        ),
        TEXT, 4, 109, (),
    ),
    "a piece without a message": (
        chunks(
            event(choices=[], prompt_filter_results=[{}]),
            message(content="It is"),
            event(choices=[{"index": 0, "content_filter_results": {}, "finish_reason": None}]),
            message("stop", content=" 4."), COUNTED, DONE,
        ),
        TEXT, 4, 9, (),
    ),
    "half a surrogate pair in the reasoning": (
        chunks(message(reasoning="\ud800"), message("stop", content=TEXT), COUNTED, DONE),
        f"\ufffd\nassistantfinal\n\n{TEXT}", 4, 9, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("behaviour", "text", "prompt", "used", "estimated"), REPLIES.values(),
                         ids=REPLIES)  # fmt: skip
def test_a_reply(
    behaviour: Behaviour,
    text: str,
    prompt: int | None,
    used: int,
    estimated: tuple[str, ...],
    running: ExitStack,
) -> None:
    engine, (server,) = begin(running, behaviour, outage=1.0)
    reply = ask(engine, REQUEST)["p0"]
    assert (reply.text, reply.prompt_tokens, reply.tokens) == (text, prompt, used)
    assert reply.estimated == estimated
    assert len(server.received) == 1


def test_the_visible_answer_is_what_follows_the_reasoning() -> None:
    assert visible("gpt_oss", GOOD.text).strip() == "It is 4."


def test_a_filtered_reply_is_kept_with_its_finish_reason(running: ExitStack) -> None:
    filtered = chunks(message("content_filter", content="It"), COUNTED, DONE)
    engine, (server,) = begin(running, filtered)
    reply = ask(engine, REQUEST)["p0"]
    assert (reply.text, reply.finish_reason, reply.failure) == ("It", "content_filter", None)
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (
            chunks(message("content_filter", content=None), COUNTED, DONE),
            "the reply is empty (content_filter)",
        ),
        (status(400), "HTTP 400: not now"),
    ],
)
def test_what_a_working_server_filters_twice_fails_for_good(
    refusal: Behaviour, why: str, running: ExitStack
) -> None:
    async def behave(received: Received, answer: Answer) -> None:
        await (chunks(*WELL) if received.body["seed"] else refusal)(received, answer)

    engine, (server,) = begin(running, behave)
    engine.submit(Request(KEY, (), 50, 0, messages=REQUEST.messages))
    done: list[Completion] = []
    step = 1
    while not any(each.key == KEY for each in done):  # others are accepted meanwhile
        engine.submit(Request(K("other", 0, step), (), 50, step, messages=REQUEST.messages))
        done += engine.completions()
        step += 1
    (failed,) = (each for each in done if each.key == KEY)
    assert failed.failure == f"{server.url}: {why}"


TRY_AGAIN: dict[str, Behaviour] = {
    "429": status(429, Retry_After="0"),
    "429 with a date": status(429, Retry_After="Tue, 21 Oct 2014 07:28:00 GMT"),
    "a completion instead": chunks(delta("It is 4."), delta("", None, "stop"), DONE),
    "an error in one body": whole(b'{"error": {"message": "overloaded", "code": 502}}'),
    "an error midway": chunks(message(content="It"), event(error={"code": 502}, choices=[]), DONE),
    "ended by an error": chunks(message("error", content="It"), DONE),
    "two choices in one body": whole(
        json.dumps({"choices": [json.loads(body(content="a"))["choices"][0]] * 2}).encode()
    ),
    "two choices in turn": chunks(
        message(content="a"),
        event(choices=[{"index": 1, "delta": {"content": "b"}, "finish_reason": "stop"}]),
        message("stop"),
        DONE,
    ),
    "content in parts": chunks(message("stop", content=[{"type": "text", "text": "4"}]), DONE),
    "a message that is none": chunks(event(choices=[{"index": 0, "delta": "It is 4."}])),
    "reasoning that is no text": chunks(message("stop", reasoning={"a": 1}, content="4"), DONE),
    "a tool call": chunks(message("tool_calls", tool_calls=[{"function": {"name": "x"}}]), DONE),
    "no end": chunks(message(content="It is 4."), DONE),
    "reasoning without end": chunks(*[message(reasoning="so " * 500)] * 20),
}


@pytest.mark.parametrize("fault", TRY_AGAIN.values(), ids=TRY_AGAIN)
def test_what_passes_is_asked_again_the_same(fault: Behaviour, running: ExitStack) -> None:
    async def behave(received: Received, answer: Answer) -> None:
        await (fault if received.number < 2 else chunks(*WELL))(received, answer)

    engine, (server,) = begin(running, behave)
    assert ask(engine, REQUEST) == {"p0": GOOD}
    short = chat_completions("").short["messages"]
    asked = [received.body for received in server.received if received.body["messages"] != short]
    assert asked == asked[:1] * 3


def test_a_pause_that_is_asked_for_is_kept(
    running: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    async def sleep(seconds: float) -> None:
        pauses.append(int(seconds))

    async def behave(received: Received, answer: Answer) -> None:
        limited = status(429, Retry_After="77")
        await (limited if received.number < 2 else chunks(*WELL))(received, answer)

    engine, _ = begin(running, behave)
    monkeypatch.setattr("kflow.engines.openai_engine.openai.pause", sleep)
    assert ask(engine, REQUEST) == {"p0": GOOD}
    assert pauses == [77, 77]


def test_reasoning_is_progress_like_text() -> None:
    reply = Streamed(8, of_chat)
    reply.feed(message(reasoning="Hm"))
    assert (reply.progress, reply.has_text, reply.text, reply.thought) == (2, True, "", "Hm")
    with pytest.raises(Fault, match="the connection was closed mid-reply"):
        reply.end()
