"""What ends a script on servers before anything is asked, in one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_served_runs import QWEN, flags, run

from helpers.http_server import Scripted, Server
from helpers.scripted import refused, run_script
from helpers.served import SECRET, quick


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


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
    "no list": ({"models": b"{}"}, ["does not list models", "correct --base_url"]),
    "an empty list": (
        {"models": b'{"object": "list", "data": []}'},
        ["lists no model", "use --engine chat"],
    ),
    "no JSON": ({"models": b"<html>"}, ["does not list models"]),
    "odd JSON": ({"models": b"[1]"}, ["does not list models"]),
    "odd cards": ({"models": b'{"data": [1, {"id": 2}]}'}, ["does not list models"]),
    "too long": ({"models": b"[" * 9_000_000}, ["does not list models"]),
    "a wrong key": (
        {"models_status": 401, "models": f'{{"error": "no such key: {SECRET}"}}'.encode()},
        ["refuses the key in OPENAI_API_KEY (HTTP 401: no such key: ***)"],
    ),
    "a wrong address": (
        {"models_status": 404, "models": b""},
        ["(HTTP 404)", "usually ends in /v1"],
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


def test_a_server_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    scripted = Scripted()
    with Server(scripted) as server:
        pass
    refused(run(QWEN, scripted, flags(server), tmp_path), server.url, "start the server first")
    assert not (tmp_path / "results").exists()


def test_sections_are_forced_only_where_it_is_known_how(tmp_path: Path) -> None:
    scripted = Scripted()
    argv = ["--force_sections", "--reflex_size", "1"]
    with Server(scripted, {"id": "model", "owned_by": "llamacpp"}) as server:
        ran = run(QWEN, scripted, [*argv, *flags(server)], tmp_path)
    refused(ran, "neither a vLLM nor an SGLang server", "leave out --force_sections")
    assert not (tmp_path / "results").exists()
    fields = {"guided_regex", "structured_outputs", "regex"}
    for number, (owner, version, named) in enumerate(
        [
            ("vllm", "0.10.2", {"guided_regex"}),
            ("vllm", "0.32.0", {"structured_outputs"}),
            ("vllm", None, {"guided_regex", "structured_outputs"}),
            ("sglang", "0.5", {"regex"}),
        ]
    ):
        scripted = Scripted()
        with Server(scripted, {"id": "model", "owned_by": owner}, version) as server:
            ran = run(QWEN, scripted, [*argv, *flags(server)], tmp_path / str(number))
            assert ran.code == 0
            assert fields & server.received[-1].body.keys() == named


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--engine", "openai"], "--base_url: required with --engine openai"),
        (
            ["--base_url", "http://h/v1"],
            "--base_url: only valid with --engine openai or chat, not vllm",
        ),
        (["--max_outage", "3"], "--max_outage: only valid with --engine openai or chat, not vllm"),
        (
            [*flags("http://h/v1"), "--dtype", "x"],
            "--dtype: only valid with --engine vllm, not openai",
        ),
        (
            [*flags("http://h/v1"), "--engine_args", "{}"],
            "--engine_args: only valid with --engine vllm",
        ),
        ([*flags("http://h/v1"), "--request_timeout", "0"], "--request_timeout"),
        ([*flags("http://h/v1"), "--max_concurrency", "0"], "--max_concurrency"),
        (flags("ftp://h/v1"), "--base_url: must be like http://HOST:PORT/v1"),
        (flags("h:8000"), "--base_url: must be like"),
        (flags("http://h:port/v1"), "--base_url: must be like"),
        (flags("http:///v1"), "--base_url: must be like"),
        (flags("http://h/v1?a=b"), "--base_url: must be like"),
        (flags("http://h/v1\n"), "--base_url: must be like"),
        (flags("http://[::1/v1"), "--base_url: must be like"),
        (flags(f"http://me:{SECRET}@h/v1"), "must not contain a user name or password"),
        (flags(f"http://{SECRET}@h/v1"), "must not contain a user name or password"),
        (["--api_key", SECRET], "a key is read from OPENAI_API_KEY"),
        ([f"--api_key={SECRET}"], "a key is read from OPENAI_API_KEY"),
    ],
)
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
        argv = [*flags(server), "--reflex_size", "1"]
        assert run(QWEN, scripted, argv, tmp_path).code == 0
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
