"""A run against each lying server of lies.py: it ends as the row says, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from adversary.conftest import Outcomes, parameters
from adversary.forks import SECRET, Forks, contents, judge
from adversary.liar import Liar
from adversary.lies import DIFFERS, FAILS, LATER, MODES, NOTHING, RESUMES, ROWS, SAME, Lie
from adversary.records import FAILURE, FOLDER, RUN, SCRIPT, failed, finished, prepare, published

PROBLEMS, STEPS = 2, 2
TRIAL = 0  # the seed of what a server is asked before the run
REAL = ("good", "portal-once", "hang-once", "endless_text-always", "models_missing")  # processes
KEY_FORMS = (SECRET, quote(SECRET, safe=""))


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    server = Liar(MODES)
    yield server
    server.close()


@pytest.fixture(scope="module")
def check(
    forks: Forks, liar: Liar, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Lie, Path], None]:
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    argv = [*prepare(undisturbed, PROBLEMS, STEPS), "--base_url", liar.url("honest")]
    judge(forks.run(SCRIPT, argv, undisturbed), 0)
    expected = published(undisturbed / FOLDER)
    assert len(expected) == STEPS

    def work(row: Lie, folder: Path) -> None:
        argv = [*prepare(folder, PROBLEMS, STEPS), "--base_url", liar.url(row.name), *row.more]
        before, results = contents(folder), folder / FOLDER
        ended = forks.run(SCRIPT, argv, folder, real=row.name in REAL)
        judge(ended, row.code)
        for form in KEY_FORMS:
            assert form not in ended.err, "part of the key is shown"
        if row.then == NOTHING:
            assert contents(folder) == before
            return
        steps = finished(results)
        assert row.then == FAILS or not failed(results), [r[FAILURE] for _, r in steps]
        if row.then == RESUMES:
            liar.heal(row.name)
            earlier = len(liar.received[row.name])
            judge(forks.run(SCRIPT, [*argv, *LATER, "--request_timeout", "60"], folder), 0)
            # By seed: a request of the first run may arrive late.
            asked = {each.body["seed"] for each in liar.received[row.name][earlier:]} - {TRIAL}
            assert len(asked) == PROBLEMS * STEPS - len(steps), "what was finished was asked again"
        if row.name.endswith("-to_one"):
            assert len(steps) >= STEPS, "the other problem was held up"
        if row.then == FAILS:
            assert failed(results) == 1
            others = {step: rows[:1] for step, rows in expected.items()}
            assert {step: rows[:1] for step, rows in published(results).items()} == others
        elif row.then in (SAME, RESUMES):
            assert published(results) == expected
        assert published(results).keys() == expected.keys()
        assert not failed(results) or row.then == FAILS
        for name, content in contents(folder).items():
            # A reply is kept as it is: the model's own text, and what a resumed run replays.
            for form in KEY_FORMS if row.then != DIFFERS else ():
                assert form.encode() not in content, f"the key is in {name}"
        assert not liar.received["elsewhere"], "a redirect was followed"

    return work


@parameters(ROWS)
def test_lying_server(row: Lie, outcomes: Outcomes) -> None:
    outcomes[row.name].result()


def test_run_json_is_private(forks: Forks, liar: Liar, tmp_path: Path) -> None:
    argv = [*prepare(tmp_path, PROBLEMS, STEPS), "--base_url", liar.url("honest")]
    judge(forks.run(SCRIPT, argv, tmp_path), 0)
    assert (tmp_path / RUN).stat().st_mode & 0o777 == 0o600
