"""compare_results.py --regrade: where the records and their texts disagree on the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kflow.answers import worker
from kflow.results.replies import split
from results_on_disk import earlier, ours, published, wide, write_manifest, write_step
from test_compare_results import EXAMPLE, GOLDS, compare

RULE = {"fields": {"rule": {"first": True, "fallback": False}}}


def regraded(capsys: pytest.CaptureFixture[str], folder: Path) -> Any:
    return json.loads(compare(capsys, folder, "--regrade", "--json"))["regraded"][0]


def test_grading_again_finds_what_differs_and_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four replies: sound; another number on file than in the text; an answer in the thinking
    alone; one that only math-verify reads. And a failed one, which has no text, and one that was
    asked for no answer."""
    texts = [
        r"x</think>\boxed{1}",
        r"x</think>\boxed{2}",
        r"\boxed{3}</think>Four, I think.",
        r"x</think>\boxed{\frac{8}{2}}",
    ]
    records = [
        ours(n, gold, answer, pred_solution=text)
        for n, (gold, answer, text) in enumerate(zip(GOLDS, [1, 9, 3, None], texts, strict=True))
    ]
    failed = ours(4, 5, None, failure="refused", pred_solution="")
    unasked = ours(5, 5, None, asks_answer=False, pred_solution=r"\boxed{5}")
    write_step(tmp_path, 0, [*records, failed, unasked])
    write_manifest(tmp_path, {}, experiment=RULE)
    report = regraded(capsys, tmp_path)
    assert (report["rule"], report["rule_from"]) == ({"first": True, "fallback": False}, "run.json")
    assert (report["checked"], report["failed"]) == (4, 1)
    each = {graded["problem"]: graded for graded in report["disagreements"]}
    assert {problem: graded["differs"] for problem, graded in each.items()} == {
        "aime-1": ["by_rule", "by_visible", "by_math_verify"],
        "aime-2": ["by_visible", "by_math_verify"],
        "aime-3": ["by_math_verify"],
    }
    assert (each["aime-1"]["by_rule"], each["aime-2"]["by_visible"]) == (2, None)
    assert report["differing"] == {"by_rule": 1, "by_visible": 2, "by_math_verify": 3}
    assert report["accuracies"] == [
        {"step": 0, "total": 4, "right": 2, "would_be": {"by_rule": 3, "by_math_verify": 3}}
    ]
    table = compare(capsys, tmp_path, "--regrade")
    assert "by the rule that run.json gives: the first box. Differ from the record: 1 by" in table
    assert (
        "step 0: 2/4 50.0 % right on record, 3/4 75.0 % by its own rule, 3/4 75.0 % by math-verify"
    ) in table
    assert (
        "problem aime-2, seed 0, step 0, slot 0: on record: 3, gold 3; visible answer: no" in table
    )


