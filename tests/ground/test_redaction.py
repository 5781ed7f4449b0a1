"""Keys do not get through; what only looks like one stays readable."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from kflow.ground.redaction import masked, masked_words, public, public_argument

SECRET = "sk-Th1s+is/a=secret&key"


@pytest.fixture(autouse=True)
def with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {SECRET} is bad", "key *** is bad"),
        (f"see https://h/?key={quote(SECRET, safe='')}&more", "see https://h/?key=***&more"),
        ("https://me:word@h:1/v1 and http://me@h/v1", "https://***@h:1/v1 and http://***@h/v1"),
        ("http://[::1]:8/openai/v1, me@example.org", "http://[::1]:8/openai/v1, me@example.org"),
        ("nothing", "nothing"),
    ],
)
def test_a_key_in_a_text(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize("key", ["", "m", "vllm"])
def test_a_placeholder_is_no_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    text = "vllm serves m"
    assert masked(text) == text


@pytest.mark.parametrize(
    ("key", "words", "shown"),
    [
        ("abc1", "abc1 is no key; xabc1 and abc12 are", "*** is no key; xabc1 and abc12 are"),
        ("vllm", "no such key: 'vllm'", "no such key: '***'"),
        ("a+b.", "(a+b.) a+bc", "(***) a+bc"),
        ("m", "m, Bearer m, Authorization:  m", "m, Bearer ***, Authorization:  ***"),
        ("m", "bearer me", "bearer me"),
        ("", "Bearer token missing", "Bearer token missing"),
        (SECRET, f"x{SECRET}x", "x***x"),
        ("abc1", "Cannot GET /abc1/v1/models", "Cannot GET /***/v1/models"),
        ("", "no route /sk-live/v1, see https://h/ab1/", "no route /***/v1, see https://h/ab1/"),
    ],
)  # fmt: skip
def test_a_key_in_a_servers_words(
    key: str, words: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert masked_words(words) == shown


HEX = "0123456789abcdef"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/sk-live/v1", "https://h/***/v1"),
        (f"https://h/accounts/{HEX}/v1?x#y", "https://h/accounts/***/v1?x#y"),
        (f"https://h/Ab_{HEX.upper()}-c/v1", "https://h/***/v1"),
        ("https://h/9b2d1c3e-1111-2222-3333-444455556666/v1", "https://h/***/v1"),
        (f"https://h/{'k' * 24}/v1", "https://h/***/v1"),
        ("https://h/abc1/v1", "https://h/***/v1"),
        ("https://h/abc12/v1", None),
        (f"https://{HEX}.h:8/v1", None),
        ("https://h/openai/deployments/gpt-4o-mini-2024-07-18/v1", None),
        ("https://h/replica-12/Qwen3-235B-A22B-Thinking-2507/chat/completions", None),
    ],
)
def test_a_key_in_the_path_of_an_address(
    url: str, shown: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "abc1")
    assert masked(f"at {url}, 1") == f"at {shown or url}, 1"


def test_values_under_the_name_of_a_key_are_masked() -> None:
    values = {
        "hf_token": "a", "max_tokens": 5, "tokenizer": "b", "api_key": {"of": ["c", 1]},
        "list": [SECRET, "d\ud800", 1.5, None, True],
    }  # fmt: skip
    assert public(values) == {
        "hf_token": "***", "max_tokens": 5, "tokenizer": "b", "api_key": {"of": ["***", 1]},
        "list": ["***", "d?", 1.5, None, True],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ('--engine_args={"hf_token": "a", "dtype": "b"}',
         '--engine_args={"hf_token": "***", "dtype": "b"}'),
        ('{"api_key": "a"}', '{"api_key": "***"}'),
        ("--base_url=http://h/v1", "--base_url=http://h/v1"),
        ("{oops", "{oops"),
    ],
)  # fmt: skip
def test_a_word_of_the_command_line(word: str, shown: str) -> None:
    assert public_argument(word) == shown
