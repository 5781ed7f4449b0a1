"""Accuracy by step as a drawing: where the lines, bands and points of an SVG go.

Drawn twice, wide and narrow, so that its words are as large on a telephone as on a desk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .comparison import accuracy
from .runs import Run

LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 40
PIXELS_PER_TICK = 44
CLOSE = 14  # pixels between steps
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",  # circle
    "M-3.6 -3.6H3.6V3.6H-3.6Z",  # square
    "M0 -4.8L4.6 3.6H-4.6Z",  # triangle
    "M0 -5L5 0L0 5L-5 0Z",  # diamond
    "M0 4.8L4.6 -3.6H-4.6Z",  # triangle on its head
    "M-4.4 -1.5H-1.5V-4.4H1.5V-1.5H4.4V1.5H1.5V4.4H-1.5V1.5H-4.4Z",  # cross
)


class Reading(NamedTuple):
    """One run at one step, shares from 0 to 1. low, high: None where no interval can be told."""

    step: int
    right: int
    total: int
    share: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def short(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.interval})"
        return f"{self.right}/{self.total}, {percent(self.share)} %{interval}"

    @property
    def interval(self) -> str:
        return f"{percent(self.low or 0)}–{percent(self.high or 0)} %"

    def label(self, run: str) -> str:
        mean = f" over {self.seeds} seeds" if self.seeds > 1 else ""
        counted = f"{run}, step {self.step}: {self.right}/{self.total}{mean}"
        told = self.low is not None and self.high is not None
        interval = f", 95 % interval {self.interval}" if told else ", no interval for one problem"
        return f"{counted}, {percent(self.share)} %{interval}"


class Point(NamedTuple):
    x: float
    y: float
    label: str


class Line(NamedTuple):
    """band, path: the `d` of SVG paths. number: the run's, for its colour and shape."""

    number: int
    name: str
    shape: str
    path: str
    band: str
    points: tuple[Point, ...]


class Tick(NamedTuple):
    at: float
    label: str


class Curve(NamedTuple):
    """Lengths in the SVG's own units, which are pixels at its full size. scale: of the points'
    shapes, smaller where steps are close together."""

    width: int
    height: int
    left: int
    right: int
    bottom: int
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    lines: tuple[Line, ...]
    scale: float


def readings(run: Run) -> list[Reading]:
    """Wilson's interval for one seed, one clustered by problem for several."""
    found = []
    for step in run.steps:
        told = accuracy(run, step)
        low, high = told["low"], told["high"]
        assert isinstance(told["accuracy"], float)
        found.append(
            Reading(
                step,
                int(str(told["right"])),
                int(str(told["total"])),
                told["accuracy"],
                low if isinstance(low, float) else None,
                high if isinstance(high, float) else None,
                len(run.seeds),
            )
        )
    return found


def draw(
    names: Sequence[str], every: Sequence[Sequence[Reading]], width: int, height: int
) -> Curve:
    """names, every: per run its name and its readings, one or more."""
    first = min(each[0].step for each in every)
    last = max(each[-1].step for each in every)
    right, bottom = width - RIGHT, height - BOTTOM

    def x(step: int) -> float:
        if first == last:
            return (LEFT + right) / 2
        return round(LEFT + 8 + (right - LEFT - 16) * (step - first) / (last - first), 1)

    def y(share: float) -> float:
        return round(bottom - (bottom - TOP) * share, 1)

    lines = []
    for number, (name, run) in enumerate(zip(names, every, strict=True)):
        points = tuple(Point(x(r.step), y(r.share), r.label(name)) for r in run)
        known = [r for r in run if r.low is not None and r.high is not None]
        upper = [(x(r.step), y(r.high or 0)) for r in known]
        lower = [(x(r.step), y(r.low or 0)) for r in reversed(known)]
        lines.append(
            Line(
                number % len(SHAPES),
                name,
                SHAPES[number % len(SHAPES)],
                path([(point.x, point.y) for point in points]),
                path(upper + lower) + "Z" if known else "",
                points,
            )
        )
    gap = spacing(last - first, max(1, (right - LEFT) // PIXELS_PER_TICK))
    return Curve(
        width,
        height,
        LEFT,
        right,
        bottom,
        tuple(Tick(y(share / 100), f"{share} %") for share in (0, 25, 50, 75, 100)),
        tuple(Tick(x(step), str(step)) for step in range(first, last + 1, gap)),
        tuple(lines),
        round(min(1, max(0.4, (x(first + 1) - x(first)) / CLOSE)), 2) if last > first else 1,
    )


def path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def spacing(steps: int, most: int) -> int:
    """The round number of steps between ticks that gives at most that many."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if steps <= factor * scale * most:
                return factor * scale
        scale *= 10


def percent(share: float) -> str:
    return f"{100 * share:.0f}"
