"""What a script needs to know of a model family: published defaults and how to talk to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kflow.flags import values_of
from kflow.types import Chat


@dataclass(frozen=True)
class Family:
    """docs/method.md's "Defaults" for one family.

    name: on record with every rollout. max_new_tokens: tokens, also the engine's window.
    engine_args, environment: as vLLM 0.10.2 names and reads them. end_of_thinking: what the
    visible part of a reply follows. chat: (model, trust_remote_code, revision) -> the family's chat
    format, loaded.
    reasoning_effort: what the prompt asks for, None where the format has no such thing.

    A subclass may add fields, and narrow reasoning_effort. Those with a help text (flags.flag) are
    flags of the family's scripts, on record, and passed to `chat` by name.
    """

    name: str
    model: str
    max_new_tokens: int
    engine_args: Mapping[str, object]
    end_of_thinking: str
    chat: Callable[..., Chat]
    environment: Mapping[str, str] = field(default_factory=dict)
    reasoning_effort: str | None = None

    def load_chat(self, model: str, trust_remote_code: bool, revision: str | None) -> Chat:
        """Raises UserError where the model's chat format is not here."""
        return self.chat(model, trust_remote_code, revision, **values_of(self))
