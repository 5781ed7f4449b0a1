"""compare_results.py --plot: what it draws, and which files it leaves alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from helpers.programs import Program
from helpers.results_on_disk import published, write_run
from helpers.small_runs import GOLDS
from kflow.analysis.plot import AXES, MARK


def test_a_plot_is_drawn_the_same_each_time_and_replaces_only_itself(
    two: Path, compare: Program
) -> None:
    picture = two / "p.svg"
    drawn = []
    for _ in range(2):
        compare(two, "--plot", picture)
        drawn.append(picture.read_text())
    assert drawn[0] == drawn[1]
    assert MARK in drawn[0]
    legend = set(re.findall(r"<!--\s*(vllm_64_\w.*?)\s*-->", drawn[0]))
    names = ("vllm_64_a", "vllm_64_b")
    assert legend == {*names, *(f"{name}, rolling majority" for name in names)}
    for more in ([], ["--plot_by", "tokens"]):
        compare(two, "--plot", two / "p.PNG", *more)
    assert (two / "p.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("by", AXES)
def test_a_plot_is_against_what_is_asked_for(two: Path, compare: Program, by: str) -> None:
    """Logarithmic axes but for steps: rollouts double, tokens grow tenfold."""
    for run, steps in (("a", 9), ("b", 70)):
        write_run(two / f"vllm_64_{run}" / "m", [GOLDS] * steps, GOLDS)
    compare(two, "--plot", two / "p.svg", "--plot_by", by)
    drawn = re.findall("<!-- (.*?) -->", (two / "p.svg").read_text())
    assert ("step" if by == "step" else f"{by.replace('_', ' ')} per problem") in drawn
    assert {"1", "2", "4", "32", "64"}.issubset(drawn) == (by == "rollouts")
    assert any("10^{4}" in label for label in drawn) == by.endswith("tokens")


@pytest.mark.parametrize("name", ["thesis.svg", "thesis.png", "link.svg", "pipe.svg"])
def test_another_programs_picture_is_left_alone(two: Path, compare: Program, name: str) -> None:
    path, target = two / name, two / "target"
    target.write_text("<svg>mine</svg>")
    if name == "link.svg":
        path.symlink_to(target)
    elif name == "pipe.svg":
        os.mkfifo(path)
    else:
        path.write_text("<svg>mine</svg>")
    assert "left alone" in compare.refuse(two, "--plot", path)
    assert target.read_text() == "<svg>mine</svg>"
    assert name == "pipe.svg" or path.read_text() == "<svg>mine</svg>"


def test_a_published_folder_has_no_tokens_to_plot(tmp_path: Path, compare: Program) -> None:
    write_run(tmp_path, [GOLDS], GOLDS, published)
    sentence = compare.refuse(tmp_path, "--plot", tmp_path / "p.svg", "--plot_by", "tokens")
    assert "give --plot_by rollouts" in sentence
