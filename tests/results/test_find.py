"""Which runs the arguments of a command name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from helpers.results_on_disk import write_run
from kflow.results.find import find, name_runs
from kflow.types import UserError


def test_a_parent_a_glob_a_file_and_a_seed_folder_name_the_same_runs(tmp_path: Path) -> None:
    one = write_run(tmp_path / "vllm_131072_a" / "model")
    two = tmp_path / "vllm_131072_b" / "model"
    for seed in (0, 1):
        write_run(two / f"seed_{seed}")
    assert find([str(tmp_path)]).folders == (one, two)
    assert find([str(tmp_path / "vllm_*")]).folders == (one, two)
    assert find([str(two / "seed_1"), str(one / "predictions_0.json")]).folders == (two, one)
    assert find([str(one), str(tmp_path)]).folders == (one, two)


def test_a_name_with_the_marks_of_a_glob_is_a_name_first(tmp_path: Path) -> None:
    run = write_run(tmp_path / "vllm_64_[a]" / "m")
    write_run(tmp_path / "vllm_64_a" / "m")
    assert find([str(tmp_path / "vllm_64_[a]")]).folders == (run,)


def test_what_was_moved_aside_counts_only_by_its_own_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "vllm_64_" / "m")
    aside = write_run(tmp_path / "vllm_64_" / "m.old-1")
    assert find([str(tmp_path)]).folders == (run,)
    assert find([str(aside)]).folders == (aside,)


@pytest.mark.parametrize("argument", ["", "no*", "empty", "a.txt", "pipe", "\0", "a" * 5000, "me"])
def test_an_argument_without_results_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    """Not the working directory, nor the run that a file lies in."""
    monkeypatch.chdir(write_run(tmp_path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    os.mkfifo(tmp_path / "pipe")
    os.symlink("me", tmp_path / "me")
    assert find(["."]).folders == (tmp_path,)
    there = argument in ("empty", "a.txt", "pipe")
    nothing = f"{argument} contains no results" if there else f"There is nothing at {argument}"
    with pytest.raises(UserError, match=re.escape(nothing)):
        find([argument])


def test_links_below_an_argument_are_named_and_not_followed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "results" / "vllm_64_a" / "m")
    outside = write_run(tmp_path / "outside")
    os.symlink(".", tmp_path / "results" / "loop")
    os.symlink(outside, tmp_path / "results" / "there")
    located = find([str(tmp_path / "results")])
    assert located.folders == (run,)
    loop, there = located.notes
    assert loop.startswith(f"{tmp_path}/results/loop is left out")
    assert there.startswith(f"{tmp_path}/results/there is left out")
    assert find([str(tmp_path / "results" / "there")]).folders == (outside,)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/r/vllm_64_a/m"], ["vllm_64_a"]),
        (["/somewhere/else"], ["else"]),
        (["/r/vllm_64_a/m", "/r/vllm_64_b/m"], ["vllm_64_a", "vllm_64_b"]),
        (["/r/a/m", "/s/a/m"], ["r", "s"]),
        (["/r/a/m", "/r/b/n"], ["a/m", "b/n"]),
        (["/r/a/m", "/r/a/m/inner"], ["m", "m/inner"]),
    ],
)
def test_names_are_short_and_distinct(paths: list[str], expected: list[str]) -> None:
    assert name_runs([Path(path) for path in paths]) == expected
