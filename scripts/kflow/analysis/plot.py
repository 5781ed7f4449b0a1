"""Accuracy as a picture: runs overlaid, their own answers with the interval, and the rolling
majority beside them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from kflow.analysis.command import check_output, write_output
from kflow.analysis.run_statistics import RunStatistics
from kflow.ground.terminal import printable
from kflow.types import UserError

FORMATS = (".png", ".svg")
MARK = "Knowledge Flow compare_results"
AXES = ("rollouts", "tokens", "sequential_tokens", "step")
MARKERS = "os^Dv"
# Okabe and Ito's colours, which most colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def check(path: Path) -> None:
    """Raises UserError for a file that cannot be the picture's."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--plot {path}: give a file name that ends in .png or .svg.")
    check_output(path, "--plot", MARK.encode())


def draw(path: Path, runs: Sequence[RunStatistics], by: str) -> None:
    """Write the picture, PNG or SVG by the file's name; by: one of AXES. Raises UserError."""
    check(path)
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "knowledge-flow"  # the same file for the same runs
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for number, run in enumerate(runs):
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
        # A dollar would start mathematics, and an underscore in front hides a line.
        label = " " + printable(run.name).replace("$", r"\$")
        points = [(at, step) for step in run.by_step if (at := getattr(step, by)) is not None]
        if not points:
            raise UserError(f"{run.name} does not record its tokens: give --plot_by rollouts.")
        own = [(at, step.own) for at, step in points if step.own is not None]
        if not own:
            continue
        places = [at for at, _ in own]
        axes.fill_between(
            places,
            [100 * (share.low or 0) for _, share in own],
            [100 * (1 if share.high is None else share.high) for _, share in own],
            color=colour,
            alpha=0.12,
            linewidth=0,
        )
        axes.plot(
            places,
            [100 * share.accuracy for _, share in own],
            "-",
            color=colour,
            marker=marker,
            markersize=3,
            label=label,
        )
        voted = [(at, step.rolling_majority) for at, step in points if step.rolling_majority]
        axes.plot(
            [at for at, _ in voted],
            [100 * share.accuracy for _, share in voted],
            "--",
            color=colour,
            linewidth=1.2,
            label=f"{label}, rolling majority",
        )
    if by == "step":
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    elif by == "rollouts":
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
    else:
        axes.set_xscale("log")
    axes.set_xlabel(by.replace("_", " ") + ("" if by == "step" else " per problem"))
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(-2, 102)
    axes.set_title(f"{runs[0].problems} problems, 95 % intervals", loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    content = io.BytesIO()
    form = path.suffix.lower()[1:]
    metadata = {"Date": None, "Creator": MARK} if form == "svg" else {"Software": MARK}
    figure.savefig(content, format=form, dpi=150, metadata=metadata)
    pyplot.close(figure)
    write_output(path, "--plot", content.getvalue())
