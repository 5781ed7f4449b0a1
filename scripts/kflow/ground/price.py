"""What tokens cost, where the flags say."""

from __future__ import annotations

from typing import NamedTuple


class Price(NamedTuple):
    """Per million tokens, in the user's currency."""

    prompt: float
    reply: float

    def of(self, prompt_tokens: float, reply_tokens: float) -> float:
        return (self.prompt * prompt_tokens + self.reply * reply_tokens) / 1e6


def price(prompt: object, reply: object) -> Price | None:
    """From what the settings or their record hold; None where they give no price."""
    if known(prompt) and known(reply):
        return Price(float(prompt), float(reply))  # type: ignore[arg-type]
    return None


def known(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1e9


def money(cost: float) -> str:
    """`1,234`, `12.30`, `0.0042`"""
    if cost >= 1000:
        return f"{cost:,.0f}"
    return f"{cost:.2f}" if cost >= 0.1 or not cost else f"{cost:.2g}"
