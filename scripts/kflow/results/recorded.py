"""Parts of what a run.json says, one by one and flat."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

HASH = re.compile(r"[0-9a-f]{64}")
# The settings on which results depend, as flags declare it (running.settings.IDENTITY, which a test
# compares): reading results needs no flags.
IDENTITY = (
    "max_new_tokens", "temperature", "top_p", "top_k", "seed", "token_budget", "force_sections",
    "stop_when_stable", "engine", "prompt_as_text", "request_args", "speculate",
)  # fmt: skip
# Parts of a manifest that belong to a method or a family.
OWN = ("experiment.fields.", "experiment.rule.", "experiment.family_fields.", "prompts.")


def part(value: object, *names: str) -> Any:
    """A part of a manifest, None where it is not there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def flatten(value: object, name: str = "") -> dict[str, str]:
    """`outer.inner` -> its value: a text as it is, a hash by its beginning, the rest as JSON."""
    if isinstance(value, str):
        return {name: value[:12] if HASH.fullmatch(value) else value}
    if not isinstance(value, dict):
        return {name: json.dumps(value, ensure_ascii=False)}
    return {
        key: text
        for inner, each in value.items()
        for key, text in flatten(each, f"{name}.{inner}".lstrip(".")).items()
    }


def find_different(flat: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    """Name -> its value in each of the flat manifests, `-` for none, where these differ. What only
    one method or family has is left out: it follows from which of them it is."""
    values = {}
    for key in sorted(set().union(*flat)):
        stated = {each[key] for each in flat if key in each}
        everywhere = all(key in each for each in flat)
        implied = not everywhere and key.startswith(OWN)
        if len(stated) > 1 or (not everywhere and not implied):
            values[key] = [each.get(key, "-") for each in flat]
    return values
