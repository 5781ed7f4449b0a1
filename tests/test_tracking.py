"""--track with a fake tracker: what it is given, and that one that fails costs a run nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fakes import ScriptedEngine
from kflow.analysis.export.tracked import Steps
from kflow.analysis.figures import course, describe
from kflow.analysis.runs import read
from kflow.running import tracking
from results_on_disk import ours, write_manifest, write_run, write_step
from scripted import Ran, refused, run_script, run_study

QWEN = "vllm_kflow_qwen"
FLAGS = ["--reflex_size", "3", "--num_seeds", "2"]
# A tracker whose runs write what they are given to a file each, then do what `{at}` asks for.
TRACKER = """
import json, os, sys, time

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
def tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a fake trackio or wandb that does something after step 1."""
    modules, logs = tmp_path / "modules", tmp_path / "logs"
    modules.mkdir()
    logs.mkdir()
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setenv("PYTHONPATH", str(modules))

    def install(kind: str, at: str = "pass") -> Path:
        (modules / f"{kind}.py").write_text(TRACKER.format(folder=str(logs), at=at))
        return logs

    return install


def logged(path: Path) -> list[tuple[Any, Any]]:
    return [(name, value) for name, value in map(json.loads, path.read_text().splitlines())]


@pytest.mark.parametrize("kind", tracking.KINDS)
def test_every_step_is_logged_as_the_comparison_has_it(
    tmp_path: Path, tracker: Any, kind: str
) -> None:
    logs = tracker(kind)
    ran = run_script(QWEN, [*FLAGS, "--track", f"{kind}:mine"], tmp_path, ScriptedEngine())
    assert (ran.code, ran.complaints) == (0, [])
    (path,) = logs.iterdir()
    (_, given), *steps, (end, _) = logged(path)
    assert end == "finish"
    assert (given["project"], given["resume"]) == ("mine", "allow")
    assert given["name"].startswith(ran.folder.parent.name)
    assert given.get("id") == (given["name"] if kind == "wandb" else None)
    assert given["config"]["settings.num_seeds"] == "2"
    figures = describe(course(read(ran.folder, "run")))
    assert [step for step, _ in steps] == [0, 1, 2]
    for (_, metrics), at in zip(steps, figures.by_step, strict=True):
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
    assert "track" not in ran.run()["settings"]


def test_what_a_problem_has_cost_is_logged_with_prices(tmp_path: Path) -> None:
    prices = {"prompt_price": 2000, "reply_price": 10_000}
    write_run(tmp_path, [[1, 2], [1, 2]], [1, 2], settings=prices)
    costs = [metrics["cost"] for _, metrics in Steps(tmp_path).new()]
    assert costs == pytest.approx([0.2 + 10, 2 * (0.2 + 10)])


def test_a_rate_of_nothing_is_not_logged(tmp_path: Path) -> None:
    write_step(tmp_path, 0, [ours(0, 1, None, asks_answer=False)])
    write_step(tmp_path, 1, [ours(0, 1, None)])
    write_manifest(tmp_path, {})
    first, second = (metrics for _, metrics in Steps(tmp_path).new())
    assert "no_answer" not in first
    assert "unreadable_box" not in first
    assert (first["truncated"], second["no_answer"], second["unreadable_box"]) == (0, 1, 0)


def test_a_resumed_run_goes_on_in_the_same_place(tmp_path: Path, tracker: Any) -> None:
    logs = tracker("trackio")
    run_script(QWEN, ["--reflex_size", "1"], tmp_path, ScriptedEngine())
    run_script(QWEN, ["--reflex_size", "2", "--track", "trackio"], tmp_path, ScriptedEngine())
    run_script(QWEN, ["--reflex_size", "3", "--track", "trackio"], tmp_path, ScriptedEngine())
    (path,) = logs.iterdir()
    assert [step for step, _ in logged(path) if isinstance(step, int)] == [0, 1, 0, 1, 2]


def test_the_arms_of_a_study_are_runs_in_one_group(tmp_path: Path, tracker: Any) -> None:
    logs = tracker("wandb")
    flags = ["--rollouts", "6", "--rollouts_per_step", "2", "--aggregate", "2"]
    flags += ["--arms", "vllm,vllm_rsa", "--output_postfix", "x", "--track", "wandb"]
    ran = run_study("study_qwen", flags, tmp_path, ScriptedEngine(several_runs=True))
    assert (ran.code, ran.complaints) == (0, [])
    runs = [logged(path) for path in logs.iterdir()]
    assert {run[0][1]["group"] for run in runs} == {"262144_x model"}
    assert {run[0][1]["name"].rpartition("_262144")[0] for run in runs} == {"vllm", "vllm_rsa"}
    assert sorted(run[-2][0] for run in runs) == [2, 5]
    (wide,) = (run for run in runs if "rsa" in run[0][1]["name"])
    assert wide[1][1]["rollouts"] == 2


def complaint(ran: Ran) -> str:
    """The one warning of a run that is complete all the same."""
    assert ran.code == 0, ran
    assert sorted(p.name for p in ran.folder.glob("seed_1/*")) == [
        f"predictions_{step}.json" for step in range(3)
    ]
    assert json.loads((ran.folder / "status.json").read_bytes())["state"] == "complete"
    (sentence,) = ran.complaints
    assert "has stopped" in sentence
    return sentence


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("raise ValueError('no \\x1b[31m network')", "ValueError: no \\x1b[31m network"),
        ("sys.exit('log in first')", "SystemExit: log in first"),
        ("os.kill(os.getpid(), 9)", "ended with code -9"),
        ("time.sleep(600)", "was not finished after 2 seconds"),
        ("print('x' * 10**8); sys.stderr.write('y' * 10**8); input()", "EOFError"),
    ],
)
def test_a_tracker_that_fails_hangs_or_floods_costs_a_run_one_warning(
    tmp_path: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch, at: str, reason: str
) -> None:
    if "sleep" in at:
        monkeypatch.setattr(tracking, "FINISH", 2.0)
    tracker("trackio", at)
    ran = run_script(QWEN, [*FLAGS, "--track", "trackio"], tmp_path, ScriptedEngine())
    assert reason in complaint(ran)


def test_a_tracker_that_cannot_be_started_costs_a_run_one_warning(
    tmp_path: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*arguments: Any, **more: Any) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    tracker("trackio")
    monkeypatch.setattr("kflow.running.tracking.subprocess.Popen", none)
    ran = run_script(QWEN, [*FLAGS, "--track", "trackio"], tmp_path, ScriptedEngine())
    assert ran.code == 0
    assert ran.complaints == [
        "--track cannot be started ([Errno 11] Resource temporarily unavailable); "
        "the run continues."
    ]


def test_a_tracker_that_is_not_installed_is_a_mistake(tmp_path: Path) -> None:
    ran = run_script(QWEN, ["--track", "trackio"], tmp_path)
    refused(ran, "--track trackio needs a package that is not installed", "pip install trackio")
    assert not ran.results.exists()


@pytest.mark.parametrize("value", ["mlflow", "", "trackio:", "wandb:a\nb"])
def test_other_trackers_are_refused(tmp_path: Path, value: str) -> None:
    refused(run_script(QWEN, ["--track", value], tmp_path), "--track", "must be trackio or wandb")
