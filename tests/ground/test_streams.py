"""Programs whose standard streams are closed, full or not of UTF-8: a finished run says so with its
exit code and one line, and is finished."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.scripted import ROOT

SCRIPT = """
import sys
from helpers.fakes import ScriptedEngine
from kflow.ground import program
from kflow import experiment as experiments
import importlib
from dataclasses import replace
from helpers.fakes import ScriptedChat

def work():
    own = importlib.import_module("vllm_kflow_qwen").EXPERIMENT
    family = replace(own.family, chat=lambda *_, **__: ScriptedChat())
    experiments.main(replace(own, family=family), sys.argv[1:], ScriptedEngine().start)

work()
"""


PLANNED = ["--engine", "openai", "--base_url", "http://127.0.0.1:9/v1", "--dry_run", "json"]


def run(
    tmp_path: Path, shell: str, *argv: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A whole run of two steps, as a shell starts it. shell: redirections."""
    model, data = tmp_path / "model", tmp_path / "problems.jsonl"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(bytes(9))
    data.write_text('{"id": "a", "problem": "What is ½ of 8?", "answer": 4}\n', "utf-8")
    words = ["--model_name", "model", "--dataset", "problems.jsonl", "--reflex_size", "2", *argv]
    (tmp_path / "run.py").write_text(SCRIPT)
    return subprocess.run(
        ["bash", "-c", f'"$0" run.py "$@" {shell}', sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/scripts:{ROOT}/tests", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("shell", "environment", "argv"),
    [
        ("2>&-", {}, []),
        (">&-", {}, []),
        ("", {"PYTHONIOENCODING": "ascii"}, ["--results_dir", "résultats"]),
        ("", {"PYTHONIOENCODING": "ascii"}, PLANNED),
        ("| true", {}, []),
    ],
    ids=["no stderr", "no stdout", "ASCII", "ASCII, planned", "no reader"],
)
def test_a_run_ends_as_ever(
    shell: str, environment: dict[str, str], argv: list[str], tmp_path: Path
) -> None:
    ended = run(tmp_path, shell, *argv, **environment)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    if "--dry_run" in argv:
        assert "\\xbd of 8" in ended.stdout
    else:
        assert len(list(tmp_path.rglob("predictions_*.json"))) == 2


def test_a_full_disk_under_the_output_is_not_blamed_on_the_results(tmp_path: Path) -> None:
    ended = run(tmp_path, "> /dev/full")
    assert ended.returncode == 1
    assert "Cannot use standard output (No space left on device)" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert len(list(tmp_path.rglob("predictions_*.json"))) == 2
