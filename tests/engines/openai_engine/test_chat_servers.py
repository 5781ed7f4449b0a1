"""Servers that have only chat completions, at the start of a run: the fields that they refuse,
alone or with every request, and the models that they list or do not."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from helpers.http_server import DONE, Answer, Received, Scripted, Server, message, usage
from helpers.scripted import refused, run_script
from helpers.served import SECRET, quick
from helpers.talkers import LISTED, OSS, Rule, Talker, flags, is_trial, refusing, run
from kflow.engines.openai_engine import servers

QWEN = "vllm_kflow_qwen"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


def test_fields_that_a_server_refuses_are_left_out_and_on_record(tmp_path: Path) -> None:
    rule = refusing(
        {
            "max_tokens": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.",
            "seed": "Unknown parameter: 'seed'.",
            "reasoning_effort": "Unrecognized request argument supplied: reasoning_effort",
            "stream_options": '[{"loc": ["body", "stream_options"], "type": "extra_forbidden"}]',
        }
    )
    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path)
        assert ran.code == 0, ran.err
        assert (
            len(server.received) == 5 + 3
        )  # a trial for each refusal, one that is taken, rollouts
        for received in server.received[5:]:
            assert received.body.keys() == {
                "model", "messages", "max_completion_tokens", "stream", "temperature", "top_p",
            }  # fmt: skip
        line = f"{server.url} refuses seed, reasoning_effort, stream_options: left out"
        assert line in ran.complaints
    (described,) = ran.run()["sessions"][0]["engine"]["servers"]
    assert described["refused"] == ["max_tokens", "seed", "reasoning_effort", "stream_options"]
    assert "reasoning_effort" not in described["request"]


@pytest.mark.parametrize(
    ("field", "status", "content"),
    [
        ("reasoning_effort", 400, b'{"code": "x", "error": "no support for reasoningEffort"}'),
        ("reasoning_effort", 400, b'{"error": {"message": "reasoning_effort must be none"}}'),
        ("reasoning_effort", 400, b"no support for parameters: ['reasoning_effort']"),
        ("seed", 422, b'{"object": "error", "message": {"detail": [{"loc": ["body", "seed"]}]}}'),
        ("seed", 422, b'{"object": "error", "message": "{\\"loc\\":[\\"body\\",\\"seed\\"]}"}'),
        ("seed", 400, b'[{"error": {"message": "Unknown name \\"seed\\""}}]'),
        ("stream_options", 400, b'{"detail": "stream_options: extra fields not permitted"}'),
    ],
)
def test_a_field_is_found_in_whatever_a_server_says(
    field: str, status: int, content: bytes, tmp_path: Path
) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        if field in received.body:
            await answer.whole(status, content)
        return field in received.body

    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path)
    assert ran.code == 0, ran.err
    assert ran.complaints == [f"{server.url} refuses {field}: left out"]


REFUSALS: dict[str, tuple[Rule, list[str], tuple[str, ...]]] = {
    "a value that was asked for": (
        refusing({"temperature": "Unsupported value: 'temperature' does not support 0.6."}), [],
        ("refuses a rollout's request (HTTP 400: Unsupported value: 'temperature'",),
    ),
    "top_p that was asked for": (
        refusing({"top_p": "top_p is not supported"}), ["--top_p", "0.9"],
        ("refuses a rollout's request (HTTP 400: top_p is not supported)",),
    ),
    "a window that is too large": (
        refusing({"max_tokens": "max_tokens is too large: at most 16384"}), [],
        ("HTTP 400: max_tokens is too large", "lower --max_new_tokens"),
    ),
    "a window in words that name the other field": (
        refusing(dict.fromkeys(
            ("max_tokens", "max_completion_tokens"),
            "'max_tokens' or 'max_completion_tokens' is too large",
        )), [],
        ("is too large", "lower --max_new_tokens"),
    ),
    "a wrong key": (
        refusing({"model": f"{SECRET} is no key"}, 401), [],
        ("HTTP 401: *** is no key", "OPENAI_API_KEY"),
    ),
    "no such page": (refusing({"model": "Not Found"}, 404), [], ("HTTP 404", "ends in /v1")),
}  # fmt: skip


@pytest.mark.parametrize("models_status", [200, 404], ids=["listed", "unlisted"])
@pytest.mark.parametrize(("rule", "argv", "words"), REFUSALS.values(), ids=REFUSALS)
def test_a_server_that_refuses_every_request_is_reported_at_the_start(
    rule: Rule, argv: list[str], words: tuple[str, ...], models_status: int, tmp_path: Path
) -> None:
    with Server(Talker(before=rule), LISTED, models_status=models_status) as server:
        ran = run(OSS, [*flags(server), "--max_outage", "0.01", *argv], tmp_path)
        assert all(is_trial(received) for received in server.received)
    refused(ran, server.url, *words)
    assert SECRET not in ran.err
    assert not (tmp_path / "results").exists()


def test_a_server_that_stays_busy_at_the_start_is_waited_for_no_longer_than_asked(
    tmp_path: Path,
) -> None:
    with Server(Talker(before=refusing({"model": "slow down"}, 429)), LISTED) as server:
        ran = run(OSS, [*flags(server), "--max_outage", "0.001"], tmp_path)
    assert ran.code == 1
    assert "HTTP 429: slow down" in ran.complaints[-1]
    assert not (tmp_path / "results").exists()


def test_a_first_answer_that_is_late_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "TELL_AFTER", 0.1)

    async def slow(received: Received, answer: Answer) -> bool:
        if is_trial(received):
            await asyncio.sleep(0.5)
        return False

    with Server(Talker(before=slow), LISTED) as server:
        ran = run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path)
    assert ran.code == 0
    assert ran.complaints == [f"{server.url}: waiting for its answer to a first request"]


def test_a_server_that_is_busy_at_the_start_is_waited_for(tmp_path: Path) -> None:
    async def busy(received: Received, answer: Answer) -> bool:
        if received.number < 2:
            await answer.whole(429, Retry_After="0")
        return received.number < 2

    with Server(Talker(before=busy), LISTED) as server:
        assert run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path).code == 0


@pytest.mark.parametrize(
    "listing", [{"models_status": 404}, {"models_status": 405}, {"models": b"<html>"}], ids=str
)
def test_a_server_that_lists_no_models_is_used(listing: dict[str, Any], tmp_path: Path) -> None:
    with Server(Talker(), version=None, **listing) as server:
        ran = run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path)
        assert ran.code == 0, ran.err
    (described,) = ran.run()["sessions"][0]["engine"]["servers"]
    assert (described["kind"], described["window"]) == ("unknown", None)


def test_a_model_that_is_not_among_those_listed_is_refused(tmp_path: Path) -> None:
    with Server(Talker()) as server:
        ran = run(OSS, flags(server), tmp_path)
        assert not server.received
    refused(ran, "does not serve some/model", "as --model_name: model")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "card",
    [
        {"meta": {"n_ctx": 4096, "n_ctx_train": 262144}},
        {"context_length": 4096},
        {"context_window": 4096},
        {"max_context_length": 4096},
    ],
    ids=["llama.cpp", "OpenRouter, Together", "Groq", "Mistral"],
)
def test_a_window_is_known_by_any_of_its_names(card: dict[str, Any], tmp_path: Path) -> None:
    with Server(Talker(), {**LISTED, **card}) as server:
        ran = run(OSS, [*flags(server), "--max_new_tokens", "8192"], tmp_path)
        assert not server.received
    refused(ran, "a window of 4096 tokens, less than --max_new_tokens 8192")


@pytest.mark.parametrize("status", [503, 429])
def test_a_server_that_is_still_loading_its_model_is_waited_for(
    status: int, tmp_path: Path
) -> None:
    """llama.cpp answers its list of models so, too."""
    scripted = Scripted()
    with Server(scripted, models=b'{"error": {"message": "Loading model"}}') as server:
        server.models_status = status
        timer = threading.Timer(0.3, server.list_models)
        timer.start()
        argv = ["--engine", "openai", "--served_model_name", "model", "--base_url", server.url]
        ran = run_script(QWEN, [*argv, "--reflex_size", "1"], tmp_path, served=scripted.chat)
    assert ran.code == 0, ran.err
    assert any(f"HTTP {status}: Loading model" in line for line in ran.complaints)


def test_a_reply_that_a_server_truncates_long_before_its_budget_is_told(tmp_path: Path) -> None:
    """As Ollama does at 4,096 tokens of prompt and reply, whatever is asked for."""

    async def rule(received: Received, answer: Answer) -> bool:
        if not is_trial(received):
            text = talker.reply(received)[1]
            counted = usage(4000, prompt_tokens=96)
            await answer.stream(message("length", content=text), counted, DONE)
        return not is_trial(received)

    talker = Talker(before=rule)
    with Server(talker, LISTED) as server:
        ran = run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path)
    assert ran.code == 0
    (line,) = ran.complaints
    assert line.startswith(f"{server.url}: a reply was truncated at 4000 tokens of 117964")
