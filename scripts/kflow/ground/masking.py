"""Keeps keys off terminals and disks: the one in the environment, and those in addresses.

A reply is not altered, even where it repeats a key: it is the model's text, and what is replayed
from disk must be what the chain was continued from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from kflow.types import UserError

KEY = "OPENAI_API_KEY"
MASK = "***"
SHORTEST = 8  # characters of a key that are masked wherever they stand together
# Parts of a path that are no key: a version, or a word.
PUBLIC = re.compile(r"v\d\w{0,8}|[A-Za-z]{1,12}")
ESCAPED = re.compile(
    r"%(?:25)*([0-9A-Fa-f]{2})|\\u00([0-9A-Fa-f]{2})|&#[xX]0*([0-9A-Fa-f]{2});|&#0*(\d{2,3});|(.)",
    re.DOTALL,
)


class Character(NamedTuple):
    """A character and where it stands in the text it was read from, as itself or escaped."""

    value: str
    start: int
    end: int


def key() -> str:
    """The key from the environment, "" without one. Raises UserError for one that cannot be sent:
    the HTTP library would put it into its complaint."""
    value = os.environ.get(KEY, "").strip()
    if not re.fullmatch(r"[!-~]*", value):
        raise UserError(f"{KEY} holds spaces or characters beyond ASCII: set it to a server's key.")
    return value


def masked_url(url: str) -> str:
    """An address for a message or a file: user, password, query and every part of the path that
    may be a key are masked."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    _, at, host = parts.netloc.rpartition("@")
    path = "/".join(MASK if is_secret(part) else part for part in parts.path.split("/"))
    return (
        (f"{parts.scheme}://" if parts.scheme else "")
        + (f"{MASK}@" if at else "")
        + host
        + path
        + (f"?{MASK}" if parts.query else "")
        + (f"#{MASK}" if parts.fragment else "")
    )


def masked_urls(text: str) -> str:
    """A text, such as an argument of a command line, with every address in it masked."""
    return re.sub(r"https?://\S+", lambda match: masked_url(match.group()), text)


def is_secret(part: str) -> bool:
    """Whether a part of a path may be a key."""
    return bool(part) and not PUBLIC.fullmatch(part)


def masked(text: str, url: str = "") -> str:
    """A server's words without the key and without what `url` holds of one. A piece of eight
    characters of a key is masked too, percent-encoded or escaped as in JSON or HTML."""
    secrets = [secret for secret in (os.environ.get(KEY, "").strip(), *secrets_in(url)) if secret]
    hidden = [False] * len(text)
    for characters in (
        [Character(c, i, i + 1) for i, c in enumerate(text)],
        list(unescaped(text)),
    ):
        plain = "".join(character.value for character in characters)
        for secret in secrets:
            size = min(SHORTEST, len(secret))
            pieces = {secret[i : i + size] for i in range(len(secret) - size + 1)}
            for first in range(len(plain) - size + 1):
                if plain[first : first + size] in pieces:
                    start, end = characters[first].start, characters[first + size - 1].end
                    hidden[start:end] = [True] * (end - start)
    shown = "".join("\0" if hide else c for c, hide in zip(text, hidden, strict=True))
    return re.sub("\0+", MASK, shown) if any(hidden) else text


def secrets_in(url: str) -> list[str]:
    """What masked_url masks of an address, as written and decoded."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    user = parts.netloc.rpartition("@")[0]
    secrets = [*filter(is_secret, parts.path.split("/")), *user.split(":"), parts.query]
    return [form for part in secrets for form in dict.fromkeys((part, unquote(part)))]


def unescaped(text: str) -> Iterator[Character]:
    for match in ESCAPED.finditer(text):
        percent, json_escape, html_hex, html, plain = match.groups()
        hexadecimal = percent or json_escape or html_hex
        value = plain or (chr(int(hexadecimal, 16)) if hexadecimal else chr(int(html)))
        yield Character(value, *match.span())
