"""compare_results.py --plot: what it draws, and which files it leaves alone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from test_compare import GOLDS, compare, refused, two_runs

from helpers.results_on_disk import published, write_run
from kflow.analysis.plot import AXES, MARK


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return two_runs(tmp_path)


@pytest.fixture
def plotted(two: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    compare(capsys, two, "--plot", two / "p.svg")
    return two / "p.svg"


def test_a_plot_is_drawn_the_same_each_time_and_replaces_only_itself(
    two: Path, plotted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = plotted.read_text()
    compare(capsys, two, "--plot", plotted)
    assert plotted.read_text() == first
    assert MARK in first
    legend = set(re.findall(r"<!--\s*(vllm_64_\w.*?)\s*-->", first))
    names = ("vllm_64_a", "vllm_64_b")
    assert legend == {*names, *(f"{name}, rolling majority" for name in names)}
    compare(capsys, two, "--plot", two / "p.PNG")
    compare(capsys, two, "--plot", two / "p.PNG", "--plot_by", "tokens")
    assert (two / "p.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("by", AXES)
def test_a_plot_is_against_what_is_asked_for(
    two: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    """Logarithmic axes but for steps: rollouts double, tokens grow tenfold."""
    for run, steps in (("a", 9), ("b", 70)):
        write_run(two / f"vllm_64_{run}" / "m", [GOLDS] * steps, GOLDS)
    compare(capsys, two, "--plot", two / "p.svg", "--plot_by", by)
    drawn = re.findall("<!-- (.*?) -->", (two / "p.svg").read_text())
    assert ("step" if by == "step" else f"{by.replace('_', ' ')} per problem") in drawn
    assert {"1", "2", "4", "32", "64"}.issubset(drawn) == (by == "rollouts")
    assert any("10^{4}" in label for label in drawn) == by.endswith("tokens")


@pytest.mark.parametrize("name", ["thesis.svg", "thesis.png", "link.svg", "pipe.svg"])
def test_another_programs_picture_is_left_alone(
    two: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = two / name
    (two / "target").write_text("<svg>mine</svg>")
    if name == "link.svg":
        os.symlink(two / "target", path)
    elif name == "pipe.svg":
        os.mkfifo(path)
    else:
        path.write_text("<svg>mine</svg>")
    assert "left alone" in refused(capsys, two, "--plot", path)
    assert (two / "target").read_text() == "<svg>mine</svg>"
    assert name == "pipe.svg" or path.read_text() == "<svg>mine</svg>"


def test_a_published_folder_has_no_tokens_to_plot(tmp_path: Path, capsys: Any) -> None:
    write_run(tmp_path, [GOLDS], GOLDS, published)
    sentence = refused(capsys, tmp_path, "--plot", tmp_path / "p.svg", "--plot_by", "tokens")
    assert "does not record its tokens: give --plot_by rollouts" in sentence
