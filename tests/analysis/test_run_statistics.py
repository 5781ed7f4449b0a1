"""What is said of one run, from runs small enough to count by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.results_on_disk import ours, published, wide, write_manifest, write_run, write_step
from helpers.small_runs import GOLDS, figures, parallel, run_of, thinking
from kflow.analysis.statistics import clustered
from kflow.answers import worker
from kflow.results.known_scores import wilson
from kflow.results.runs import read
from kflow.types import Entry

NONE = None


def test_one_run_counted_by_hand(tmp_path: Path) -> None:
    """Steps: 2, 1 and 2 right of 4."""
    run = figures(run_of(tmp_path, [[1, 2, 9, NONE], [1, 9, 9, 9], [9, 9, 3, 4]]))
    own = [step.own for step in run.by_step]
    assert [(s.right, s.total) for s in own if s] == [(2, 4), (1, 4), (2, 4)]
    assert own[0] is not None
    assert (own[0].low, own[0].high) == wilson(2, 4)
    # Majorities by step. Problem 0: 1, 1, 1. Problem 1: 2, then a tie of 2 and 9, then 9.
    # Problem 2: 9. Problem 3: none, 9, then a tie of 9 and 4.
    votes = [step.rolling_majority for step in run.by_step]
    assert [vote.right for vote in votes] == [2, 1.5, 1.5]
    assert (votes[2].low, votes[2].high) == wilson(1.5, 4)
    assert [step.ever_correct for step in run.by_step] == [0.5, 0.5, 1.0]
    assert (run.right_to_wrong, run.wrong_to_right) == (2, 2)
    assert run.rates.no_answer == pytest.approx(1 / 12)
    assert [step.rollouts for step in run.by_step] == [1, 2, 3]
    assert [step.tokens for step in run.by_step] == [1100, 2200, 3300]
    assert run.reply_tokens == 12_000
    assert run.reply_tokens_per_rollout == 1000
    assert run.several_seeds is None


def test_tokens_of_replies_and_different_answers_by_step(tmp_path: Path) -> None:
    first = [ours(0, 1, 9, completion_tokens=10), ours(1, 2, NONE, completion_tokens=30)]
    second = [ours(0, 1, 1, completion_tokens=4), replace(first[1], repeats_step=0)]
    write_step(tmp_path, 0, first)
    write_step(tmp_path, 1, second)
    write_manifest(tmp_path, {"max_new_tokens": 11})
    run = figures(read(tmp_path, "x"))
    assert [step.reply_tokens for step in run.by_step] == [20, 4]
    assert [step.different_answers for step in run.by_step] == [0.5, 1]
    assert run.tokens_in_windows == 2  # of a chain, (10 + 4 + 30) / 2 tokens


def test_lists_are_a_share_of_the_window_and_counted_at_the_last_step(tmp_path: Path) -> None:
    """A tenth of a prompt of 100 tokens is the list's, of a window of 400. Without any list there
    are no figures of one."""
    entries = (Entry("a" * 8), Entry("b" * 2))
    for name, shown in (("with", entries), ("without", ())):
        write_step(tmp_path / name, 0, [ours(0, 1, 1, question="q" * 100)])
        write_step(tmp_path / name, 1, [ours(0, 1, 1, question="q" * 100, knowledge=shown)])
        write_manifest(tmp_path / name, {"max_new_tokens": 400})
    run, other = (figures(read(tmp_path / name, "x")) for name in ("with", "without"))
    assert [step.list_share for step in run.by_step] == [0, 10 / 400]
    assert run.list_entries == 2
    assert (other.list_entries, other.by_step[0].list_share) == (None, None)


def test_an_early_stopped_chains_copies_are_in_accuracy_alone(tmp_path: Path) -> None:
    write_step(tmp_path, 0, [ours(0, 1, 1)])
    write_step(tmp_path, 1, [ours(0, 1, 1, repeats_step=0, finish_reason="length")])
    run = figures(read(tmp_path, "x"))
    assert (run.reply_tokens, run.early_stopped, run.rollouts) == (1000, 1, 1)
    assert run.rates.truncated == 0
    assert [step.own and step.own.accuracy for step in run.by_step] == [1, 1]
    assert [step.rollouts for step in run.by_step] == [1, 1]


def test_a_population_that_has_stopped_keeps_its_accuracy(tmp_path: Path) -> None:
    """Half of the first problem's solutions are right, and of the other's, which goes on."""
    first, other = (wide([ours(p, 1, 1), ours(p, 1, 9)], 1) for p in (0, 1))
    write_step(tmp_path, 0, [first, other])
    write_step(tmp_path, 1, [replace(first, repeats_step=0), other])
    write_step(tmp_path, 2, [replace(first, repeats_step=0), replace(other, repeats_step=1)])
    assert [step.slots for step in figures(read(tmp_path, "x")).by_step] == [0.5] * 3


def test_a_chain_out_of_step_leaves_the_others_their_accuracy(tmp_path: Path) -> None:
    """RSE: where all attempts of a round failed, there is nothing to distil, and the next step
    attempts again."""
    distil = {"asks_answer": False, "verdict_correct": True}
    for step in range(3):
        rows = [ours(p, 1, 1) if step % 2 == 0 else ours(p, 1, None, **distil) for p in range(2)]
        late = ours(2, 1, 1) if step == 1 else ours(2, 1, None, failure="x" * (step == 0) or None)
        write_step(tmp_path, step, [*rows, replace(late, asks_answer=step < 2)])
    own = [step.own and step.own.right for step in figures(read(tmp_path, "x")).by_step]
    assert own == [2, None, 2]


def test_attempts_beyond_a_chains_token_budget_are_in_no_figure(tmp_path: Path) -> None:
    """All attempts are asked at once; the chain's budget was reached at step 0, and what came after
    it is right where the chain is wrong, and the other way."""
    write_step(tmp_path, 0, [ours(0, 1, 1, over_budget=True), ours(1, 2, 9, over_budget=True)])
    write_step(tmp_path, 1, [ours(0, 1, 1, counted=False), ours(1, 2, 2, counted=False)])
    write_manifest(tmp_path, {}, experiment={"ahead": True})
    run = figures(read(tmp_path, "x"))
    assert [step.own and step.own.right for step in run.by_step] == [1, 1]
    assert run.rollouts == 2
    assert [step.ever_correct for step in run.by_step] == [0.5, 0.5]
    assert (run.right_to_wrong, run.wrong_to_right) == (None, None)  # nothing depends on another


def test_each_rate_is_of_what_it_could_hold_for(tmp_path: Path) -> None:
    """Ten rollouts: three failed, one of them empty; of seven replies, three are strategies, which
    ask for no answer; of the other four two have none, one of them with a box."""
    answered = [ours(n, 1, 1) for n in range(2)]
    none = ours(2, 1, NONE, finish_reason="length", missing_sections=("Answer",))
    box = ours(3, 1, NONE, unreadable_box=True)
    strategies = [ours(n, 1, NONE, asks_answer=False) for n in range(4, 7)]
    words = ("refused", "refused", "the reply is empty (content_filter)")
    failed = [ours(n, 1, NONE, failure=why) for n, why in enumerate(words, 7)]
    write_step(tmp_path, 0, [*answered, none, box, *strategies, *failed])
    rates = figures(read(tmp_path, "x")).rates
    assert (rates.no_answer, rates.unreadable_box) == (2 / 4, 1 / 2)
    assert (rates.truncated, rates.missing_sections) == (1 / 7, 1 / 7)
    assert (rates.failed, rates.empty) == (3 / 10, 1 / 10)


def test_a_rate_of_nothing_is_not_a_number(tmp_path: Path) -> None:
    write_step(tmp_path, 0, [ours(0, 1, NONE, failure="refused")])
    rates = figures(read(tmp_path, "x")).rates
    assert (rates.no_answer, rates.unreadable_box, rates.truncated) == (None, None, None)
    assert rates.failed == 1


def test_what_the_published_code_does_not_say_is_not_made_up(tmp_path: Path) -> None:
    write_run(tmp_path, [[1, 2, 3, NONE]], GOLDS, published)
    run = figures(read(tmp_path, "x"))
    assert (run.reply_tokens, run.reply_tokens_per_rollout) == (None, None)
    assert (run.tokens_in_windows, run.by_step[0].tokens) == (None, None)
    assert run.by_step[0].sequential_tokens is None
    assert (run.rates.truncated, run.rates.missing_sections) == (None, None)
    assert run.rates.no_answer == 0.25


def test_steps_that_ask_no_answer_are_left_out_of_accuracy_and_of_no_answer(
    tmp_path: Path,
) -> None:
    run = figures(thinking(tmp_path))
    assert [step.own and step.own.right for step in run.by_step] == [None, 0, None]
    assert [step.slots for step in run.by_step] == [None, 0.25, None]
    votes = [step.rolling_majority and step.rolling_majority.right for step in run.by_step]
    assert votes == [None, 0.5, 0.5]
    assert [step.ever_correct for step in run.by_step] == [0, 0.5, 0.5]
    assert [step.rollouts for step in run.by_step] == [1, 3, 4]
    assert [step.sequential_tokens for step in run.by_step] == [1100, 2200, 3300]
    assert run.rates.no_answer == 0


def test_several_seeds_are_repeated_looks_at_the_same_problems(tmp_path: Path) -> None:
    """Problem 0 is right in all seeds, 1 in two of four, 2 and 3 in none."""
    seeds = ([[1, 2, 9, NONE]], [[1, 2, 9, 9]], [[1, 9, 9, 8]], [[1, 8, 8, 7]])
    run = figures(run_of(tmp_path, *seeds))
    last, mean = run.by_step[-1].own, clustered([1, 0.5, 0, 0])
    assert last is not None
    assert (last.right, last.total, last.standard_error) == (6, 16, mean.error)
    assert (last.low, last.high) == mean.interval
    several = run.several_seeds
    assert several is not None
    assert (several.k, several.average, several.standard_error) == (4, 6 / 16, mean.error)
    # Problem 1: 2 twice, 9 and 8 once. Problem 3: 9, 8 and 7 tie, none right.
    assert (several.majority.right, several.majority.ties) == (2.0, 1)
    assert several.pass_at == {
        1: pytest.approx(6 / 16),
        2: pytest.approx((1 + 5 / 6) / 4),
        4: pytest.approx(2 / 4),
    }


def test_the_standard_error_over_seeds_is_that_of_the_average(tmp_path: Path) -> None:
    """Parallel thinking's majorities are all right; of its last attempts half are."""
    for seed, last in enumerate(([0, 0, 3, 4], [0, 2, 3, 0])):
        parallel(tmp_path / f"seed_{seed}", [[1, 2, 3, 4]] * 2 + [last], [1, 2, 3, 4])
    write_manifest(tmp_path, {}, experiment={"ahead": True})
    run = figures(read(tmp_path, "x"))
    assert run.several_seeds is not None
    assert run.by_step[-1].answer.standard_error == 0
    assert run.several_seeds.standard_error == clustered([0, 0.5, 1, 0.5]).error


