"""What the tests of several files here are given: the commands, and two runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.programs import Program
from helpers.results_on_disk import write_run
from helpers.small_runs import GOLDS
from kflow.analysis import compare as comparing
from kflow.analysis.export import export as exporting
from kflow.analysis.page import report as reporting


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Program:
    """On a terminal on which the columns of every table stand two blanks apart."""
    monkeypatch.setenv("COLUMNS", "120")
    return Program(comparing.main, capsys)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(reporting.main, capsys)


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(exporting.main, capsys)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder of two runs: a with 2 and 1 of 4 right, b with 4 of 4."""
    settings = {"max_new_tokens": 1000, "seed": 0}
    first = [[1, 2, 9, 9], [1, 9, 9, None]]
    write_run(tmp_path / "vllm_64_a" / "m", first, GOLDS, settings=settings)
    write_run(tmp_path / "vllm_64_b" / "m", [GOLDS] * 2, GOLDS, settings=settings | {"seed": 7})
    return tmp_path
