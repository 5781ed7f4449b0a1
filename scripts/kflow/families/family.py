"""What a script needs to know of a model family: published defaults and how to talk to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..types import Chat


@dataclass(frozen=True)
class Family:
    """METHOD.md's "Defaults" for one family.

    max_new_tokens: tokens, also the engine's window. engine_args: as vLLM 0.10.2 names them.
    chat: (model, trust_remote_code) -> the family's chat format, loaded.
    """

    model: str
    max_new_tokens: int
    engine_args: Mapping[str, object]
    chat: Callable[[str, bool], Chat]