@pytest.mark.parametrize(
    "box",
    [
        *(
            r"336^\circ",
            "336°",
            r"336\,",
            r"\,336",
            r"336\text{ cm}",
            r"\$336",
            r"m+n=336",
            "336.0",
        ),
        *(r"\textbf{336}", "**336**", r"\frac{672}{2}", "$336$", "336\u2009"),
    ],
)
def test_grading_finds_an_integer_however_it_is_written(
    box: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ours(0, 336, None, pred_solution=rf"x</think>\boxed{{{box}}}", correct=False)
    write_step(tmp_path, 0, [row])
    write_manifest(tmp_path, {}, experiment=RULE)
    (differing,) = regraded(capsys, tmp_path)["disagreements"]
    assert differing["right"]["by_math_verify"] is True


def test_grading_looks_at_every_slot_and_at_no_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = [ours(0, 1, 1, pred_solution=r"\boxed{1}"), ours(0, 1, 2, pred_solution=r"\boxed{3}")]
    write_step(tmp_path, 0, [wide(slots, 1)])
    write_step(tmp_path, 1, [ours(0, 1, 2, repeats_step=0)])
    write_manifest(tmp_path, {}, experiment=RULE)
    report = regraded(capsys, tmp_path)
    assert report["checked"] == 2
    assert [(each["slot"], each["by_rule"]) for each in report["disagreements"]] == [(1, 3)]
    assert report["accuracies"] == []


def test_what_was_given_up_is_not_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gold against x was given up in step 0: x is wrong on record, and so is y, which is the same
    as x. In step 1 of another chain nothing was given up."""
    first = ours(0, "gold", "x", pred_solution=r"\boxed{x}", undecided=(("gold", "x"),))
    second = ours(0, "gold", "x", pred_solution=r"\boxed{y}")
    other = ours(1, "gold", "x", correct=True, pred_solution=r"\boxed{x}")
    write_step(tmp_path, 0, [first, other])
    write_step(tmp_path, 1, [second, other])
    write_manifest(tmp_path, {}, experiment=RULE, answers="expression")
    compared = []

    def same(gold: str, other: str) -> bool:
        compared.append((gold, other))
        return True

    monkeypatch.setattr(worker, "same", same)
    report = regraded(capsys, tmp_path)
    assert report["checked"] == 4
    assert report["differing"] == {"by_rule": 0, "by_visible": 0, "by_math_verify": 1}
    (differing,) = report["disagreements"]  # y, as it stands, was never given up
    assert (differing["step"], differing["differs"]) == (1, ["by_math_verify"])
    # By rule and from the visible answer, in the other chain; y as x, both ways; y by math-verify.
    assert sorted(compared) == [("gold", "x")] * 6 + [("gold", "y")] + [("x", "y")] * 2


def test_grading_a_carried_text_reads_the_new_part_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = r"before \boxed{5} "
    row = ours(0, 1, 1, pred_solution=text + r"now \boxed{1}", reply_start=len(text))
    write_step(tmp_path, 0, [row])
    write_manifest(tmp_path, {}, experiment=RULE)
    assert regraded(capsys, tmp_path)["disagreements"] == []


@pytest.mark.parametrize("folder", ["vllm_markov_64_", "buffer_half_64"])
def test_published_replies_behind_a_carried_text_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    """The first box of step 1's text is the one that step 0 wrote."""
    first, then = r"so \boxed{5} ", r"no, \boxed{1}"
    write_step(tmp_path / folder / "m", 0, [published(0, 1, 5, pred_solution=first)])
    write_step(tmp_path / folder / "m", 1, [published(0, 1, 1, pred_solution=first + then)])
    report = regraded(capsys, tmp_path)
    assert (report["checked"], report["unmarked"]) == (1, 1)
    assert (report["disagreements"], report["accuracies"]) == ([], [])
    assert (
        "Not checked: 1 rollout saved together with the text carried over; the folder does not "
        "record where the reply begins."
    ) in compare(capsys, tmp_path, "--regrade")


def test_carried_texts_with_their_length_on_record_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = r"so \boxed{5} "
    for step, record in enumerate([earlier, ours]):
        row = record(0, 1, 1, pred_solution=text + r"no, \boxed{1}", reply_start=len(text))
        write_step(tmp_path / str(step) / "vllm_markov_64_" / "m", 1, [row])
        assert regraded(capsys, tmp_path / str(step))["checked"] == 1


@pytest.mark.parametrize(
    ("family", "mark"), [("qwen", "</think>"), ("gpt_oss", "assistantfinal"), ("x", "</think>")]
)
def test_the_visible_answer_is_what_follows_the_familys_last_mark(family: str, mark: str) -> None:
    other = "assistantfinal" if mark == "</think>" else "</think>"
    text = rf"a{mark}b{mark}{other}\boxed{{3}}"
    record = ours(0, 3, 3, family=family, pred_solution="carried" + text, reply_start=7)
    assert split(record) == (f"a{mark}b{mark}", rf"{other}\boxed{{3}}")
    assert split(ours(0, 3, 3, family=family, pred_solution="3")) == ("", "3")


@pytest.mark.parametrize(
    ("folder", "harmony", "rule"),
    [
        ("vllm_64_", False, "the last box, else the last answer anywhere"),
        ("vllm_64_", True, "the first box. "),
        ("vllm_posK_64_", True, "the last box, else the last answer anywhere"),
        ("vllm_regen_64_", True, "the first box, else the last answer anywhere"),
        ("vllm_regen_64_", False, "the last box, else the last answer anywhere"),
        ("vllm_markov_64_", False, "the first box, else the last answer anywhere"),
        ("buffer_half_64", True, "the first box, else the last answer anywhere"),
    ],
)
def test_without_a_run_json_the_rule_is_the_prefixs_and_familys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str, harmony: bool, rule: str
) -> None:
    question = "<|start|>system" if harmony else "?"
    record = published(0, 1, 1, pred_solution=r"\boxed{1}", question=question)
    write_step(tmp_path / folder / "m", 0, [record])
    assert f": {rule}" in compare(capsys, tmp_path, "--regrade")


def test_the_committed_run_is_graded_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(compare(capsys, EXAMPLE, "--regrade", "--json"))["regraded"]
    assert [each["differing"]["by_rule"] for each in report] == [0] * len(report)
    assert all(each["checked"] >= 72 for each in report)
