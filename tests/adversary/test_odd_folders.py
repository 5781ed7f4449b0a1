"""The scripts that read results on each odd folder of folders.py: the honest run is shown."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adversary.conftest import Verdicts, parameters
from adversary.folders import ROWS, Folder, honest
from adversary.forks import Forks, contents, judge
from adversary.liar import Liar
from adversary.records import FOLDER, SCRIPT, prepare

REAL = ("gap", "deep", "step_is_a_fifo")  # as processes of their own


@pytest.fixture(scope="module")
def check(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Folder, Path], None]:
    liar, base = Liar({}), tmp_path_factory.mktemp("base")
    argv = [*prepare(base, 3, 3), "--base_url", liar.url("honest")]
    judge(forks.run(SCRIPT, argv, base), 0)
    liar.close()

    def work(row: Folder, folder: Path) -> None:
        shutil.copytree(base / FOLDER, folder / "base")
        honest(folder / "all" / "good")
        honest(folder / "outside")
        (folder / "outside.json").write_bytes(
            (folder / "outside" / "predictions_1.json").read_bytes()
        )
        row.build(folder / "all" / row.odd)
        before = contents(folder)
        if not row.apart:
            together = forks.run("compare_results", ["--common", "--csv", "all"], folder)
            judge(together, 0)
            folders = {line["folder"] for line in csv.DictReader(together.out.splitlines())}
            assert any(name.endswith("/good") for name in folders), "the honest run is not shown"
            assert not any("outside" in name for name in folders), "a link was followed out"
            assert row.odd in together.err or not row.noted, "left out without a word"
        judge(forks.run("report", ["all", "-o", "page.html"], folder), 0)
        real = row.name in REAL
        alone = forks.run("compare_results", [f"all/{row.odd}"], folder, real=real)
        judge(alone, row.code)
        assert row.odd in alone.err or not row.noted, "left out without a word"
        assert (folder / "page.html").stat().st_size > 10_000
        after = contents(folder)
        assert after.keys() - before.keys() == {"page.html"}
        assert all(after[name] == before[name] for name in before)

    return work


@parameters(ROWS)
def test_odd_folders(
    row: Folder,
    request: pytest.FixtureRequest,
    verdicts: Verdicts,
    check: Callable[[Folder, Path], None],
) -> None:
    verdicts.of(request, check, row)
