"""export_results.py --to inspect: the scores are compare_results.py's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kflow.analysis.comparison import right
from kflow.analysis.figures import course
from kflow.analysis.runs import read
from results_on_disk import ours, write_manifest, write_step
from test_export import exported, samples


@pytest.mark.parametrize("ahead", [True, False])
def test_a_log_scores_what_the_comparison_counts(tmp_path: Path, ahead: bool) -> None:
    """The vote of parallel thinking; else the step's own answer, but after a reflection the
    verdict. An attempt beyond the token budget is no part of it."""
    folder = tmp_path / "vllm_1000_x" / "model"
    vote = {"verdict": 7, "verdict_correct": True}
    write_step(folder, 0, [ours(0, 7, 7), ours(1, 7, 9)])
    reflection = ours(1, 7, None, asks_answer=False, verdict=7, verdict_correct=True)
    write_step(folder, 1, [ours(0, 7, 3, **vote), reflection])
    late = [ours(0, 7, 5, counted=False, **vote), ours(1, 7, 8, counted=False)]
    write_step(folder, 2, late)
    write_manifest(folder, {}, experiment={"ahead": ahead})
    by_key = samples(next(exported("inspect", tmp_path / "out", folder).iterdir()))
    first = {"value": "C", "answer": "7"} if ahead else {"value": "I", "answer": "3"}
    assert by_key["aime-0_epoch_1.json"]["scores"]["answer"] == first
    second = by_key["aime-1_epoch_1.json"]
    assert second["scores"]["answer"] == {"value": "C", "answer": "7"}
    assert second["metadata"]["verdict"] == "7"
    assert second["output"]["choices"][0]["message"]["content"] == r"[Answer]: \boxed{9}"
    run = course(read(folder, "x"))
    scored = [sample["scores"]["answer"]["value"] == "C" for sample in by_key.values()]
    assert right(run, len(run.run.steps) - 1) == scored
