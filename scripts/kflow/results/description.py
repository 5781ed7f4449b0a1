"""What is known of an engine besides the arguments that it was given, for a session's record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kflow.ground.price import Price, highest
from kflow.types import KvCache


@dataclass(frozen=True)
class Capacity:
    """What the KV cache holds of a run, once the engine has sized it. kv_tokens: its size.
    full_windows: the same in windows. window: tokens. rollouts_in_flight: at most, at the start;
    decoded_at_once: of these. preemption_above: tokens of prompt and reply that each of those may
    have, on average, before vLLM preempts; None where the cache holds all of them at any length."""

    kv_tokens: int
    full_windows: float
    window: int
    rollouts_in_flight: int
    decoded_at_once: int
    preemption_above: int | None

    @classmethod
    def of(cls, cache: KvCache, window: int, in_flight: int) -> Capacity:
        at_once = min(in_flight, cache.at_once)
        above = None if at_once * window <= cache.tokens else cache.tokens // at_once
        windows = round(cache.tokens / window, 2)
        return cls(cache.tokens, windows, window, in_flight, at_once, above)

    def sentence(self) -> str:
        expected = "no preemption expected"
        if self.preemption_above is not None:
            expected = (
                "preemption expected once these have more than "
                f"{self.preemption_above:,} tokens each on average"
            )
        return (
            f"KV cache: {self.kv_tokens:,} tokens, {self.full_windows:,.1f} full windows of "
            f"{self.window:,}; {self.rollouts_in_flight:,} rollouts in flight, "
            f"{self.decoded_at_once:,} of them decoded at a time: {expected}."
        )


@dataclass(frozen=True)
class CanaryResult:
    """What came of the canary's sums. wrong: the ends of the replies without the right answer."""

    right: int
    asked: int
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Server:
    """A server as it described itself. kind: the owner it gives for the model. version, window
    (tokens), price: None where it does not give them, the price absent on disk. refused: fields of
    a request that it does not take.
    """

    url: str
    model: str
    kind: str
    version: str | None
    window: int | None
    refused: tuple[str, ...] = ()
    price: Price | None = None


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
    canary: None where no sums were asked. findings: what its replies revealed
    about it, a message each.
    """

    recipe: str | None = None
    kernels: dict[str, str] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    kv_cache: Capacity | None = None
    servers: tuple[ServerRecord, ...] = ()
    canary: CanaryResult | None = None
    findings: tuple[str, ...] = ()

    @property
    def price(self) -> Price | None:
        """The highest of its servers' prices; None where one of them gives none."""
        return highest([server.price for server in self.servers])


NOTHING_KNOWN = Description()
