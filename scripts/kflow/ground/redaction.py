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
# Characters of a key that is masked wherever it stands, and of one that is masked as a word that a
# server says and as a part of a path: a placeholder (`vllm`) is also a word of what is written.
SHORTEST, SHORTEST_WORD = 8, 4
# Names whose texts are keys: hf_token and api_key, but neither tokenizer nor max_tokens' numbers.
SECRET = re.compile(r"(token|key|secret|passw(or)?d|credential)s?([_.-]|$)", re.IGNORECASE)
USER = re.compile(r"(?<=://)[^/@\s]+@")  # and the password in an address
PATH = re.compile(r"/[^\s\"'<>?#]*")
ADDRESS = re.compile(rf"(://[^/\s]+)({PATH.pattern})")  # up to its path, and that
# A part of a path that looks like a key: its usual beginning, a UUID, or more characters in a row
# than names of models, versions and endpoints have.
KEY_LIKE = re.compile(
    r"^sk-|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z0-9]{24}"
    r"|(?=[a-z]{0,15}[0-9])(?=[0-9]{0,15}[a-z])[a-z0-9]{16}",
    re.IGNORECASE,
)


def key() -> str:
    """The key from the environment, "" without one. Raises UserError for one that cannot be sent:
    the HTTP library would put it into its complaint."""
    value = os.environ.get(KEY, "").strip()
    if not re.fullmatch(r"[!-~]*", value):
        raise UserError(f"{KEY} holds spaces or characters beyond ASCII: set it to a server's key.")
    return value


def masked(text: str) -> str:
    """A text without the key in the environment, as it is or quoted for an address, and without
    the users, passwords and what looks like a key in the paths of addresses."""
    secret = secret_here()
    if len(secret) >= SHORTEST:
        text = text.replace(secret, MASK).replace(quote(secret, safe=""), MASK)
    return USER.sub(f"{MASK}@", ADDRESS.sub(lambda each: each[1] + masked_path(each[2]), text))


def masked_words(words: str) -> str:
    """What a server says, which may repeat the key, the header that it came in or the path that was
    asked for: `masked`, and without a short key where that is a word of its own."""
    secret = secret_here()
    own = rf"{re.escape(secret)}(?!\w)"
    if secret:
        words = re.sub(rf"((?i:bearer|authorization:)\s+){own}", rf"\1{MASK}", words)
    if len(secret) >= SHORTEST_WORD:
        words = re.sub(rf"(?<!\w){own}", MASK, words)
    return masked(PATH.sub(lambda path: masked_path(path[0]), words))


def secret_here() -> str:
    return os.environ.get(KEY, "").strip()


def masked_path(path: str) -> str:
    """The path of an address without its parts that are the key, or look like one."""
    secret = secret_here()

    def is_key(part: str) -> bool:
        own = len(secret) >= SHORTEST_WORD and part in (secret, quote(secret, safe=""))
        return own or bool(KEY_LIKE.search(part))

    return "/".join(MASK if is_key(part) else part for part in path.split("/"))


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
