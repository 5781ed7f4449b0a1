"""Accuracy by step as a picture: runs overlaid, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..terminal import first_line, printable
from ..types import UserError

FORMATS = (".png", ".svg")
LINES = ("-", "--", "-.", ":")
# Okabe and Ito's colours, which most colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def draw(path: Path, described: Sequence[dict[str, Any]]) -> None:
    """Write the picture, PNG or SVG by the file's name. Raises UserError."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--plot {path}: give a file name that ends in .png or .svg.")
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "knowledge-flow"  # the same file for the same runs
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for number, run in enumerate(described):
        values = run["accuracy"]
        steps = [value["step"] for value in values]
        colour = COLOURS[number % len(COLOURS)]
        axes.fill_between(
            steps,
            [100 * (0 if v["low"] is None else v["low"]) for v in values],
            [100 * (1 if v["high"] is None else v["high"]) for v in values],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(
            steps,
            [100 * value["accuracy"] for value in values],
            LINES[number // len(COLOURS) % len(LINES)],
            color=colour,
            marker="o",
            markersize=3,
            # A dollar would start mathematics, and an underscore in front hides a line.
            label=" " + printable(run["name"]).replace("$", r"\$"),
        )
    first = described[0]
    axes.set_xlabel("step")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(-2, 102)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.set_title(f"{first['problems']} problems, 95 % intervals", loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    try:
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        figure.savefig(path, dpi=150, metadata=metadata)
    except OSError as error:
        raise UserError(f"Cannot write --plot {path} ({first_line(error)}).") from error
    finally:
        pyplot.close(figure)
