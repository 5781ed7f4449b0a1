"""Keys do not get through; what only looks like one stays readable."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from kflow.ground.redaction import masked, public, public_argument

SECRET = "sk-Th1s+is/a=secret&key"


@pytest.fixture(autouse=True)
def with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {SECRET} is bad", "key *** is bad"),
        (f"{SECRET}{SECRET}", "******"),
        (f"see https://h/?key={quote(SECRET, safe='')}&more", "see https://h/?key=***&more"),
        ("https://me:word@h:1/v1 and http://me@h/v1", "https://***@h:1/v1 and http://***@h/v1"),
        ("--proxy=http://me:word@h", "--proxy=http://***@h"),
        ("http://[::1]:8/openai/v1, me@example.org", "http://[::1]:8/openai/v1, me@example.org"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_a_key_in_a_text(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize("key", ["", "m", "vllm", "EMPTY", "none"])
def test_a_placeholder_is_no_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    text = "vllm serves m, none is EMPTY"
    assert masked(text) == text


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
