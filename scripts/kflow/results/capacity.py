"""Whether the KV cache holds what a run keeps in flight, known once the engine has sized it."""

from __future__ import annotations

from dataclasses import dataclass

from kflow.types import KvCache


@dataclass(frozen=True)
class Capacity:
    """kv_tokens: the size of the cache. full_windows: the cache size in full windows. window:
    tokens. rollouts_in_flight: at most, at the start; decoded_at_once: of these. preemption_above:
    tokens of prompt and reply that each of those may have, on average, before vLLM preempts; None
    where the cache holds all of them at any length.
    """

    kv_tokens: int
    full_windows: float
    window: int
    rollouts_in_flight: int
    decoded_at_once: int
    preemption_above: int | None

    @property
    def may_preempt(self) -> bool:
        return self.preemption_above is not None

    def sentence(self) -> str:
        if self.preemption_above is None:
            expected = "no preemption expected"
        else:
            expected = (
                "preemption expected once these have more than "
                f"{self.preemption_above:,} tokens each on average"
            )
        return (
            f"KV cache: {self.kv_tokens:,} tokens, {self.full_windows:,.1f} full windows of "
            f"{self.window:,}; {self.rollouts_in_flight:,} rollouts in flight, "
            f"{self.decoded_at_once:,} of them decoded at a time: {expected}."
        )


def capacity(cache: KvCache, window: int, in_flight: int) -> Capacity:
    at_once = min(in_flight, cache.at_once)
    fits = at_once * window <= cache.tokens
    return Capacity(
        cache.tokens,
        round(cache.tokens / window, 2),
        window,
        in_flight,
        at_once,
        None if fits else cache.tokens // at_once,
    )
