"""export_results.py --to trackio or wandb with a fake tracker: what it is given, and when."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import ScriptedEngine
from helpers.programs import Program
from helpers.results_on_disk import ours, write_manifest, write_run, write_step
from helpers.scripted import run_script, run_study
from helpers.small_runs import figures
from kflow.analysis.export import tracked
from kflow.analysis.export.export import TRACKERS
from kflow.results.runs import read
from kflow.results.status import Status, StatusFile

GOLDS = [1, 2]
# A tracker whose runs write what they are given to a file each, then do what `{at}` asks for.
TRACKER = """
import json, os, sys

class Table:
    def __init__(self, dataframe): self.rows = dataframe.to_dict("records")

class Run:
    def __init__(self, **given):
        self.path = os.path.join({folder!r}, given["name"])
        self.write("init", given)
    def write(self, name, value):
        with open(self.path, "a") as file:
            file.write(json.dumps([name, value], default=lambda table: table.rows) + "\\n")
    def log(self, metrics, step):
        self.write(step, metrics)
        if step == 1: {at}
    def finish(self): self.write("finish", None)

def init(**given): return Run(**given)
"""


@pytest.fixture
def tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Installs a fake trackio or wandb that does something after step 1."""
    modules, logs = tmp_path / "modules", tmp_path / "logs"
    modules.mkdir()
    logs.mkdir()
    monkeypatch.syspath_prepend(modules)

    def install(kind: str, at: str = "pass") -> Path:
        (modules / f"{kind}.py").write_text(TRACKER.format(folder=str(logs), at=at))
        return logs

    yield install
    for kind in TRACKERS:
        sys.modules.pop(kind, None)


def logged(path: Path) -> list[tuple[Any, Any]]:
    return [(name, value) for name, value in map(json.loads, path.read_text().splitlines())]


def steps(path: Path) -> list[int]:
    return [name for name, _ in logged(path) if isinstance(name, int)]


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_every_step_is_logged_as_the_comparison_has_it(
    tmp_path: Path, tracker: Any, export: Program, kind: str
) -> None:
    logs = tracker(kind)
    flags = ["--reflex_size", "3", "--num_seeds", "2"]
    ran = run_script("vllm_kflow_qwen", flags, tmp_path, ScriptedEngine())
    export(ran.folder, "--to", kind, "--project", "mine")
    (path,) = logs.iterdir()
    (_, given), *every, (end, _) = logged(path)
    assert end == "finish"
    assert (given["project"], given["resume"]) == ("mine", "allow")
    assert given["name"].startswith(ran.folder.parent.name)
    assert given.get("id") == (given["name"] if kind == "wandb" else None)
    assert given["config"]["settings.num_seeds"] == "2"
    run = figures(read(ran.folder, "run"))
    assert [step for step, _ in every] == [0, 1, 2]
    for (_, metrics), at in zip(every, run.by_step, strict=True):
        assert at.own is not None
        assert metrics["accuracy"] == at.own.accuracy
        assert metrics["rolling_majority"] == at.rolling_majority.accuracy
        assert (metrics["rollouts"], metrics["tokens"]) == (at.rollouts, at.tokens)
        assert (metrics["no_answer"], metrics["early_stopped"]) == (0, 0)
        assert "cost" not in metrics
        assert {row["problem"] for row in metrics["samples"]} == {"first", "second", "third"}
        for row in metrics["samples"]:
            assert f"«{row['problem']}|question»" in row["prompt"]
            assert row["predicted"] in row["answer"]


def test_a_rate_of_nothing_is_not_logged(tmp_path: Path, tracker: Any, export: Program) -> None:
    logs = tracker("trackio")
    write_step(tmp_path / "run", 0, [ours(0, 1, None, asks_answer=False)])
    write_step(tmp_path / "run", 1, [ours(0, 1, None)])
    write_manifest(tmp_path / "run", {})
    export(tmp_path / "run", "--to", "trackio")
    first, second = (each for name, each in logged(*logs.iterdir()) if isinstance(name, int))
    assert not first.keys() & {"no_answer", "unreadable_box"}
    assert (first["truncated"], second["no_answer"], second["unreadable_box"]) == (0, 1, 0)


