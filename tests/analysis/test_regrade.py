"""compare_results.py --regrade: where math-verify disagrees with the records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.programs import Program
from helpers.results_on_disk import ours, published, wide, write_manifest, write_step
from helpers.small_runs import GOLDS
from kflow.answers import worker


@pytest.fixture
def regraded(compare: Program) -> Callable[[Path], Any]:
    return lambda folder: compare.json(folder, "--regrade")["regraded"][0]


def test_grading_again_finds_what_differs(tmp_path: Path, compare: Program, regraded: Any) -> None:
    """Five replies: sound; another number on file than in the text; an answer in the thinking alone
    and one in words, whose record is judged; one that only math-verify reads. And a failed one,
    which has no text, and one that was asked for no answer."""
    texts = [
        r"x</think>\boxed{1}",
        r"x</think>\boxed{2}",
        r"\boxed{3}</think>Four, I think.",
        r"x</think>\boxed{\frac{8}{2}}",
        r"x</think>It is 5.",
    ]
    answers = zip([*GOLDS, 5], [1, 9, 3, None, 5], texts, strict=True)
    records = [ours(n, g, answer, pred_solution=t) for n, (g, answer, t) in enumerate(answers)]
    failed = ours(5, 5, None, failure="refused", pred_solution="")
    unasked = ours(6, 5, None, asks_answer=False, pred_solution=r"\boxed{5}")
    write_step(tmp_path, 0, [*records, failed, unasked])
    report = regraded(tmp_path)
    assert (report["checked"], report["failed"], report["unmarked"]) == (5, 1, 0)
    found = {each["problem"]: each for each in report["disagreements"]}
    assert {problem: (each["box"], each["correct"]) for problem, each in found.items()} == {
        "aime-1": ("2", False),
        "aime-3": (r"\frac{8}{2}", False),
    }
    assert (found["aime-1"]["predicted"], found["aime-1"]["gold"]) == (9, "2")
    assert report["steps"] == [{"step": 0, "total": 5, "right": 3, "by_math_verify": 5}]
    table = compare(tmp_path, "--regrade")
    assert "5 replies graded again" in table
    assert "step 0: 3/5 60.0 % right on record, 5/5 100.0 % by math-verify" in table
    assert "problem aime-1, seed 0, step 0, slot 0: wrong on record with 9" in table


def test_grading_looks_at_every_slot_and_at_no_copy(tmp_path: Path, regraded: Any) -> None:
    slots = [ours(0, 1, 1, pred_solution=r"\boxed{1}"), ours(0, 1, 2, pred_solution=r"\boxed{1}")]
    write_step(tmp_path, 0, [wide(slots, 1)])
    write_step(tmp_path, 1, [ours(0, 1, 2, repeats_step=0)])
    report = regraded(tmp_path)
    assert report["checked"] == 2
    assert [(each["step"], each["slot"]) for each in report["disagreements"]] == [(0, 1)]


def test_what_was_given_up_is_not_tried_again(
    tmp_path: Path, regraded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gold against x was given up in step 0 of the first chain alone."""
    first = ours(0, "gold", "x", pred_solution=r"\boxed{x}", undecided=(("gold", "x"),))
    second = ours(0, "gold", "x", pred_solution=r"\boxed{y}")
    other = ours(1, "gold", "x", correct=True, pred_solution=r"\boxed{x}")
    write_step(tmp_path, 0, [first, other])
    write_step(tmp_path, 1, [second, other])
    write_manifest(tmp_path, {}, answers="expression")
    compared = []

    def same(gold: str, other: str) -> bool:
        compared.append((gold, other))
        return True

    monkeypatch.setattr(worker, "same", same)
    disagreements = regraded(tmp_path)["disagreements"]
    assert [(each["step"], each["box"]) for each in disagreements] == [(1, "y")]
    assert sorted(compared) == [("gold", "x")] * 2 + [("gold", "y")]


def test_grading_a_carried_text_reads_the_new_part_only(tmp_path: Path, regraded: Any) -> None:
    text = r"\boxed{5} before "
    row = ours(0, 1, 1, pred_solution=text + "now 1", reply_start=len(text))
    write_step(tmp_path / "vllm_markov_64_" / "m", 1, [row])
    report = regraded(tmp_path)
    assert (report["checked"], report["unmarked"], report["disagreements"]) == (1, 0, [])


@pytest.mark.parametrize("folder", ["vllm_markov_64_", "buffer_half_64"])
def test_published_replies_behind_a_carried_text_are_left_out(
    tmp_path: Path, compare: Program, regraded: Any, folder: str
) -> None:
    """The box of step 1's text is the one that step 0 wrote."""
    first, then = r"so \boxed{5} ", "no, 1"
    write_step(tmp_path / folder / "m", 0, [published(0, 1, 5, pred_solution=first)])
    write_step(tmp_path / folder / "m", 1, [published(0, 1, 1, pred_solution=first + then)])
    report = regraded(tmp_path)
    assert (report["checked"], report["unmarked"], report["disagreements"]) == (1, 1, [])
    assert "Not checked: 1 rollout" in compare(tmp_path, "--regrade")
