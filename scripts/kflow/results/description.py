"""What is known of an engine besides the arguments that it was given, for a session's record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kflow.results.capacity import Capacity


@dataclass(frozen=True)
class CanaryResult:
    """What came of the canary's sums. wrong: the ends of the replies without the right answer."""

    right: int
    asked: int
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Server:
    """A server as it described itself. kind: the owner it gives for the model. version, window
    (tokens): None where it does not give them. refused: fields of a request that it does not take.
    """

    url: str
    model: str
    kind: str
    version: str | None
    window: int | None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerRecord(Server):
    """A server with its address masked, and what every request to it has in common. refused: absent
    where it is empty."""

    request: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """An engine as it is known; on disk what says nothing is absent.

    recipe: its name; kernels and deviations: `recipes.Recipe` has them. kv_cache: None where the
    engine does not size one, and before it is started. servers: those that stand for the engine.
    canary: None where no sums were asked.
    """

    recipe: str | None = None
    kernels: dict[str, str] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    kv_cache: Capacity | None = None
    servers: tuple[ServerRecord, ...] = ()
    canary: CanaryResult | None = None


NOTHING_KNOWN = Description()
