"""What a comparison says in words: the same sentences for the terminal and the page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.results_on_disk import ours, write_manifest, write_run, write_step
from helpers.small_runs import parallel
from kflow.analysis.comparison import Comparison, compare_runs
from kflow.analysis.conclusion import join, spell_known, spell_left_out, spell_wordings, sum_up
from kflow.analysis.run_statistics import RunStatistics
from kflow.results.known_scores import Agreement
from kflow.results.runs import read_all

GOLDS = list(range(1, 13))


def compared(parent: Path, **rights: list[int]) -> Comparison:
    """Runs of twelve problems, so many right at each step, the first one the baseline."""
    for name, steps in rights.items():
        answers = [[*GOLDS[:right], *[0] * (12 - right)] for right in steps]
        write_run(parent / name, answers, GOLDS)
    return compare_runs(read_all([str(parent / name) for name in rights]))


def said(comparison: Comparison) -> list[str]:
    return sum_up(comparison.runs, comparison)


@pytest.fixture
def run(tmp_path: Path) -> RunStatistics:
    return compared(tmp_path, only=[3]).runs[0]


def test_a_run_that_differs_is_named_with_its_figures(tmp_path: Path) -> None:
    first, power = said(compared(tmp_path, a=[1], b=[12], c=[2]))
    better, no_difference = first.split("; ")
    assert better.startswith("At 1 rollout a problem, b (100.0 % right, +91.7 points [")
    assert better.endswith(", p 0.002) is better than a (8.3 % right)")
    assert no_difference.startswith("no difference from a is shown for c: its answers differ on 1")
    assert first.endswith("needs at least 6, all in one direction.")
    assert "points would be shown four times in five" in power


def test_runs_that_differ_the_same_way_share_a_sentence(tmp_path: Path) -> None:
    first, *_ = said(compared(tmp_path, a=[12], b=[1], c=[2]))
    runs = r"b \(8\.3 % right, [^()]*\) and c \(16\.7 % right, [^()]*\)"
    told = rf"At 1 rollout a problem, {runs} are worse than a \(100\.0 % right\)\."
    assert re.fullmatch(told, first)


def test_what_p_asks_of_several_runs_is_more(tmp_path: Path) -> None:
    """And the number that would be shown holds for all of them: of the one with problems that turn
    both ways."""
    comparison = compared(tmp_path, a=[6], b=[1], c=[3])
    first, power = said(comparison)
    assert "for b and c: their answers differ on 3 to 5" in first
    assert "needs at least 7, all in one direction" in first
    shown = [versus.answer.detectable for versus in comparison.against[0]]
    assert None not in shown
    assert f"A difference of {100 * max(filter(None, shown)):.1f} points" in power


def test_a_single_run_is_told_by_its_first_and_last_step(tmp_path: Path) -> None:
    comparison = compared(tmp_path, only=[3, 1, 9])
    assert comparison.moved is not None
    assert (comparison.moved.first, comparison.moved.last) == (0, 2)
    move, _ = said(comparison)
    assert "from 25.0 % at step 0 to 75.0 % at step 2: +50.0 points [+" in move
    assert said(compared(tmp_path / "short", one=[3])) == []


def test_prompts_that_change_accuracy_by_themselves_are_told(tmp_path: Path) -> None:
    alone = parallel(tmp_path / "alone", [GOLDS, GOLDS], GOLDS)
    for name, right in (("lower", 4), ("near", 11)):
        answers = [*GOLDS[:right], *[0] * (12 - right)]
        rows = [ours(n, GOLDS[n], answer, question=name) for n, answer in enumerate(answers)]
        write_step(tmp_path / name, 0, rows)
    runs = [alone, *(read_all([str(tmp_path / name)])[0] for name in ("lower", "near"))]
    (told,) = [each for each in said(compare_runs(runs)) if each.startswith("Before anything")]
    assert (
        "differs from parallel thinking's attempts with lower (33.3 % against 100.0 % right, "
        in told
    )
    assert "near (" not in told
    assert "33.3 % against 100.0 % right, -66.7 points" in told


def test_few_problems_would_hardly_show_anything(tmp_path: Path) -> None:
    for name in "ab":
        write_run(tmp_path / name, [[1, 9]], [1, 2])
    _, power = said(compare_runs(read_all([str(tmp_path)])))
    assert power.startswith("2 problems would hardly show any difference")


def test_a_run_without_a_right_answer_is_said_to_tell_nothing(tmp_path: Path) -> None:
    (alone,) = said(compared(tmp_path / "alone", a=[0, 0]))
    assert alone.startswith("a got none of 12 problems right, so that")
    (both,) = said(compared(tmp_path / "both", a=[0], b=[0]))
    assert both.startswith("a and b got none of 12 problems right")
    first, *_, last = said(compared(tmp_path / "mixed", a=[6], b=[0]))
    assert first.startswith("At 1 rollout a problem")
    assert last.startswith("b got none of 12 problems right")
    rows = [ours(0, 1, None, finish_reason="length"), ours(1, 2, None), ours(2, 3, 9)]
    write_step(tmp_path / "c", 0, [*rows, ours(3, 4, 9)])
    (lacking,) = said(compare_runs(read_all([str(tmp_path / "c")])))
    assert "Of c's replies 50.0 % have no answer and 25.0 % are truncated." in lacking


@pytest.mark.parametrize(
    ("inside", "sentences"),
    [
        ((True, True), ["is inside the 95 % interval of the first attempts of a and b."]),
        ((True, False), ["b: the model's known score", "first attempts of a."]),
        ((False, False), ["a: the model's", "b: the model's"]),
    ],
)
def test_known_scores_are_told_once_where_they_agree(
    inside: tuple[bool, bool], sentences: list[str], run: RunStatistics
) -> None:
    runs = [
        replace(run, label=label, known_score=Agreement(0.8, 0.7, 0.6, 0.9 * each + 0.1))
        for label, each in zip("ab", inside, strict=True)
    ]
    said = spell_known(runs)
    assert len(said) == len(sentences)
    assert all(words in sentence for words, sentence in zip(sentences, said, strict=True))


def test_known_scores_are_those_of_each_run(run: RunStatistics) -> None:
    """As of two efforts of one model."""
    runs = [
        replace(run, label=label, known_score=Agreement(known, known, 0.0, 1.0))
        for label, known in (("a", 0.9), ("b", 0.5), ("c", 0.9))
    ]
    high, low = spell_known(runs)
    assert ("90.0 %" in high, high.endswith("first attempts of a and c.")) == (True, True)
    assert ("50.0 %" in low, low.endswith("first attempts of b.")) == (True, True)


def test_power_is_not_promised_to_runs_that_have_none(tmp_path: Path) -> None:
    """Six of twelve problems gained and six lost: no difference would be shown."""
    half = [*GOLDS[:6], *[0] * 6]
    for name, answers in (("base", half), ("A", [*[0] * 6, *GOLDS[6:]]), ("B", half)):
        write_run(tmp_path / name, [answers], GOLDS)
    runs = read_all([str(tmp_path / name) for name in ("base", "A", "B")])
    _, power = said(compare_runs(runs))
    assert "four times in five for 1 of 2 runs, and none for the rest;" in power


def test_prompts_are_told_where_they_are_not_the_same(run: RunStatistics) -> None:
    own, theirs = replace(run, wording="own wording"), replace(run, wording="published (sha256 a)")
    again = replace(run, wording="published (sha256 b)")
    assert spell_wordings([theirs, again]) == spell_wordings([run, run]) == []
    (sentence,) = spell_wordings([own, theirs])
    assert "only own wording; only published (sha256 a)" in sentence
    assert spell_left_out([run]) == []  # nothing is, where it is not on record


def test_names_are_joined() -> None:
    assert [join(list("abc"[:n])) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


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
