"""What a comparison says in words: the same sentences for the terminal and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.results_on_disk import ours, write_manifest, write_run, write_step
from kflow.analysis.comparison import Comparison, compare_runs
from kflow.analysis.run_statistics import RunStatistics
from kflow.analysis.verdict import join, spell_known, spell_left_out, spell_wordings, sum_up
from kflow.results.known_scores import Agreement
from kflow.results.runs import read_all

GOLDS = list(range(1, 13))


def answers(right: int) -> list[int | None]:
    """Of twelve problems, the first so many are right."""
    return [*GOLDS[:right], *[0] * (12 - right)]


def compared(parent: Path, **rights: list[int]) -> Comparison:
    """Runs of so many right at each step, the first one the baseline."""
    folders = [
        write_run(parent / name, [answers(right) for right in steps], GOLDS)
        for name, steps in rights.items()
    ]
    return compare_runs(read_all(list(map(str, folders))))


def said(comparison: Comparison) -> list[str]:
    return sum_up(comparison.runs, comparison)


def one(tmp_path: Path) -> RunStatistics:
    return compared(tmp_path, only=[3]).runs[0]


def test_a_run_that_differs_is_named_with_its_figures(tmp_path: Path) -> None:
    verdict, power = said(compared(tmp_path, a=[1], b=[12], c=[2]))
    assert verdict.startswith(
        "At 1 rollout a problem, b is better than a: 100.0 % against 8.3 % right, +91.7 points ["
    )
    assert "p 0.002. No difference from a is shown for c: its answers differ on 1 of 12" in verdict
    assert verdict.endswith("needs at least 6, all in one direction.")
    assert "points would be shown four times in five" in power


def test_what_p_asks_of_several_runs_is_more(tmp_path: Path) -> None:
    verdict, _ = said(compared(tmp_path, a=[6], b=[1], c=[3]))
    assert "no difference from a is shown for b and c: their answers differ on 3 to 5" in verdict
    assert "needs at least 7, all in one direction" in verdict


def test_the_number_that_would_be_shown_holds_for_all_runs(tmp_path: Path) -> None:
    """Of two runs the one with problems that turn both ways would show less."""
    comparison = compared(tmp_path, a=[6], b=[1], c=[3])
    (against, _) = comparison.against
    shown = [versus.answer.detectable for versus in against]
    _, power = said(comparison)
    assert None not in shown
    assert f"A difference of {100 * max(filter(None, shown)):.1f} points" in power


def test_a_single_run_is_told_by_its_first_and_last_step(tmp_path: Path) -> None:
    comparison = compared(tmp_path, only=[3, 1, 9])
    assert comparison.moved is not None
    assert (comparison.moved.first, comparison.moved.last) == (0, 2)
    move, _ = said(comparison)
    assert move.startswith(
        "Own accuracy goes from 25.0 % at step 0 to 75.0 % at step 2: +50.0 points [+"
    )
    assert said(compared(tmp_path / "short", one=[3])) == []


def test_few_problems_would_hardly_show_anything(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, [[1, 9]], [1, 2]) for name in "ab"]
    comparison = compare_runs(read_all(list(map(str, folders))))
    assert said(comparison)[1].startswith("2 problems would hardly show any difference")


def test_a_run_without_a_right_answer_is_said_to_tell_nothing(tmp_path: Path) -> None:
    alone = said(compared(tmp_path / "alone", a=[0, 0]))
    assert len(alone) == 1
    assert alone[0].startswith("a got none of 12 problems right, so that")
    (both,) = said(compared(tmp_path / "both", a=[0], b=[0]))
    assert both.startswith("a and b got none of 12 problems right")
    mixed = said(compared(tmp_path / "mixed", a=[6], b=[0]))
    assert mixed[0].startswith("At 1 rollout a problem")
    assert mixed[-1].startswith("b got none of 12 problems right")


def test_it_says_what_its_replies_lack(tmp_path: Path) -> None:
    rows: list[Any] = [ours(0, 1, None, finish_reason="length"), ours(1, 2, None), ours(2, 3, 9)]
    write_step(tmp_path / "a", 0, [*rows, ours(3, 4, 9)])
    (sentence,) = said(compare_runs(read_all([str(tmp_path / "a")])))
    assert "Of a's replies 50.0 % have no answer and 25.0 % are truncated." in sentence


@pytest.mark.parametrize(
    ("inside", "sentences"),
    [
        ((True, True), ["is inside the 95 % interval of the first attempts of a and b."]),
        ((True, False), ["b: the model's known score", "first attempts of a."]),
        ((False, False), ["a: the model's", "b: the model's"]),
    ],
)
def test_known_scores_are_told_once_where_they_agree(
    inside: tuple[bool, bool], sentences: list[str], tmp_path: Path
) -> None:
    runs = [
        replace(one(tmp_path), label=label, known_score=Agreement(0.8, 0.7, 0.6, 0.9 * each + 0.1))
        for label, each in zip("ab", inside, strict=True)
    ]
    said = spell_known(runs)
    assert len(said) == len(sentences)
    assert all(words in sentence for words, sentence in zip(sentences, said, strict=True))


def test_prompts_are_told_where_they_are_not_the_same(tmp_path: Path) -> None:
    run = one(tmp_path)
    own, theirs = replace(run, wording="own wording"), replace(run, wording="published (sha256 a)")
    again = replace(run, wording="published (sha256 b)")
    assert spell_wordings([theirs, again]) == spell_wordings([run, run]) == []
    assert spell_wordings([own, theirs]) == [
        "Prompts: only own wording; only published (sha256 a)."
    ]


def test_nothing_was_left_out_where_it_is_not_on_record(tmp_path: Path) -> None:
    assert spell_left_out([one(tmp_path)]) == []


def test_names_are_joined() -> None:
    assert [join(list("abc"[:n])) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert join(list("abcd"), 3) == "a, b, c and 1 more"
    assert join(list("abcde"), 3) == "a, b, c and 2 more"


def test_labels_are_by_method_and_all_different(tmp_path: Path) -> None:
    names = {
        "vllm_64_x/m": "mistakes x",
        "vllm_64_y/m": "mistakes y",
        "vllm_parallel_64_x/m": "parallel",
        "vllm_refine_64_a-name-that-is-long/m": "refine 1",
        "vllm_refine_64_another-that-is-long/m": "refine 2",
        "other/m": "other",
    }
    for name in names:
        write_run(tmp_path / name, [[1]], [1])
    write_manifest(tmp_path / "other/m", {}, experiment={"prefix": 7})
    labels = {run.folder.relative_to(tmp_path): run.label for run in read_all([str(tmp_path)])}
    assert {str(path): label for path, label in labels.items()} == names
