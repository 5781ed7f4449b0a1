"""What is known of the published models, and whether first attempts agree with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.fakes import ScriptedEngine
from helpers.pages import write_page
from helpers.results_on_disk import ours, wide, write_manifest, write_run, write_step
from helpers.scripted import run_script
from kflow.analysis import compare
from kflow.analysis.run_statistics import build_timeline, compare_known
from kflow.analysis.statistics import clustered
from kflow.problems.known_datasets import KNOWN
from kflow.results import known_scores
from kflow.results.known_scores import (
    AIME_2024,
    AIME_2025,
    GPQA,
    GPT_OSS,
    HMMT,
    QWEN,
    SCORES,
    SIZES,
    Agreement,
    known_score,
    wilson,
)
from kflow.results.runs import read

METHOD = Path(__file__).parents[2] / "docs" / "method.md"


@pytest.mark.parametrize(
    ("model", "effort", "dataset", "problems", "score"),
    [
        ("openai/gpt-oss-120b", "high", "yentinglin/aime_2025", 30, 0.925),
        ("/models/gpt-oss-120b", "low", "Idavidrein/gpqa@abc", 198, 0.671),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507", None, "MathArena/hmmt_feb_2025", 30, 0.839),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507", None, "HuggingFaceH4/aime_2024", 30, None),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8", None, "yentinglin/aime_2025", 30, None),
        ("openai/gpt-oss-120b", None, "yentinglin/aime_2025", 30, None),
        ("openai/gpt-oss-120b", "high", "MathArena/aime_2026", 30, None),
        # a part of the set
        ("openai/gpt-oss-120b", "high", "yentinglin/aime_2025", 29, None),
    ],
)
def test_a_score_is_known_of_whole_sets_and_of_these_models(
    model: str, effort: str | None, dataset: str, problems: int, score: float | None
) -> None:
    found = known_score(model, effort, dataset, problems)
    assert found == (None if score is None else pytest.approx(score))


def test_the_scores_are_those_of_the_specification() -> None:
    (line,) = (each for each in METHOD.read_text().splitlines() if "**Known scores" in each)
    names = {"AIME 2024": AIME_2024, "AIME 2025": AIME_2025, "GPQA diamond": GPQA}
    for name, dataset in names.items():
        by_effort = [SCORES[GPT_OSS, effort][dataset] for effort in ("low", "medium", "high")]
        assert f"{name} {' / '.join(map(str, by_effort))}" in line
    qwen = SCORES[QWEN, None]
    assert (
        f"AIME 2025 {qwen[AIME_2025]}, HMMT February 2025 {qwen[HMMT]}, GPQA {qwen[GPQA]}." in line
    )
    assert {name: KNOWN[name].rows for name in SIZES} == SIZES


def compared(
    folder: Path, *seeds: list[list[int]], ahead: bool = False, model: str = "gpt-oss-120b"
) -> Agreement | None:
    """Of runs on 30 problems with the answer 1; each step by which of them were answered so."""
    for seed, steps in enumerate(seeds):
        place = folder / f"seed_{seed}" if len(seeds) > 1 else folder
        write_run(place, [step + [0] * (30 - len(step)) for step in steps], [1] * 30)
    write_about(folder, ahead, model)
    return compare_known(build_timeline(read(folder, "a")))


def write_about(folder: Path, ahead: bool = False, model: str = "gpt-oss-120b") -> None:
    experiment = {"prefix": "vllm", "reasoning_effort": "high", "ahead": ahead}
    source = {"source": {"dataset": AIME_2025}}
    write_manifest(folder, {}, experiment=experiment, model={"name": model}, problems=source)


def test_one_seed_has_wilsons_interval_of_step_0_or_of_all_steps_asked_ahead(
    tmp_path: Path,
) -> None:
    found = compared(tmp_path, [[1] * 28, [1] * 3])
    assert found == Agreement(0.925, 28 / 30, *wilson(28, 30))
    assert "is inside" in found.sentence
    assert known_scores.REASONS not in found.sentence
    ahead = compared(tmp_path, [[1] * 28, [1] * 2], ahead=True)
    assert ahead is not None
    assert ahead.measured == pytest.approx(0.5)


def test_several_seeds_are_clustered_over_problems(tmp_path: Path) -> None:
    found = compared(tmp_path, [[1] * 20], [[1] * 30])
    assert found is not None
    interval = clustered([1.0] * 20 + [0.5] * 10).interval
    assert (found.low, found.high) == pytest.approx(interval)
    assert found.measured == pytest.approx(50 / 60)
    assert not found.inside


def test_a_wide_first_step_counts_its_rollouts_and_not_their_vote(tmp_path: Path) -> None:
    records = [wide([ours(n, 1, 1), ours(n, 1, 1), ours(n, 1, 0)], 1) for n in range(30)]
    write_step(tmp_path, 0, records)
    write_about(tmp_path)
    found = compare_known(build_timeline(read(tmp_path, "a")))
    assert found is not None
    assert found.measured == pytest.approx(2 / 3)


def test_of_other_models_and_without_run_json_nothing_is_said(tmp_path: Path) -> None:
    assert compared(tmp_path / "other", [[1] * 30], model="gpt-oss-20b") is None
    write_run(tmp_path / "gpt-oss-120b", [[1] * 30], [1] * 30)
    assert compare_known(build_timeline(read(tmp_path / "gpt-oss-120b", "a"))) is None


def test_tables_json_and_page_say_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    compared(tmp_path / "a" / "m", [[1] * 5])
    compared(tmp_path / "b" / "m", [[1] * 30], model="other")
    folders = [str(tmp_path / name / "m") for name in "ab"]
    compare.main(None, folders)
    out = capsys.readouterr().out
    assert out.count("known score in single attempts, 92.5 %, is outside") == 1
    assert out.count(known_scores.REASONS) == 1
    compare.main(None, [*folders, "--json"])
    known, other = (run["known_score"] for run in json.loads(capsys.readouterr().out)["runs"])
    assert (known["known"], known["measured"], other) == (0.925, pytest.approx(1 / 6), None)
    for name, said in (("a", 1), ("b", 0)):
        text = write_page(tmp_path / name, at=tmp_path / f"{name}.html").text
        assert text.count(known_scores.REASONS) == said


@pytest.mark.parametrize(
    ("script", "known", "said"),
    [
        ("vllm_kflow_oss", True, 1),
        ("vllm_kflow_oss", False, 0),
        ("vllm_oss_rsa", True, 1),
        ("vllm_oss_trt", True, 0),  # step 0 asks for strategies
    ],
)
def test_the_end_of_step_0_says_it_once_of_its_rollouts(
    script: str, known: bool, said: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = str(tmp_path / "problems.jsonl")
    monkeypatch.setitem(SCORES, ("model" if known else "other", "high"), {problems: 50.0})
    monkeypatch.setitem(SIZES, problems, 3)
    stopped = run_script(script, ["--reflex_size", "2"], tmp_path, ScriptedEngine(stop_after=2))
    ran = run_script(script, ["--reflex_size", "2"], tmp_path, ScriptedEngine(order=1))
    assert (stopped.code, ran.code) == (1, 0)
    lines = [line for line in (stopped.err + ran.err).splitlines() if "known score" in line]
    (path,) = tmp_path.rglob("predictions_0.json")
    _, *records = json.loads(path.read_bytes())
    attempts = [[each["correct"] for each in r.get("rollouts", [r])] for r in records]
    measured = 100 * sum(sum(each) / len(each) for each in attempts) / len(attempts)
    assert len(lines) == said
    assert all(line.startswith("step 0: ") for line in lines)
    assert all(f" the first attempts here, {measured:.1f} % [" in line for line in lines)
