"""What tokens cost, where the flags or a server say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 1e9


@dataclass(frozen=True)
class Price:
    """Per million tokens, in the user's currency or a server's own."""

    prompt: float
    reply: float

    @property
    def higher(self) -> float:
        return max(self.prompt, self.reply)

    def of(self, prompt_tokens: float, reply_tokens: float) -> float:
        return (self.prompt * prompt_tokens + self.reply * reply_tokens) / 1e6

    def __str__(self) -> str:
        return f"{money(self.prompt)} and {money(self.reply)} per million prompt and reply tokens"


def price(prompt: object, reply: object) -> Price | None:
    """From what the settings or their record hold; None where they give no price."""
    if known(prompt) and known(reply):
        return Price(float(prompt), float(reply))  # type: ignore[arg-type]
    return None


def highest(prices: Sequence[Price | None]) -> Price | None:
    """None where one of several servers gives no price."""
    given = [each for each in prices if each is not None]
    if not given or len(given) < len(prices):
        return None
    return Price(max(each.prompt for each in given), max(each.reply for each in given))


def known(value: object) -> bool:
    """Whether a value is a price or a cost that can be meant."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value <= LARGEST  # type: ignore[operator]


def money(cost: float) -> str:
    """`1,234`, `12.30`, `0.0042`, `0.000032`"""
    if cost >= 1000:
        return f"{cost:,.0f}"
    small = 0 < cost < 0.1
    return f"{cost:.{min(12, 1 - math.floor(math.log10(cost)))}f}" if small else f"{cost:.2f}"
