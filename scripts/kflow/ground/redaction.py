"""Text and values as they may be written down: without keys. They are masked where they are written
and never before they are used. A reply is not altered, even where it repeats a key: what is
replayed from disk must be what the chain was continued from.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from kflow.types import UserError

KEY = "OPENAI_API_KEY"
MASK = "***"
SHORTEST = 8  # characters; a shorter key is a placeholder, and also a word of what is written
# Names whose texts are keys: hf_token and api_key, but neither tokenizer nor max_tokens' numbers.
SECRET = re.compile(r"(token|key|secret|passw(or)?d|credential)s?([_.-]|$)", re.IGNORECASE)
USER = re.compile(r"(?<=://)[^/@\s]+@")  # and the password in an address


def key() -> str:
    """The key from the environment, "" without one. Raises UserError for one that cannot be sent:
    the HTTP library would put it into its complaint."""
    value = os.environ.get(KEY, "").strip()
    if not re.fullmatch(r"[!-~]*", value):
        raise UserError(f"{KEY} holds spaces or characters beyond ASCII: set it to a server's key.")
    return value


def masked(text: str) -> str:
    """A text without the key in the environment, as it is or quoted for an address, and without
    the users and passwords of addresses."""
    secret = os.environ.get(KEY, "").strip()
    if len(secret) >= SHORTEST:
        text = text.replace(secret, MASK).replace(quote(secret, safe=""), MASK)
    return USER.sub(f"{MASK}@", text)


def public(value: Any, hide: bool = False) -> Any:
    """A value as JSON has it, without keys. hide: mask every text in it, as under a name like
    `token` or `api_key`; a number or a switch is no key."""
    if hide and isinstance(value, (str, bytes)):
        return MASK
    if isinstance(value, str):
        return masked(value.encode("utf-8", "replace").decode())
    if isinstance(value, Mapping):
        names = ((str(name), each) for name, each in value.items())
        return {n: public(each, hide or bool(SECRET.search(n))) for n, each in names}
    if isinstance(value, (list, tuple)):
        return [public(each, hide) for each in value]
    return value


def public_argument(word: str) -> str:
    """A word of the command line without keys."""
    flag, equals, rest = word.partition("=") if word.startswith("--") else ("", "", word)
    if rest.lstrip().startswith("{"):
        try:
            return flag + equals + json.dumps(public(json.loads(rest)), ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    return str(public(word))
