"""The command lines of inputs.py and odd_inputs.py: refused in a sentence, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adversary.conftest import Verdicts, parameters
from adversary.forks import Forks, contents, judge
from adversary.inputs import ENTRY, LIVE, Input
from adversary.liar import Liar
from adversary.odd_inputs import ROWS
from adversary.records import prepare

EXAMPLE = Path(__file__).resolve().parents[2] / "results" / "vllm_512_example"
STEPS = 2
ENGINE = ("--engine", "openai", "--served_model_name", "m")


def arguments(folder: Path) -> list[str]:
    """Those of an honest run but for its engine, which the rows name."""
    argv = prepare(folder, 3, STEPS)
    return [word for word in argv if word not in ENGINE]


def readers(folder: Path) -> None:
    """Results, and files that are no results, for the scripts that read them."""
    (run,) = EXAMPLE.iterdir()
    shutil.copytree(run, folder / "good")
    for name in ("one", "two"):
        shutil.copytree(run, folder / "several" / name)
    (folder / "empty").mkdir()
    (folder / "empty.html").touch()
    for name in ("mine.txt", "mine.svg", "mine.png", "run.svg"):
        (folder / name).write_text("<svg>my thesis</svg>")


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    server = Liar({})
    yield server
    server.close()


@pytest.fixture(scope="module")
def check(forks: Forks, liar: Liar) -> Callable[[Input, Path], None]:
    def work(row: Input, folder: Path) -> None:
        argv = [word.replace(LIVE, liar.url("honest")) for word in row.argv]
        if row.script in ENTRY:
            argv = [*arguments(folder), *argv]
        else:
            readers(folder)
        if row.build is not None:
            row.build(folder)
        before = contents(folder)
        ended = forks.run(row.script, argv, folder, row.env, real=row.real)
        judge(ended, row.code)
        assert row.says in ended.err, f"{row.says!r} is not in {ended.err!r}"
        if row.hides:
            assert row.hides not in ended.out + ended.err
        after = contents(folder)
        lost = {name for name in before if after.get(name) != before[name]}
        assert not lost, f"not as before: {lost}"
        if LIVE in row.argv and row.code == 0:
            created = [Path(name).name for name in after.keys() - before.keys()]
            for step in range(STEPS):
                assert f"predictions_{step}.json" in created, "not complete"
        elif row.code == 2 or row.script in ENTRY:
            assert after.keys() == before.keys(), after.keys() - before.keys()

    return work


@parameters(ROWS)
def test_bad_inputs(
    row: Input,
    request: pytest.FixtureRequest,
    verdicts: Verdicts,
    check: Callable[[Input, Path], None],
) -> None:
    verdicts.of(request, check, row)
