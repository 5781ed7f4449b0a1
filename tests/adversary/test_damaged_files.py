"""A run started again on each damaged folder of damage.py: refused whole, or completed right."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adversary.bricks import from_the, raw
from adversary.conftest import Outcomes, parameters
from adversary.damage import EARLY, HALF, ROWS, VICTIM, WHOLE, Damage
from adversary.forks import Forks, contents, judge
from adversary.liar import Liar, Mode
from adversary.records import FOLDER, SCRIPT, finished, prepare, published

PROBLEMS, STEPS = 3, 3
REAL = ("nothing_5", "line_torn_at_0.5", "step_is_a_fifo", "run_overwritten_deep")  # processes
ENDED = ("--max_concurrency", "1", "--max_outage", "0.005")


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    server = Liar({str(base): Mode(from_the(base + 1, raw())) for base in (EARLY, HALF)})
    yield server
    server.close()


@pytest.fixture(scope="module")
def check(
    forks: Forks, liar: Liar, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Damage, Path], None]:
    bases = {}
    for base, code in ((EARLY, 1), (HALF, 1), (WHOLE, 0)):
        bases[base] = tmp_path_factory.mktemp("base")
        argv = prepare(bases[base], PROBLEMS, STEPS)
        (bases[base] / VICTIM).write_text("untouched")
        url = liar.url(str(base))
        judge(forks.run(SCRIPT, [*argv, "--base_url", url, *ENDED], bases[base]), code)
        assert len(finished(bases[base] / FOLDER)) == base
    expected = published(bases[WHOLE] / FOLDER)

    def work(row: Damage, folder: Path) -> None:
        shutil.copytree(bases[row.base], folder, dirs_exist_ok=True)
        row.edit(folder)
        before = contents(folder)
        url = liar.url(row.name)
        ended = forks.run(
            SCRIPT, [*argv, "--base_url", url, *row.more], folder, real=row.name in REAL
        )
        after = contents(folder)
        assert after[VICTIM] == b"untouched", "a file was written through a link"
        assert "new" not in after, "a file was made through a link"
        judge(ended, row.code)
        if row.code == 2:
            lost = {name for name in before if after.get(name) != before[name]}
            assert not lost, f"not as before: {lost}"
            assert re.search(r"predictions_\d|rollouts_\d|run\.json|different settings", ended.err)
        else:
            assert published(folder / FOLDER) == expected
            assert not list((folder / FOLDER).glob("rollouts_[0-2].jsonl"))

    return work


@parameters(ROWS)
def test_damaged_files(row: Damage, outcomes: Outcomes) -> None:
    outcomes[row.name].result()
