"""inspect_ai itself reads the logs of export_results.py and finds the run in them.

It does not resolve beside the CPU requirements, so it has an environment of its own, which .ci/run
makes. On a machine without one the tests are skipped; with REQUIRE_INSPECT=1 they fail instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kflow
from helpers.pages import ENCODABLE
from helpers.results_on_disk import ours, wide, write_manifest, write_step
from helpers.scripted import ROOT
from kflow.analysis.comparison import list_right
from kflow.analysis.export.inspect_log import INSTALL, describe_sample
from kflow.analysis.run_statistics import build_timeline
from kflow.results.rollout import Rollout
from kflow.results.status import Status, to_json

PYTHON = Path(os.environ.get("INSPECT_PYTHON", ROOT / ".venv-inspect" / "bin" / "python"))
HOW = (
    f"no inspect_ai at {PYTHON}: python3 -m venv .venv-inspect && .venv-inspect/bin/pip install "
    "-r tests/requirements_inspect.txt, with Python 3.11 or newer"
)
MODEL = "org/model"
GOLDS = (25, 7)
IDS = ("aime-0", ENCODABLE)  # the second one cannot name a file


def slot(problem: int, predicted: int | None, tokens: int, **more: Any) -> Rollout:
    """A rollout with a prompt of so many tokens and a reply of ten times as many."""
    sizes = {"prompt_tokens": tokens, "completion_tokens": 10 * tokens}
    return ours(problem, GOLDS[problem], predicted, **({"id": IDS[problem]} | sizes | more))


def truncated(problem: int, tokens: int) -> Rollout:
    return slot(problem, None, tokens, finish_reason="length", pred_solution="Still thinking")


FAILED = slot(1, None, 3, failure=ENCODABLE, finish_reason=None, pred_solution="")
HOSTILE = slot(
    1, 7, 6, question=ENCODABLE, pred_solution=f"{ENCODABLE}</think>{ENCODABLE}\\boxed{{7}}"
)
STOPPED = wide([slot(0, 25, 7), slot(0, 3, 8)], 25)
# By seed and step, a record per problem.
RUN = (
    (
        [wide([slot(0, 25, 1), slot(0, 3, 2)], 25), wide([FAILED, truncated(1, 4)], None)],
        [slot(0, 3, 5), HOSTILE],
    ),
    (
        [STOPPED, wide([slot(1, 7, 9), slot(1, 9, 10)], 7)],
        [replace(STOPPED, repeats_step=0), truncated(1, 11)],
    ),
)


def export(folder: Path, output: Path, python: Path = PYTHON) -> subprocess.CompletedProcess[str]:
    """Run the program with the interpreter that has inspect_ai."""
    command = [python, ROOT / "scripts" / "export_results.py", folder, "--to", "inspect"]
    return subprocess.run(
        [*command, "--output", output], cwd=output.parent, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What inspect_ai reads from RUN's log."""
    if not PYTHON.is_file():
        if os.environ.get("REQUIRE_INSPECT") == "1":
            pytest.fail(HOW)
        pytest.skip(HOW)
    home = tmp_path_factory.mktemp("inspect")
    folder = home / "vllm_1000_x" / "model"
    for seed, steps in enumerate(RUN):
        for step, records in enumerate(steps):
            write_step(folder / f"seed_{seed}", step, records)
    write_manifest(
        folder,
        {"reflex_size": 2, "num_seeds": 2},
        model={"name": MODEL},
        sampling={"temperature": 0.6},
        sessions=[{"started": "2026-02-03T04:05:06+00:00"}],
    )
    ended = Status(4, 4, "complete", updated="2026-02-03T05:05:06+00:00")
    (folder / "status.json").write_bytes(to_json(ended))
    exported = export(folder, home / "logs")
    assert (exported.returncode, exported.stderr) == (0, "")
    command = [PYTHON, ROOT / "tests" / "helpers" / "inspect_reader.py"]
    reader = subprocess.run(
        [*command, home / "logs" / "vllm_1000_x.eval"],
        cwd=home,
        env={"HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert reader.returncode == 0, reader.stderr
    return dict(json.loads(reader.stdout))


def chain(seed: int, problem: int) -> list[Rollout]:
    """Its rollouts, in the order in which they were asked."""
    records = [records[problem] for records in RUN[seed]]
    return [each for record in records if record.repeats_step is None for each in record.slots]


CHAINS = [(seed, problem) for seed in range(2) for problem in range(2)]


def place(sample: dict[str, Any]) -> tuple[str, int]:
    return sample["id"], sample["epoch"]


def sample(read: dict[str, Any], seed: int, problem: int) -> dict[str, Any]:
    wanted = (IDS[problem], seed + 1)
    samples = read["whole"]["samples"]
    (found,) = (e for e in samples if (e["metadata"]["problem"], e["epoch"]) == wanted)
    return found


@pytest.mark.parametrize("part", ["whole", "header"])
def test_the_log_says_what_was_run(read: dict[str, Any], part: str) -> None:
    log = read[part]
    assert (log["status"], log["eval"]["task"]) == ("success", "vllm_1000_x")
    assert (log["eval"]["model"], log["eval"]["config"]["epochs"]) == (MODEL, 2)
    assert log["eval"]["model_generate_config"]["temperature"] == 0.6
    assert log["eval"]["dataset"]["samples"] == 2
    assert log["results"]["total_samples"] == log["results"]["completed_samples"] == 4
    assert log["stats"]["started_at"] == "2026-02-03T04:05:06+00:00"
    assert log["stats"]["completed_at"] == "2026-02-03T05:05:06+00:00"
    (score,) = log["results"]["scores"]
    assert score["metrics"]["accuracy"]["value"] == 2 / 4
    usage = log["stats"]["model_usage"][MODEL]
    assert (usage["input_tokens"], usage["output_tokens"]) == (66, 660)


@pytest.mark.parametrize(("seed", "problem"), CHAINS)
def test_messages_are_the_prompts_and_replies(
    read: dict[str, Any], seed: int, problem: int
) -> None:
    """A sample is a problem, an epoch a seed; usage is the sum of all rollouts."""
    found, rollouts = sample(read, seed, problem), chain(seed, problem)
    assert (found["target"], found["input"]) == (str(GOLDS[problem]), rollouts[0].question)
    messages = found["messages"]
    assert [each["role"] for each in messages] == ["user", "assistant"] * len(rollouts)
    for rollout, prompt, reply in zip(rollouts, messages[::2], messages[1::2], strict=True):
        assert prompt["content"] == rollout.question
        thinking = [part["reasoning"] for part in reply["content"] if part["type"] == "reasoning"]
        (text,) = (part["text"] for part in reply["content"] if part["type"] == "text")
        assert "".join(thinking) + text == rollout.pred_solution
        assert thinking == [rollout.pred_solution[: -len(text)]] * ("</think>" in "".join(thinking))
        assert reply["model"] == MODEL
        known = reply["metadata"]
        for name in ("failure", "finish_reason", "prompt_tokens", "completion_tokens", "correct"):
            assert known.get(name) == getattr(rollout, name)
        answer = None if rollout.predicted is None else str(rollout.predicted)
        assert known.get("predicted") == answer
    tokens = sum(rollout.prompt_tokens for rollout in rollouts)
    usage = found["model_usage"][MODEL]
    assert (usage["input_tokens"], usage["output_tokens"]) == (tokens, 10 * tokens)
    assert usage["total_tokens"] == 11 * tokens


@pytest.mark.parametrize(
    ("seed", "problem", "score", "stop", "completion"),
    [
        (0, 0, ("I", "3"), "stop", r"[Answer]: \boxed{3}"),
        (0, 1, ("C", "7"), "stop", rf"{ENCODABLE}\boxed{{7}}"),
        (1, 0, ("C", "25"), "stop", r"[Answer]: \boxed{25}"),
        (1, 1, ("I", None), "max_tokens", "Still thinking"),
    ],
)
def test_the_score_is_the_chains_last_answer(
    read: dict[str, Any],
    seed: int,
    problem: int,
    score: tuple[str, str | None],
    stop: str,
    completion: str,
) -> None:
    found = sample(read, seed, problem)
    ((name, given),) = found["scores"].items()
    assert (given["value"], given["answer"]) == score
    assert found["output"]["choices"][0]["stop_reason"] == stop
    assert found["output"]["completion"] == completion
    (listed,) = (each for each in read["summaries"] if place(each) == place(found))
    assert listed["scores"][name]["value"] == score[0]
    assert (listed["target"], listed["completed"]) == (found["target"], True)


def test_without_inspect_ai_the_way_to_install_it_is_named(tmp_path: Path) -> None:
    write_step(tmp_path / "run", 0, [slot(0, 25, 1)])
    write_manifest(tmp_path / "run", {})
    done = export(tmp_path / "run", tmp_path / "logs", Path(sys.executable))
    assert (done.returncode, done.stderr) == (2, f"{INSTALL}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("ahead", [True, False])
def test_the_score_is_the_answer_that_a_comparison_counts(ahead: bool, tmp_path: Path) -> None:
    """The vote of parallel thinking; else the step's own answer, but after a reflection the
    verdict. An attempt beyond the token budget is no part of it."""
    vote = {"verdict": 25, "verdict_correct": True}
    reflection = slot(1, None, 1, asks_answer=False, verdict=7, verdict_correct=True)
    write_step(tmp_path, 0, [slot(0, 25, 1), slot(1, 9, 1)])
    write_step(tmp_path, 1, [slot(0, 3, 1, **vote), reflection])
    write_step(tmp_path, 2, [slot(n, 5, 1, counted=False, **vote) for n in (0, 1)])
    write_manifest(tmp_path, {}, experiment={"ahead": ahead})
    run = kflow.read(tmp_path)
    chains = [[each for each in run.records() if each.problem == problem] for problem in (0, 1)]
    described = [describe_sample(run, chain) for chain in chains]
    first = {"value": "C", "answer": "25"} if ahead else {"value": "I", "answer": "3"}
    assert described[0]["scores"]["answer"] == first
    assert described[1]["scores"]["answer"] == {"value": "C", "answer": "7"}
    assert described[1]["output"]["choices"][0]["message"]["content"] == r"[Answer]: \boxed{9}"
    scored = [each["scores"]["answer"]["value"] == "C" for each in described]
    assert list_right(build_timeline(run), len(run.steps) - 1) == scored
