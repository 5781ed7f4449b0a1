"""Keys in whatever form do not get through; addresses stay readable."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from kflow.ground.masking import masked, masked_url, masked_urls

SECRET = "sk-Th1s+is/a=secret&key"
HEX = "".join(f"%{ord(c):02x}" for c in SECRET)


@pytest.fixture(autouse=True)
def with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {SECRET} is bad", "key *** is bad"),
        (f"{SECRET}{SECRET}", "***"),
        (f"no {quote(SECRET, safe='')}!", "no ***!"),
        (f"no {quote(quote(SECRET, safe=''), safe='')}!", "no ***!"),
        (f"no {HEX}!", "no ***!"),
        (f"no {HEX.upper()}!", "no ***!"),
        (f"no {HEX.replace('%', '%2525')}!", "no ***!"),
        (HEX.replace("%", "\\u00"), "***"),
        ("".join(f"&#{ord(c)};" for c in SECRET), "***"),
        ("".join(f"&#x{ord(c):X};" for c in SECRET), "***"),
        (f"ends in {SECRET[-8:]}", "ends in ***"),
        (f"begins {SECRET[:-1]}", "begins ***"),
        (f"{SECRET[:10]}...{SECRET[-8:]}", "***...***"),
        (f"[{HEX[3:-3]}]", "[***]"),
        (f"{SECRET[:7]} {SECRET[-7:]} 100% %zz \0", f"{SECRET[:7]} {SECRET[-7:]} 100% %zz \0"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_a_key_in_a_servers_words(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_short_key_is_masked_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "abc12")
    assert masked("abc12 abc1 %61bc12") == "*** abc1 ***"


def test_a_key_in_an_address_is_masked_in_the_servers_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    url = "https://user:pass-w0rd@h/tok-12%2B345678/v1"
    words = "no route /tok-12%2B345678/v1 or tok-12+345678 for pass-w0rd at v1"
    assert masked(words, url) == "no route /***/v1 or *** for *** at v1"
    assert masked(words) == words


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("https://[::1]:8/openai/v1", "https://[::1]:8/openai/v1"),
        ("https://h/api/v1beta/openai", "https://h/api/v1beta/openai"),
        ("https://h/sk-this-is-secret/v1", "https://h/***/v1"),
        ("https://h/a%2Fb/v1/", "https://h/***/v1/"),
        ("https://me:word@h:1/v1", "https://***@h:1/v1"),
        ("https://me@h/v1?key=x#y", "https://***@h/v1?***#***"),
        ("https://h", "https://h"),
        ("http://[::1/v1", "***"),
    ],
)
def test_an_address(url: str, shown: str) -> None:
    assert masked_url(url) == shown
    assert masked_urls(f"--base_url={url}") == f"--base_url={shown}"
