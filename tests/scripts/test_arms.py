"""A study: arms side by side in one engine, each as it would be alone."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import ScriptedEngine, contents
from helpers.scripted import QUESTIONS, refused, run_script, run_study, write_problems
from kflow.flags import values_of
from kflow.method import rollouts_of
from kflow.running.settings import Settings
from kflow.study import Budget

OWN = {"rollouts_per_step": 2, "aggregate": 2, "attempts": 2}
SMALL = ["--rollouts", "6", *(word for name, n in OWN.items() for word in (f"--{name}", str(n)))]


def engine(**more: Any) -> ScriptedEngine:
    return ScriptedEngine(several_runs=True, **more)


def predictions(home: Path) -> dict[str, bytes]:
    return contents(home / "results", "**/predictions_*.json")


@pytest.mark.parametrize("name", ["study_oss", "study_qwen"])
def test_every_arm_of_a_study_is_as_it_would_be_alone(name: str, tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    study_engine = engine()
    ran = run_study(name, SMALL, together, study_engine)
    assert (ran.code, ran.complaints, study_engine.started, study_engine.closed) == (0, [], 1, 1)
    whole = importlib.import_module(name).STUDY
    for arm, settings in replace(whole, given=OWN).runs(Settings(), Budget(rollouts=6)):
        script = next(
            module
            for module in vars(importlib.import_module(name)).values()
            if getattr(module, "EXPERIMENT", None) and module.EXPERIMENT.prefix == arm.prefix
        )
        flags = ["--reflex_size", str(settings.reflex_size)]
        for flag, value in values_of(arm.method).items():
            flags += [f"--{flag}", str(value)]
        assert run_script(script.__name__, flags, alone, ScriptedEngine(order=3)).code == 0
    assert predictions(together) == predictions(alone)
    assert len({path.split("/")[0] for path in predictions(together)}) == len(whole.arms)


def test_a_study_goes_on_where_an_arm_stopped_alone_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    whole, mixed = tmp_path / "whole", tmp_path / "mixed"
    assert run_study("study_qwen", SMALL, whole, engine()).code == 0
    alone = ScriptedEngine(stop_after=5)
    assert run_script("vllm_kflow_qwen", ["--reflex_size", "4"], mixed, alone).code == 1
    first = engine(order=2, stop_after=20)
    assert run_study("study_qwen", SMALL, mixed, first).code == 1
    other = ScriptedEngine(order=4)
    assert run_script("vllm_qwen_refine", ["--reflex_size", "4"], mixed, other).code == 0
    last = engine(order=5)
    assert run_study("study_qwen", SMALL, mixed, last).code == 0
    assert predictions(mixed) == predictions(whole)
    counts = [len(each.delivered) for each in (alone, first, other, last)]
    full = engine()
    run_study("study_qwen", SMALL, tmp_path / "again", full)
    assert sum(counts) == len(full.delivered)
    assert run_study("study_qwen", SMALL, mixed, None).code == 0


def test_arms_are_chosen_by_prefix_and_the_first_is_the_baseline(tmp_path: Path) -> None:
    flags = ["--arms", "vllm_markov,vllm", "--rollouts", "3"]
    ran = run_study("study_qwen", flags, tmp_path, engine())
    assert ran.code == 0
    named = [line.split("/")[-2] for line in ran.out.splitlines() if line.startswith("Results: ")]
    assert named == ["vllm_markov_262144_", "vllm_262144_"]
    assert len(predictions(tmp_path)) == 2 * 3


def test_an_arm_in_other_hands_is_refused_and_nothing_is_asked(tmp_path: Path) -> None:
    flags = ["--reflex_size", "4", "--temperature", "0.9"]
    assert run_script("vllm_qwen_refine", flags, tmp_path, ScriptedEngine()).code == 0
    refused(run_study("study_qwen", SMALL, tmp_path, None), "sampling.temperature: 0.9 -> 0.6")


@pytest.mark.parametrize(
    ("rollouts", "given", "steps", "rounds"),
    [
        (64, {}, {"vllm": 64, "vllm_rsa": 4, "vllm_trt": 43, "vllm_rse": 7}, "56,7"),
        (17, {}, {"vllm_parallel": 17, "vllm_rsa": 1, "vllm_trt": 11, "vllm_rse": 1}, "16"),
        (40, {"rounds": "32,4"}, {"vllm_posK": 40, "vllm_rsa": 2, "vllm_rse": 5}, "32,4"),
        (5, {"attempts": 1, "rollouts_per_step": 5}, {"vllm_rsa": 1, "vllm_rse": 5}, "4"),
    ],
)
def test_a_budget_in_steps(
    rollouts: int, given: dict[str, object], steps: dict[str, int], rounds: str
) -> None:
    """Each arm takes as many rollouts as fit into it, and at most so many."""
    study = replace(importlib.import_module("study_oss").STUDY, given=given)
    runs = {arm.prefix: (arm, own) for arm, own in study.runs(Settings(), Budget("", rollouts))}
    assert {prefix: runs[prefix][1].reflex_size for prefix in steps} == steps
    assert runs["vllm_pacore"][0].method.rounds == rounds
    for arm, settings in runs.values():
        assert 0 < rollouts_of(arm.method, settings.reflex_size) <= rollouts


def test_a_flag_is_every_methods_that_has_it() -> None:
    study = importlib.import_module("study_oss").STUDY
    wide = next(arm for arm in study.arms if arm.prefix == "vllm_rsa")
    other = replace(wide, prefix="other", method=replace(wide.method, aggregate=2))
    both = replace(study, arms=(wide, other))

    def fields(**given: object) -> list[tuple[int, int]]:
        runs = replace(both, given=given).runs(Settings(), Budget())
        return [(arm.method.rollouts_per_step, arm.method.aggregate) for arm, _ in runs]

    assert fields() == [(16, 4), (16, 2)]
    assert fields(rollouts_per_step=8) == [(8, 4), (8, 2)]
    assert fields(aggregate=4) == [(16, 4), (16, 4)]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rollouts", "4"], "--rollouts 4 is fewer than vllm_rsa takes"),
        (["--rollouts", "36", "--rounds", "32,4"], "is fewer than vllm_pacore takes"),
        (["--rollouts", "7", "--arms", "vllm_rse"], "or change --attempts"),
        (["--rounds", "4,8"], "argument --rounds: must be"),
        (["--arms", "vllm,vllm_trt", "--attempts", "2"], "--attempts is for none of the chosen"),
        (["--rollouts_per_step", "2"], "--aggregate 4 is more than the population has"),
        (["--arms", "vllm,refine"], "must name some of vllm_parallel, vllm, vllm_refine"),
        (["--reflex_size", "5"], "--rollouts instead of --reflex_size"),
        (["--stop_when_stable", "3"], "leave it out for vllm_parallel"),
    ],
)
def test_a_mistake_is_one_sentence(flags: list[str], words: str, tmp_path: Path) -> None:
    refused(run_study("study_oss", flags, tmp_path, None), words)
    assert not (tmp_path / "results").exists()


def test_a_dry_run_says_what_a_study_takes(tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", QUESTIONS[:2])
    ran = run_study("study_oss", ["--dry_run", "--num_seeds", "2"], tmp_path, None)
    assert ran.code == 0
    assert "vllm_rsa_131072_/model: 4 steps, 2 problems, 2 seeds, 256 rollouts" in ran.out
    assert "together: 2,528 rollouts of an assumed 20,000 tokens\n" in ran.out
    assert "time: 51 million tokens at 5,000 tokens/s in total: 2 h 49 min (" in ran.out
    assert "size: 51 million tokens, 0.23 GB of results\n" in ran.out
    assert not (tmp_path / "results").exists()
    # No rollout takes more than the window, whatever is assumed.
    flags = ["--dry_run", "--rollouts", "16", "--max_new_tokens", "8000", "--arms", "vllm"]
    for more, tokens in (([], "8,000"), (["--assumed_tokens", "500"], "500")):
        ran = run_study("study_oss", [*flags, *more], tmp_path, None)
        assert f"together: 32 rollouts of an assumed {tokens} tokens" in ran.out
