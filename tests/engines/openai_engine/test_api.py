"""What a request of either API holds, and what is made of a reply that is whole."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from helpers.fakes import K
from helpers.http_server import DONE, chunks, delta, message, usage
from helpers.served import CHAT, PROMPT, SECRET, ask, good, request, start, well
from kflow.engines.openai_engine.api import AS_TEXT, COMPLETIONS, OWN_FIELDS, Api, chat_completions
from kflow.engines.openai_engine.retry import Fault
from kflow.engines.openai_engine.sent import common
from kflow.engines.openai_engine.streamed import Streamed
from kflow.families import gpt_oss
from kflow.families.messages import in_messages
from kflow.sections import visible
from kflow.types import Completion, Message, Request

FAMILY = in_messages(gpt_oss.FAMILY)
TALK, API = FAMILY.chat("a model by name", False, None), chat_completions(FAMILY.end_of_thinking)
KEY = K("p0", 0, 0)
QUESTION = (Message("system", "Be brief."), Message("user", "é?"))
TEXT = "It is 4."
COUNTED = usage(9, prompt_tokens=4, total_tokens=13)


def test_what_vllm_is_sent(running: ExitStack) -> None:
    sampling = {"temperature": 0.7, "top_k": 5, "stop_token_ids": [7, 8]}
    engine, (server,) = start(running, well, sampling=sampling)
    assert ask(engine, request(3)) == {"p3": good(3)}
    (received,) = server.received
    assert received.path == "/v1/completions"
    assert received.headers["authorization"] == f"Bearer {SECRET}"
    assert received.headers["accept-encoding"] == "identity"
    assert received.body == {
        "model": "model", "prompt": list(PROMPT), "max_tokens": 50, "seed": 3, "stream": True,
        "stream_options": {"include_usage": True}, "temperature": 0.7, "top_p": 1.0, "top_k": 5,
        "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "stop_token_ids": [7, 8], "skip_special_tokens": True,
        "add_special_tokens": False, "return_token_ids": True, "stream_interval": 16,
    }  # fmt: skip


def test_a_server_of_unknown_make_is_sent_the_apis_own_fields(running: ExitStack) -> None:
    plain = chunks(delta(TEXT), delta("", None, "stop"), usage(5), DONE)
    engine, (server,) = start(running, plain, kind="someone", api=AS_TEXT)
    assert ask(engine, request()) == {"p0": Completion(KEY, TEXT, 5, "stop")}
    body = server.received[0].body
    assert body["prompt"] == "Why is that so?"
    assert body.keys() == {
        "model", "prompt", "max_tokens", "seed", "stream", "stream_options", "temperature", "top_p",
    }  # fmt: skip


@pytest.mark.parametrize("api", [COMPLETIONS, API], ids=["completions", "chat"])
def test_no_sampler_that_llamacpp_was_started_with_stays_on(api: Api) -> None:
    """By its own names: it passes over repetition_penalty."""
    sent = common(api, "llamacpp", "model", {"temperature": 0.7, "top_k": 5})
    own = {
        "repeat_penalty": 1.0, "typical_p": 1.0, "dry_multiplier": 0.0, "xtc_probability": 0.0,
        "dynatemp_range": 0.0, "top_n_sigma": -1.0, "mirostat": 0, "cache_prompt": False,
        "top_k": 5, "min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
    }  # fmt: skip
    assert sent.items() >= own.items()
    assert "repetition_penalty" not in sent
    wanted = {"repeat_penalty": 1.1}  # by --request_args
    assert common(api, "llamacpp", "model", wanted)["repeat_penalty"] == 1.1
    assert not wanted.keys() & OWN_FIELDS


@pytest.mark.parametrize("kind", ["someone", "vllm"])
def test_what_a_server_of_chat_completions_is_sent(kind: str, running: ExitStack) -> None:
    sampling = {"temperature": 0.7, "reasoning_effort": "low"}
    behaviour = chunks(message("stop", content=TEXT), COUNTED, DONE)
    engine, (server,) = start(running, behaviour, kind=kind, api=API, chat=TALK, sampling=sampling)
    ask(engine, Request(KEY, (), 50, (1 << 31) + 7, messages=QUESTION))
    (received,) = server.received
    assert received.path == "/v1/chat/completions"
    neutral = {
        "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "stream_interval": 16,
    }  # fmt: skip
    assert received.body == {
        "model": "model", "max_tokens": 50, "seed": 7, "stream": True,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "é?"}],
        "stream_options": {"include_usage": True}, "temperature": 0.7, "top_p": 1.0,
        "reasoning_effort": "low", **(neutral if kind == "vllm" else {}),
    }  # fmt: skip


def completed(chat: bool, *pieces: bytes) -> Completion:
    reply = Streamed(50, chat)
    for piece in pieces:
        reply.feed(piece)
    reply.end()
    api, talk = (API, TALK) if chat else (COMPLETIONS, CHAT)
    return api.completion(KEY, reply, talk)


def test_tokens_are_counted_here_where_the_server_does_not() -> None:
    assert completed(False, delta("So it is", None, "length"), DONE).tokens == 5


def test_ids_of_another_vocabulary_are_a_fault() -> None:
    with pytest.raises(Fault, match="outside the tokenizer's vocabulary"):
        completed(False, delta("a", [2_000_000_000], "stop"), DONE)


THINKS = "So be it.\nassistantfinal\n\nIt is 4."
BY_ESTIMATE = 3  # TEXT's 8 bytes, 3 a token
BOTH = ("prompt_tokens", "completion_tokens")
# Name -> what is sent, the text, prompt and reply tokens, what of these is estimated.
REPLIES: dict[str, tuple[list[bytes], str, int | None, int, tuple[str, ...]]] = {
    "reasoning before": (
        [message(reasoning="So be it."), message("stop", content=TEXT), COUNTED], THINKS, 4, 9, (),
    ),
    "no reasoning": ([message("stop", content=TEXT), COUNTED], TEXT, 4, 9, ()),
    "thinking within the text": (
        [message("stop", content=f"Hm.assistantfinal{TEXT}"), COUNTED],
        f"Hm.assistantfinal{TEXT}", 4, 9, (),
    ),
    "truncated while it thinks": (
        [message(reasoning="So be"), message("length", content=None), COUNTED], "So be", 4, 9, (),
    ),
    "no usage": ([message("stop", content=TEXT), DONE], TEXT, None, BY_ESTIMATE, BOTH),
    "usage of the reply alone": (
        [message("stop", content=TEXT), usage(9)], TEXT, None, 9, ("prompt_tokens",),
    ),
    "usage of zeros": (
        [message("stop", content=TEXT), usage(0, prompt_tokens=0, total_tokens=0)],
        TEXT, None, BY_ESTIMATE, BOTH,
    ),
    "reasoning counted in the total alone": (
        [message("stop", content=TEXT), usage(9, prompt_tokens=4, total_tokens=113)],
        TEXT, 4, 109, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("pieces", "text", "prompt", "used", "estimated"), REPLIES.values(),
                         ids=REPLIES)  # fmt: skip
def test_a_message_as_the_run_gets_it(
    pieces: list[bytes], text: str, prompt: int | None, used: int, estimated: tuple[str, ...]
) -> None:
    reply = completed(True, *pieces)
    assert (reply.text, reply.prompt_tokens, reply.tokens) == (text, prompt, used)
    assert reply.estimated == estimated
    if text is THINKS:
        assert visible("gpt_oss", reply.text).strip() == TEXT
