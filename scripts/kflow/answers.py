r"""Finding the integer a reply answers with (METHOD.md, "Defaults", the paragraph on answers).

An answer is `\boxed{<integer>}`; "the last integer anywhere" is the last run of digits with a
minus sign directly before it. A run of more than 4,300 digits, which Python refuses to read as a
number, is a model stuck in a loop and counts as no integer.
"""

from __future__ import annotations

import re

from .types import Answer

BOXED = re.compile(r"\\boxed\{([+-]?[0-9]+)\}", re.IGNORECASE)
DIGITS = re.compile(r"-?[0-9]+")
LONGEST = 4300


def boxed_integers(text: str) -> list[int]:
    """Every boxed integer, in order of appearance."""
    return [int(found) for found in BOXED.findall(text) if readable(found)]


def last_integer(text: str) -> Answer:
    found = None
    for match in DIGITS.finditer(text):
        found = match.group()
    return int(found) if found is not None and readable(found) else None


def readable(digits: str) -> bool:
    return len(digits.lstrip("+-")) <= LONGEST


def first_boxed(text: str) -> Answer:
    """gpt-oss, mistakes list: no fallback."""
    return next(iter(boxed_integers(text)), None)


def first_boxed_or_last_integer(text: str) -> Answer:
    """gpt-oss regeneration, and both Markovian baselines."""
    boxed = first_boxed(text)
    return last_integer(text) if boxed is None else boxed


def last_boxed_or_last_integer(text: str) -> Answer:
    """The Qwen scripts, and gpt-oss positive knowledge."""
    boxed = boxed_integers(text)
    return boxed[-1] if boxed else last_integer(text)
