"""What a server is found to be before a run, and what ends a start on servers in one sentence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers import talkers
from helpers.http_server import Answer, Received, Scripted, Server
from helpers.scripted import refused, run_script
from helpers.served import CHAT, SECRET, flags, run
from helpers.talkers import LISTED, OSS, Rule, Talker, error, is_trial, refusing, refusing_where
from kflow.engines.openai_engine import servers
from kflow.engines.openai_engine.api import COMPLETIONS
from kflow.engines.openai_engine.network import proxy_of
from kflow.engines.openai_engine.sent import constraint
from kflow.engines.openai_engine.servers import Needs, described
from kflow.results import description
from kflow.types import Message, Prompt, UserError

QWEN = "vllm_kflow_qwen"
ONE_STEP = ["--reflex_size", "1"]
pytestmark = pytest.mark.usefixtures("quickly")

# The way there.


@pytest.mark.parametrize(
    ("spared", "host", "direct"),
    [
        ("", "10.1.2.3", False),
        ("192.168.0.0/16, 10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8,h", "11.1.2.3", False),
        ("10.0.0.0/8", "[fd00::1]", False),
        ("10.0.0.0/8,node7", "node7", True),
        ("", "localhost", True),
        ("", "[::1]", True),
    ],
)
def test_a_proxy_is_left_out_for_hosts_and_networks_that_are_spared(
    spared: str, host: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", spared)
    assert proxy_of(f"http://{host}:8000/v1") == ("" if direct else "http://proxy:3128")


# Lists of models.


def by_its_cards(model: str, *cards: Mapping[str, Any]) -> str:
    """The name that a server is asked for, as it is described by a list of models."""
    needs = Needs(model, "--flag", 8192, COMPLETIONS, {}, CHAT, 60.0)
    return described("http://h/v1", {card["id"]: card for card in cards}, needs, None).model


@pytest.mark.parametrize(
    "cards",
    [
        [{"id": "m", "max_model_len": 4096}],
        [{"id": "m", "meta": {"n_ctx": 4096, "n_ctx_train": 262144}}],  # llama.cpp
        [{"id": "m", "context_length": 4096}],  # OpenRouter, Together
        [{"id": "m", "context_window": 4096}],  # Groq
        [{"id": "m", "max_context_length": 4096}],  # Mistral
        # An adapter's window is its model's.
        [{"id": "m", "max_model_len": None, "parent": "b"}, {"id": "b", "max_model_len": 4096}],
    ],
)
def test_a_window_is_known_by_any_of_its_names(cards: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="a window of 4096 tokens, less than --max_new_tokens 8192"):
        by_its_cards("m", *cards)


@pytest.mark.parametrize("listed", ["some/model", "some/*"])
def test_a_name_that_tells_a_router_how_to_choose_is_asked(listed: str) -> None:
    assert by_its_cards("some/model:nitro", {"id": listed}) == "some/model:nitro"


def test_the_nearest_of_many_names_are_told() -> None:
    names = [f"vendor/model-{n}" for n in range(300)] + ["some/modell", "some/model-2", "a/b"]
    with pytest.raises(UserError, match="of its 303 models as --flag: some/modell, some/model-2"):
        by_its_cards("some/model", *({"id": name} for name in names))


# Starts that end.

CARD = {"id": "model", "owned_by": "vllm", "max_model_len": 4096}
STARTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "another model": (
        {"card": {**CARD, "id": "some\x1bthing"}},
        ["does not serve model: give a name of its 1 model as --served_model_name: some\\x1bthing"],
    ),
    "a small window": (
        {"card": CARD},
        ["a window of 4096 tokens, less than --max_new_tokens 262144", "--max-model-len 262144"],
    ),
    "a small window of llama.cpp": (
        {"card": {"id": "model", "owned_by": "llamacpp", "meta": {"n_ctx": 4096}}},
        ["a window of 4096 tokens", "start it with -c 262144 for each slot"],
    ),
    "an empty list": ({"models": b'{"data": []}'}, ["lists no model", "use --engine chat"]),
    "no JSON": ({"models": b"<html>"}, ["does not list models", "correct --base_url"]),
    "odd JSON": ({"models": b"[1]"}, ["does not list models"]),
    "odd cards": ({"models": b'{"data": [1, {"id": 2}]}'}, ["does not list models"]),
    "too long": ({"models": b"[" * 9_000_000}, ["does not list models"]),
    "a wrong key": (
        {"models_status": 401, "models": error(f"no such key: {SECRET}")},
        ["refuses the key in OPENAI_API_KEY (HTTP 401: no such key: ***)"],
    ),
    "a redirect": ({"models_status": 302}, ["(HTTP 302: it redirects to another address"]),
}


@pytest.mark.parametrize(("answers", "named"), STARTS.values(), ids=STARTS)
def test_a_server_that_cannot_serve_is_told_at_the_start(
    answers: Mapping[str, Any], named: list[str], tmp_path: Path
) -> None:
    scripted = Scripted()
    with Server(scripted, **answers) as server:
        ran = run(QWEN, scripted, flags(server), tmp_path)
        assert not server.received
    refused(ran, server.url, *named)
    assert not (tmp_path / "results").exists()


def test_sections_are_forced_only_where_it_is_known_how(tmp_path: Path) -> None:
    scripted, argv = Scripted(), ["--force_sections", *ONE_STEP]
    with Server(scripted, {"id": "model", "owned_by": "llamacpp"}) as server:
        ran = run(QWEN, scripted, [*argv, *flags(server)], tmp_path)
        dry = run(QWEN, scripted, [*argv, *flags(server), "--dry_run"], tmp_path)
    for each in (ran, dry):
        refused(each, "neither a vLLM nor an SGLang server", "leave out --force_sections")
    with Server(scripted, {"id": "model", "owned_by": "sglang"}, None) as server:
        assert run(QWEN, scripted, [*argv, *flags(server)], tmp_path).code == 0
        assert "regex" in server.received[-1].body


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("0.10.2", {"guided_regex"}),
        ("0.32.0", {"structured_outputs"}),
        (None, {"guided_regex", "structured_outputs"}),
    ],
)
def test_a_constraint_has_the_name_that_a_version_has_for_it(
    version: str | None, fields: set[str]
) -> None:
    assert constraint(description.Server("u", "m", "vllm", version, None), "x").keys() == fields


HERE = flags("http://h/v1")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--engine", "openai"], "--base_url: required with --engine openai"),
        (["--base_url", "http://h/v1"], "--base_url: only valid with --engine openai or chat, not"),
        (["--max_outage", "3"], "--max_outage: only valid with --engine openai or chat, not vllm"),
        ([*HERE, "--dtype", "x"], "--dtype: only valid with --engine vllm, not openai"),
        ([*HERE, "--engine_args", "{}"], "--engine_args: only valid with --engine vllm"),
        ([*HERE, "--request_timeout", "0"], "--request_timeout"),
        ([*HERE, "--max_concurrency", "0"], "--max_concurrency"),
        *(
            (flags(url), "--base_url: must be like http://HOST:PORT/v1")
            for url in (
                "ftp://h/v1", "h:8000", "http://h:port/v1", "http:///v1", "http://h/v1?a=b",
                "http://h/v1\n", "http://[::1/v1",
            )
        ),
        (flags(f"http://me:{SECRET}@h/v1"), "must not contain a user name or password"),
        (flags(f"http://{SECRET}@h/v1"), "must not contain a user name or password"),
        (["--api_key", SECRET], "a key is read from OPENAI_API_KEY"),
        ([f"--api_key={SECRET}"], "a key is read from OPENAI_API_KEY"),
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together(argv: list[str], named: str, tmp_path: Path) -> None:
    ran = run_script(QWEN, argv, tmp_path)
    refused(ran, named, "see --help.")
    assert SECRET not in ran.err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("key", ["sk-a b", "sk-a\nb", "sk-é"])
def test_a_key_that_cannot_be_sent_is_not_shown(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    scripted = Scripted()
    with Server(scripted) as server:
        ran = run(QWEN, scripted, flags(server), tmp_path)
        assert server.looked == []
    refused(ran, "OPENAI_API_KEY holds spaces or characters beyond ASCII")
    assert key[:4] not in ran.err


def test_a_line_end_after_the_key_is_not_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{SECRET}\n")
    scripted = Scripted()
    with Server(scripted) as server:
        assert run(QWEN, scripted, [*ONE_STEP, *flags(server)], tmp_path).code == 0
        assert server.received[0].headers["authorization"] == f"Bearer {SECRET}"


def test_a_dry_run_needs_no_server(tmp_path: Path) -> None:
    argv = [*flags("http://127.0.0.1:9/v1/", "http://127.0.0.2:9/v1"), "--dry_run", "json"]
    ran = run_script(QWEN, argv, tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert "# not checked: the servers' model, window and prices: http://127.0.0." in ran.out
    engine = json.loads(ran.out.partition("\n\n")[0])["engine"]
    assert engine["kind"] == "openai"
    arguments = engine["arguments"]
    assert arguments["base_url"] == ["http://127.0.0.1:9/v1", "http://127.0.0.2:9/v1"]
    assert arguments["request"]["return_token_ids"] is True
    assert arguments["request_timeout"] == 3600
    assert not (tmp_path / "results").exists()


# The first request.


def test_fields_that_a_server_refuses_are_left_out_and_on_record(tmp_path: Path) -> None:
    """test_refusals.py has other words for them."""
    rule = refusing(
        {
            "max_tokens": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.",
            "seed": "Unknown parameter: 'seed'.",
            "reasoning_effort": "Unrecognized request argument supplied: reasoning_effort",
            "stream_options": '[{"loc": ["body", "stream_options"], "type": "extra_forbidden"}]',
        }
    )
    with Server(Talker(before=rule), LISTED) as server:
        ran = talkers.run(OSS, [*ONE_STEP, *talkers.flags(server)], tmp_path)
        assert ran.code == 0, ran.err
        # A trial for each refusal, one that is taken, rollouts.
        assert len(server.received) == 4 + 1 + 3
        for received in server.received[5:]:
            assert received.body.keys() == {
                "model", "messages", "max_completion_tokens", "stream", "temperature", "top_p",
            }  # fmt: skip
        line = f"{server.url} refuses seed, reasoning_effort, stream_options: left out"
        assert line in ran.complaints
    (described,) = ran.run()["sessions"][0]["engine"]["servers"]
    assert described["refused"] == ["max_tokens", "seed", "reasoning_effort", "stream_options"]
    assert "reasoning_effort" not in described["request"]


EITHER = "'max_tokens' or 'max_completion_tokens' is too large"


@pytest.mark.parametrize(
    ("fields", "argv", "said"),
    [
        ({"top_p": "top_p is not supported"}, ["--top_p", "0.9"], "change --top_p"),
        ({"max_tokens": EITHER, "max_completion_tokens": EITHER}, [], "lower --max_new_tokens"),
    ],
)
def test_a_field_that_was_asked_for_is_not_left_out(
    fields: dict[str, str], argv: list[str], said: str, tmp_path: Path
) -> None:
    with Server(Talker(before=refusing(fields)), models_status=404) as server:
        ran = talkers.run(OSS, [*talkers.flags(server), *argv], tmp_path)
        assert all(is_trial(received) for received in server.received)
    refused(ran, server.url, *fields.values(), said)
    assert not (tmp_path / "results").exists()


twice_busy = refusing_where(lambda received: received.number < 2, 429, b"", Retry_After="0")


async def slow_at_first(received: Received, answer: Answer) -> bool:
    if is_trial(received):
        await asyncio.sleep(0.5)
    return False


@pytest.mark.parametrize("rule", [twice_busy, slow_at_first])
def test_a_server_that_is_busy_or_slow_at_the_start_is_waited_for(
    rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "TELL_AFTER", 0.1)
    with Server(Talker(before=rule), LISTED) as server:
        ran = talkers.run(OSS, [*ONE_STEP, *talkers.flags(server)], tmp_path)
    assert ran.code == 0
    if rule is slow_at_first:
        assert ran.complaints == [f"{server.url}: waiting for its answer to a first request"]


def test_a_server_that_stays_busy_is_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    with Server(Talker(before=refusing({"model": "slow down"}, 429)), LISTED) as server:
        argv = [*talkers.flags(server), "--max_outage", "0.001"]
        ran = talkers.run(OSS, argv, tmp_path)
    assert ran.code == 1
    assert "HTTP 429: slow down" in ran.complaints[-1]
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("listing", [{"models_status": 404}, {"models": b"<html>"}], ids=str)
def test_a_server_that_lists_no_models_is_used_for_chat(
    listing: dict[str, Any], tmp_path: Path
) -> None:
    with Server(Talker(), version=None, **listing) as server:
        ran = talkers.run(OSS, [*ONE_STEP, *talkers.flags(server)], tmp_path)
        assert ran.code == 0, ran.err
    (described,) = ran.run()["sessions"][0]["engine"]["servers"]
    assert (described["kind"], described["window"]) == ("unknown", None)


@pytest.mark.parametrize("status", [503, 429])
def test_a_server_that_is_still_loading_its_model_is_waited_for(
    status: int, tmp_path: Path
) -> None:
    """llama.cpp answers its list of models so, too."""
    scripted, words = Scripted(), error("Loading model")
    with Server(scripted, models=words, models_status=status, loading=2) as server:
        ran = run(QWEN, scripted, [*ONE_STEP, *flags(server)], tmp_path)
    assert ran.code == 0, ran.err
    assert any(f"HTTP {status}: Loading model" in line for line in ran.complaints)
    with Server(Talker(), LISTED, models=words, models_status=status, loading=2) as server:
        ran = talkers.run(OSS, [*ONE_STEP, *talkers.flags(server)], tmp_path / "chat")
    assert ran.code == 0, ran.err
    (described,) = ran.run()["sessions"][0]["engine"]["servers"]
    assert described["kind"] == LISTED["owned_by"]


def test_a_server_that_reads_other_text_in_token_ids_is_refused(tmp_path: Path) -> None:
    """llama.cpp sends no ids back, which would show it later."""
    scripted = Scripted()
    with Server(scripted, {"id": "model", "owned_by": "llamacpp"}, reads="o(ByVal Note") as server:
        argv = [*ONE_STEP, *flags(server)]
        ran = run(QWEN, scripted, argv, tmp_path)
        assert not server.received
        refused(ran, "decodes token ids into other text", "as --model_name")
        assert not (tmp_path / "results").exists()
        question = (Message("user", "Reply with one word: yes."),)
        ids = scripted.chat.render(Prompt(question, 0.5))
        for skipping in (False, True):
            server.reads = scripted.chat.decode(ids, skip_special_tokens=skipping)
            assert run(QWEN, scripted, argv, tmp_path / str(skipping)).code == 0
        server.reads = "o(ByVal Note"
        as_text = [*argv, "--prompt_as_text"]
        assert run(QWEN, scripted, as_text, tmp_path / "as text").code == 0