def test_expressions_of_several_seeds_vote_as_what_they_mean(tmp_path: Path) -> None:
    for seed, answer in enumerate(("3", "1/2", "0.5", r"\frac{1}{2}", "3")):
        record = ours(0, "1/2", answer, correct=answer != "3")
        write_step(tmp_path / f"seed_{seed}", 0, [record])
    write_manifest(tmp_path, {}, answers="expression")
    several = figures(read(tmp_path, "x")).several_seeds
    assert several is not None
    assert (several.majority.right, several.majority.ties) == (1, 0)
    assert [*several.pass_at] == [1, 2, 4, 5]


@pytest.mark.parametrize("doubtful", [0, 1])
def test_what_a_chain_gave_up_is_not_compared_between_seeds(
    doubtful: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One seed answered x, then 0.5, and gave up comparing them; the other ends with x."""
    seeds = [["x", "x"], ["3", "3"]]
    seeds.insert(doubtful, ["x", "0.5"])
    for seed, answers in enumerate(seeds):
        for step, answer in enumerate(answers):
            pairs = (("x", "0.5"),) if (seed, step) == (doubtful, 1) else ()
            write_step(tmp_path / f"seed_{seed}", step, [ours(0, "9", answer, undecided=pairs)])
    write_manifest(tmp_path, {}, answers="expression")
    compared = []

    def same(first: str, other: str) -> bool:
        compared.append({first, other})
        return other != "3"

    monkeypatch.setattr(worker, "same", same)
    several = figures(read(tmp_path, "x")).several_seeds
    assert several is not None
    assert several.majority.ties == 1  # of three; as one answer, x and 0.5 would be the most
    assert sorted(map(sorted, compared)) == [["0.5", "3"], ["3", "x"]]