def test_the_arms_of_a_study_are_runs_in_one_group(
    tmp_path: Path, tracker: Any, export: Program
) -> None:
    logs = tracker("wandb")
    sizes = ["--rollouts", "4", "--rollouts_per_step", "2", "--aggregate", "2"]
    flags = [*sizes, "--arms", "vllm,vllm_rsa", "--output_postfix", "x"]
    ran = run_study("study_qwen", flags, tmp_path, ScriptedEngine(several_runs=True))
    export(ran.results, "--to", "wandb")
    runs = [logged(path) for path in logs.iterdir()]
    assert {run[0][1]["group"] for run in runs} == {"262144_x model"}
    assert {run[0][1]["name"].rpartition("_262144")[0] for run in runs} == {"vllm", "vllm_rsa"}
    assert sorted(run[-2][0] for run in runs) == [1, 3]


def test_a_run_is_followed_from_its_first_step_to_its_last(
    tmp_path: Path, tracker: Any, export: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, folder = tracker("wandb"), tmp_path / "vllm_64_x" / "m"
    folder.mkdir(parents=True)
    write_manifest(folder, {"reflex_size": 4})
    StatusFile(folder).update(Status(8, 0))

    def work(done: int, state: str = "running") -> None:
        write_run(folder, [GOLDS] * done, GOLDS)
        StatusFile(folder).update(Status(8, 2 * done, state))

    then: list[Callable[[], object]] = [
        (folder / "rollouts_0.jsonl").touch,
        lambda: work(1),
        lambda: None,
        lambda: work(3),
        lambda: work(4, "complete"),
    ]
    monkeypatch.setattr(tracked.time, "sleep", lambda seconds: then.pop(0)())
    export(folder, "--to", "wandb", "--follow")
    assert not then
    (path,) = logs.iterdir()
    assert steps(path) == [0, 1, 2, 3]
    assert [name for name, _ in logged(path)].count("init") == 3  # it goes on, and is left whole
    assert logged(path)[-1][0] == "finish"
    names = {value["name"] for name, value in logged(path) if name == "init"}
    assert len(names) == 1


def test_a_step_is_not_logged_before_all_seeds_have_it(
    tmp_path: Path, tracker: Any, export: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, folder = tracker("wandb"), tmp_path / "vllm_64_x" / "m"
    write_manifest(folder, {"reflex_size": 1, "num_seeds": 2})
    write_run(folder / "seed_0", [GOLDS], GOLDS)
    StatusFile(folder).update(Status(8, 0))
    then: list[Callable[[], object]] = [
        lambda: None,
        lambda: write_run(folder / "seed_1", [[0] * len(GOLDS)], GOLDS),
        lambda: StatusFile(folder).update(Status(8, 8, "complete")),
    ]
    monkeypatch.setattr(tracked.time, "sleep", lambda seconds: then.pop(0)())
    export(folder, "--to", "wandb", "--follow")
    (path,) = logs.iterdir()
    assert [value["accuracy"] for name, value in logged(path) if name == 0] == [0.5]


@pytest.mark.parametrize("at", ["raise ValueError('no \\x1b[31m network')", "sys.exit('log in')"])
def test_a_tracker_that_fails_is_one_sentence(
    tmp_path: Path, tracker: Any, export: Program, at: str
) -> None:
    tracker("trackio", at)
    write_run(tmp_path / "run", [GOLDS] * 3, GOLDS)
    assert "trackio failed" in export.refuse(tmp_path / "run", "--to", "trackio")


def test_a_tracker_that_is_not_installed_is_a_mistake(tmp_path: Path, export: Program) -> None:
    write_run(tmp_path / "run", [GOLDS], GOLDS)
    assert "pip install trackio" in export.refuse(tmp_path / "run", "--to", "trackio")
