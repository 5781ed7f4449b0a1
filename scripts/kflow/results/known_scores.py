"""What the published models score in single attempts without tools, and whether a run's first
attempts agree (docs/method.md, "Known scores of the models"). Of other models nothing is said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

AIME_2024, AIME_2025 = "HuggingFaceH4/aime_2024", "yentinglin/aime_2025"
HMMT, GPQA = "MathArena/hmmt_feb_2025", "Idavidrein/gpqa"
# How many problems the sets have: of a part of one, or of another configuration, nothing is known.
SIZES = {AIME_2024: 30, AIME_2025: 30, HMMT: 30, GPQA: 198}
GPT_OSS, QWEN = "gpt-oss-120b", "Qwen3-235B-A22B-Thinking-2507"
# arXiv 2508.10925 and Qwen's model card. Model (last part of its name), effort -> data set ->
# percent; Qwen has no efforts.
SCORES: dict[tuple[str, str | None], dict[str, float]] = {
    (GPT_OSS, "low"): {AIME_2024: 56.3, AIME_2025: 50.4, GPQA: 67.1},
    (GPT_OSS, "medium"): {AIME_2024: 80.4, AIME_2025: 80.0, GPQA: 73.1},
    (GPT_OSS, "high"): {AIME_2024: 95.8, AIME_2025: 92.5, GPQA: 80.1},
    (QWEN, None): {AIME_2025: 92.3, HMMT: 83.9, GPQA: 81.1},
}
REASONS = "the reasoning effort, the window, the sampling or the kernels"


class Interval(NamedTuple):
    low: float
    high: float


def wilson(right: float, total: int) -> Interval:
    """Wilson's 95 % interval of a proportion. Of shares instead of successes (`right` is their sum)
    it is too wide rather than too narrow: none scatter more than successes."""
    z, p = Z, right / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return Interval(middle - half if right else 0.0, middle + half if right < total else 1.0)


def known_score(model: str, effort: str | None, dataset: str, problems: int) -> float | None:
    """From 0 to 1; None where none is known. model: a name on the hub or a folder's. dataset: NAME
    or NAME@REVISION. problems: how many of them were asked."""
    name = dataset.partition("@")[0]
    percent = SCORES.get((model.rsplit("/", 1)[-1], effort), {}).get(name)
    return None if percent is None or SIZES[name] != problems else percent / 100


@dataclass(frozen=True)
class Agreement:
    """First attempts beside the model's known score; shares from 0 to 1."""

    known: float
    measured: float
    low: float
    """of the 95 % interval of what was measured"""
    high: float

    @property
    def inside(self) -> bool:
        return self.low <= self.known <= self.high

    @property
    def sentence(self) -> str:
        """Whether the known score lies inside the interval, without a full stop."""
        place = "inside" if self.inside else "outside"
        why = "" if self.inside else f"; what usually differs is {REASONS}"
        return (
            f"the model's known score in single attempts, {100 * self.known:.1f} %, is {place} the "
            f"95 % interval of the first attempts here, {100 * self.measured:.1f} % "
            f"[{100 * self.low:.1f}, {100 * self.high:.1f}]{why}"
        )
