"""How much runs ask of an engine, and what that takes by round assumptions, which are said wherever
their figures are shown: none of them is a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kflow.method import Method, at_once, rollouts_of
from kflow.running.settings import Settings

# Tokens of a prompt and its reply; per second, of a node of eight GPUs; per second, of one rollout,
# however few there are.
ASSUMED_TOKENS, ASSUMED_SPEED, FASTEST = 20_000, 5_000, 200
BYTES_PER_TOKEN = 4.5  # of a record, its prompt included
GB = 10**9


@dataclass(frozen=True)
class Workload:
    """What runs side by side ask. in_flight: the most rollouts at a time. rollouts: still to do.
    window: tokens. steps: of the longest chain, one after another. assumed: tokens of a prompt and
    its reply; speed: tokens per second, of all together."""

    chains: int
    in_flight: int
    rollouts: int
    window: int
    steps: int = 1
    assumed: int = ASSUMED_TOKENS
    speed: float = ASSUMED_SPEED

    @property
    def tokens_per_rollout(self) -> int:
        return min(self.assumed, self.window)

    @property
    def tokens(self) -> int:
        return self.rollouts * self.tokens_per_rollout

    @property
    def result_bytes(self) -> int:
        return int(self.tokens * BYTES_PER_TOKEN)

    @property
    def seconds(self) -> float:
        """As long as all tokens take together, or those of a chain one after another."""
        return max(self.tokens / self.speed, self.steps * self.tokens_per_rollout / FASTEST)

    @property
    def time(self) -> str:
        tokens, seconds = self.tokens_per_rollout, self.seconds
        speed = f"{self.steps * tokens / seconds:,.3g} tokens/s" if seconds else "any speed"
        if self.steps == 1:
            return f"{tokens:,} tokens a rollout at {speed} each: {span(seconds)}"
        return (
            f"{self.steps:,} steps x {tokens:,} tokens one after another at {speed} a chain: "
            f"{span(seconds)}"
        )

    @property
    def time_together(self) -> str:
        """Of runs side by side, whose chains differ."""
        speed = f"{self.tokens / self.seconds:,.0f} tokens/s" if self.seconds else "any speed"
        return f"{millions(self.tokens)} at {speed} of all together: {span(self.seconds)}"

    @property
    def size(self) -> str:
        return f"{millions(self.tokens)}, {volume(self.result_bytes)} of results"

    def __add__(self, other: Workload) -> Workload:
        return replace(
            self,
            chains=self.chains + other.chains,
            in_flight=self.in_flight + other.in_flight,
            rollouts=self.rollouts + other.rollouts,
            window=max(self.window, other.window),
            steps=max(self.steps, other.steps),
            speed=max(self.speed, other.speed),
        )


def workload(settings: Settings, method: Method[Any, Any], problems: int) -> Workload:
    """All that a run asks of so many problems."""
    chains, steps = problems * settings.num_seeds, settings.reflex_size
    in_flight, rollouts = chains * at_once(method, steps), chains * rollouts_of(method, steps)
    speed: float = ASSUMED_SPEED
    if settings.engine == "chat":  # a service has room for as many as are sent
        speed = FASTEST * min(in_flight, settings.max_concurrency or in_flight)
    return Workload(
        chains,
        in_flight,
        rollouts,
        settings.max_new_tokens,
        1 if method.ahead else steps,
        speed=speed,
    )


def span(seconds: float) -> str:
    """`45 s`, `12 min`, `2.1 h`, `3.5 days`"""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * length:
            number = seconds / length
            return f"{number:.1f} {unit}" if unit == "h" else f"{number:.0f} {unit}"
    return f"{seconds / 86400:,.1f} days"


def volume(size: float) -> str:
    """`90 kB`, `17 MB`, `0.17 GB`, `470 GB`"""
    for unit, length in (("kB", 10**3), ("MB", 10**6)):
        if size < 100 * length:
            return f"{size / length:.0f} {unit}"
    return f"{size / GB:,.0f} GB" if size >= 10 * GB else f"{size / GB:.2g} GB"


def millions(tokens: float) -> str:
    """`90,000 tokens`, `1.5 million tokens`, `38 million tokens`"""
    if tokens < 10**6:
        return f"{tokens:,.0f} tokens"
    return f"{tokens / 1e6:,.{0 if tokens >= 10**7 else 1}f} million tokens"
