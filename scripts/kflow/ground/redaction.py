"""Values as they may be written down: without keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kflow.ground.masking import MASK, masked, masked_urls

# Names whose texts are keys: hf_token and api_key, but neither tokenizer nor max_tokens' numbers.
SECRET = re.compile(r"(token|key|secret|passw(or)?d|credential)s?([_.-]|$)", re.IGNORECASE)


def public(value: Any) -> Any:
    """A value as JSON has it, without keys: texts under a name like `token` or `api_key`, what may
    be one in an address, and the key in the environment."""
    if isinstance(value, str):
        return masked(masked_urls(value.encode("utf-8", "replace").decode()))
    if isinstance(value, Mapping):
        return {
            str(name): hidden(each) if SECRET.search(str(name)) else public(each)
            for name, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [public(each) for each in value]
    return value


def hidden(value: Any) -> Any:
    """Every text in a value masked; a number or a switch is no key."""
    if isinstance(value, (str, bytes)):
        return MASK
    if isinstance(value, Mapping):
        return {name: hidden(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [hidden(each) for each in value]
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
