"""The points of the page's curves: accuracies by step, and what each step had cost by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kflow.analysis.run_statistics import AtStep, RunStatistics, Share
from kflow.ground.price import money


@dataclass(frozen=True)
class Curve:
    name: str
    points: tuple[AtStep, ...]

    @property
    def cost(self) -> str | None:
        """Per problem; None without a price."""
        cost = self.points[-1].cost
        return None if cost is None else money(cost)

    def at(self, step: int) -> str:
        """A step's line in the table, a dash for a step that the run lacks."""
        point = next((point for point in self.points if point.step == step), None)
        if point is None:
            return "–"
        return f"{in_words(point.own)}; majority {in_words(point.rolling_majority)}"

    def numbers(self) -> dict[str, object]:
        """For the script; an axis is None where the records do not say it, a reading where no
        answer was asked for."""
        before = next((n for n, point in enumerate(self.points) if point.own), len(self.points))
        return {
            "name": self.name,
            "axes": {
                "step": [point.step for point in self.points],
                "rollouts": [point.rollouts for point in self.points],
                "total": whole_numbers([point.tokens for point in self.points]),
                "sequential": whole_numbers([point.sequential_tokens for point in self.points]),
            },
            "own": [reading(point.own) for point in self.points],
            "majority": [None] * before
            + [reading(p.rolling_majority) for p in self.points[before:]],
        }


def curves(runs: Sequence[RunStatistics]) -> list[Curve]:
    return [Curve(each.name, each.by_step) for each in runs]


def whole_numbers(values: Sequence[float | None]) -> list[int] | None:
    """Whole numbers, None where one of them is not on record."""
    whole = [round(value) for value in values if value is not None]
    return whole if len(whole) == len(values) else None


def reading(share: Share | None) -> dict[str, object] | None:
    if share is None:
        return None
    return {
        "right": share.right,
        "total": share.total,
        "share": share.accuracy,
        "low": share.low,
        "high": share.high,
    }


def in_words(share: Share | None) -> str:
    """`3/4, 75 % (30–95 %)`"""
    if share is None:
        return "no answer asked for"
    interval = ""
    if share.low is not None and share.high is not None:
        interval = f" ({100 * share.low:.0f}–{100 * share.high:.0f} %)"
    right = f"{share.right:.2f}".rstrip("0").rstrip(".")
    return f"{right}/{share.total}, {100 * share.accuracy:.0f} %{interval}"
