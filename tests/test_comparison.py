"""What is said of runs, from runs small enough to count by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kflow.analysis.comparison import align, describe, versus
from kflow.analysis.runs import Run, read
from kflow.analysis.statistics import clustered, newcombe, t_interval, wilson
from kflow.types import UserError
from results_on_disk import ours, published, write_run, write_step

GOLDS = [1, 2, 3, 4]
NONE = None


def run_of(
    folder: Path, *seeds: Sequence[Sequence[int | None]], golds: Sequence[int] = GOLDS
) -> Run:
    """A run from [seed][step][problem] answers."""
    if len(seeds) == 1:
        write_run(folder, seeds[0], golds)
    else:
        for seed, steps in enumerate(seeds):
            write_run(folder / f"seed_{seed}", steps, golds)
    return read(folder, folder.name)


def test_one_run_counted_by_hand(tmp_path: Path) -> None:
    """Steps: 2, 1 and 2 right of 4."""
    run = run_of(tmp_path, [[1, 2, 9, NONE], [1, 9, 9, 9], [9, 9, 3, 4]])
    found: Any = describe(run)
    assert [(s["right"], s["total"]) for s in found["accuracy"]] == [(2, 4), (1, 4), (2, 4)]
    first = found["accuracy"][0]
    assert (first["low"], first["high"]) == wilson(2, 4)
    assert (found["best"]["step"], found["best"]["accuracy"]) == (0, 0.5)
    # Majorities over the steps: 1 of problem 0, 9 of 1 and 2; problem 3 ties between 9 and 4.
    assert found["majority_over_steps"] == {"right": 1.5, "total": 4, "accuracy": 0.375, "ties": 1}
    assert found["ever_correct"] == 1.0
    assert (found["right_to_wrong"], found["wrong_to_right"]) == (2, 2)
    assert found["rates"]["no_answer"] == pytest.approx(1 / 12)
    assert found["completion_tokens"] == 12_000
    assert found["completion_tokens_per_rollout"] == 1000
    assert found["several_seeds"] is None


def test_a_chains_tokens_are_told_in_windows(tmp_path: Path) -> None:
    write_run(tmp_path, [GOLDS, GOLDS, GOLDS], GOLDS, settings={"max_new_tokens": 500})
    assert describe(read(tmp_path, "x"))["chain_tokens_to_window"] == 3 * 1000 / 500


def test_lists_are_those_of_the_last_step(tmp_path: Path) -> None:
    prompt = "?\n\n## Wrong Answer List\n{}\n\n## Instructions\n"
    lists = ["N/A", "**Wrong Answer 1**: abc", "**Wrong Answer 1**: abc\n\n**Wrong Answer 2**: d"]
    for step, text in enumerate(lists):
        write_step(tmp_path, step, [ours(0, 1, 1, question=prompt.format(text))])
    found = describe(read(tmp_path, "x"))
    assert (found["knowledge_entries"], found["knowledge_characters"]) == (2, 4)


def test_what_a_resting_chain_repeats_costs_nothing(tmp_path: Path) -> None:
    write_step(tmp_path, 0, [ours(0, 1, 1)])
    write_step(tmp_path, 1, [ours(0, 1, 1, carried_from=0, finish_reason="length")])
    found: Any = describe(read(tmp_path, "x"))
    assert (found["completion_tokens"], found["carried"]) == (1000, 1)
    assert found["completion_tokens_per_rollout"] == 1000
    assert found["rates"]["cut_off"] == 0


def test_what_the_published_code_does_not_say_is_not_made_up(tmp_path: Path) -> None:
    write_run(tmp_path, [[1, 2, 3, NONE]], GOLDS, published)
    found: Any = describe(read(tmp_path, "x"))
    assert found["completion_tokens"] is None
    assert found["completion_tokens_per_rollout"] is None
    assert found["chain_tokens_to_window"] is None
    assert found["rates"]["cut_off"] is None
    assert found["rates"]["unparsed"] is None
    assert found["rates"]["no_answer"] == 0.25


def test_several_seeds_are_repeated_looks_at_the_same_problems(tmp_path: Path) -> None:
    """Problem 0 is right in all seeds, 1 in two of four, 2 and 3 in none."""
    seeds = ([[1, 2, 9, NONE]], [[1, 2, 9, 9]], [[1, 9, 9, 8]], [[1, 8, 8, 7]])
    found: Any = describe(run_of(tmp_path, *seeds))
    last = found["accuracy"][-1]
    mean = clustered([1, 0.5, 0, 0])
    assert (last["right"], last["total"]) == (6, 16)
    assert last["standard_error"] == mean.error
    assert (last["low"], last["high"]) == mean.interval
    several = found["several_seeds"]
    assert (several["k"], several["average"]) == (4, 6 / 16)
    # Problem 1: 2 twice, 9 and 8 once. Problem 3: 9, 8 and 7 tie, none right.
    assert several["majority"] == {"right": 2.0, "total": 4, "accuracy": 0.5, "ties": 1}
    assert several["pass"] == {
        "1": pytest.approx(6 / 16),
        "2": pytest.approx((1 + 5 / 6) / 4),
        "4": pytest.approx(2 / 4),
    }


def test_pass_at_k_is_told_for_all_seeds_too(tmp_path: Path) -> None:
    found: Any = describe(run_of(tmp_path, *[[[1, 9, 9, 9]]] * 3))
    assert found["several_seeds"]["pass"] == {"1": 0.25, "2": 0.25, "3": 0.25}


def test_single_runs_are_paired_by_mcnemar_and_newcombe(tmp_path: Path) -> None:
    golds = list(range(10))
    before = run_of(tmp_path / "a", [[0, 1, 2, 9, 9, 9, 9, 9, 9, 8]], golds=golds)
    after = run_of(tmp_path / "b", [[9, 1, 2, 3, 4, 5, 6, 7, 8, 8]], golds=golds)
    found: Any = versus(after, before)
    assert found["difference"] == pytest.approx(0.5)
    assert (found["low"], found["high"]) == newcombe(2, 1, 6, 1)
    assert (found["test"], found["p"]) == ("McNemar, exact", pytest.approx(2 * 8 / 2**7))
    assert found["flipped"][0] == {
        "problem": "aime-0",
        "baseline": "1/1",
        "run": "0/1",
        "better": False,
    }
    assert [f["problem"] for f in found["flipped"] if f["better"]] == [
        f"aime-{n}" for n in range(3, 9)
    ]
    assert found["verdict"] == (
        "no difference that these problems can show: the runs differ on 7 of 10 problems"
    )


def test_seeds_are_paired_by_permutation_of_problem_means(tmp_path: Path) -> None:
    """Six problems, each right in one seed of two more than in the single run before."""
    golds = [1, 2, 3, 4, 5, 6]
    before = run_of(tmp_path / "a", [[0] * 6], golds=golds)
    after = run_of(tmp_path / "b", [[1, 2, 3, 4, 5, 6]], [[0, 0, 0, 0, 0, 6]], golds=golds)
    found: Any = versus(after, before)
    differences = [0.5] * 5 + [1.0]
    assert found["difference"] == pytest.approx(sum(differences) / 6)
    import numpy as np

    assert (found["low"], found["high"]) == pytest.approx(t_interval(np.array(differences)))
    assert found["p"] == pytest.approx(2 / 2**6)
    assert found["verdict"].startswith("a difference: the runs differ on 6 of 6")
    assert found["flipped"][5] == {
        "problem": "aime-5",
        "baseline": "0/1",
        "run": "2/2",
        "better": True,
    }


def test_too_few_problems_to_tell_is_said_in_words(tmp_path: Path) -> None:
    before = run_of(tmp_path / "a", [[9, 9, 9, 9]])
    after = run_of(tmp_path / "b", [GOLDS])
    verdict = str(versus(after, before)["verdict"])
    assert verdict.startswith("too few to tell: the runs differ on 4 of 4 problems")
    assert "takes 6 for p < 0.05" in verdict
    assert versus(after, after)["verdict"] == "the runs do not differ on any of 4 problems"


def test_runs_are_compared_at_the_last_step_both_have(tmp_path: Path) -> None:
    short = run_of(tmp_path / "a", [GOLDS, [9, 9, 9, 9]])
    long = run_of(tmp_path / "b", [GOLDS, [1, 9, 9, 9], GOLDS])
    assert (versus(long, short)["step"], versus(long, short)["difference"]) == (1, 0.25)
    assert versus(long, short, 0)["difference"] == 0
    with pytest.raises(UserError, match="step 2: they have steps 0 to 2 and steps 0 to 1"):
        versus(long, short, 2)


def test_problems_are_matched_by_id_whatever_their_order(tmp_path: Path) -> None:
    one = run_of(tmp_path / "a", [[1, 2, 3, 9]])
    write_step(tmp_path / "b", 0, [ours(n, n + 1, n + 1) for n in (3, 1, 0, 2)])
    first, second = align([one, read(tmp_path / "b", "b")], common=False)
    assert second.problems == first.problems
    assert versus(second, first)["flipped"] == [
        {"problem": "aime-3", "baseline": "0/1", "run": "1/1", "better": True}
    ]


def test_folders_without_ids_are_matched_by_position(tmp_path: Path) -> None:
    one = run_of(tmp_path / "a", [[1, 2, 3, 9]])
    write_run(tmp_path / "b", [[1, 2, 3, 4]], GOLDS, published)
    first, second = align([one, read(tmp_path / "b", "b")], common=False)
    assert first.problems == second.problems == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("rows", "told", "shared"),
    [
        ([ours(0, 1, 1), ours(1, 2, 2)], "a has problem aime-2, b has not", 2),
        ([ours(n, n + 1, 1) for n in range(5)], "b has problem aime-4, a has not", 4),
        (
            [ours(0, 1, 1), ours(1, 5, 5), ours(2, 3, 3), ours(3, 4, 4)],
            "the gold answer of problem aime-1 is 2 in a, 5 in b",
            3,
        ),
        (
            [published(n, n + 2, 1) for n in range(3)],
            "the gold answer of problem 0 is 1 in a, 2 in b",
            0,
        ),
    ],
)
def test_what_is_not_comparable_is_refused_by_its_first_difference(
    tmp_path: Path, rows: list[dict[str, Any]], told: str, shared: int
) -> None:
    write_step(tmp_path / "b", 0, rows)
    runs = [run_of(tmp_path / "a", [[1, 2, 3, 4]]), read(tmp_path / "b", "b")]
    with pytest.raises(UserError, match=told):
        align(runs, common=False)
    if shared:
        aligned = align(runs, common=True)
        assert [len(run.problems) for run in aligned] == [shared, shared]
        assert aligned[0].golds == aligned[1].golds
    else:
        with pytest.raises(UserError, match="no problem with the same gold answer"):
            align(runs, common=True)
