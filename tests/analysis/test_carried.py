"""Whether what is carried helps or drags: by hand, and on made-up chains whose truth is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.fakes import ScriptedEngine
from helpers.programs import Program
from helpers.results_on_disk import ours, wide, write_manifest, write_run, write_step
from helpers.scripted import run_script
from helpers.small_runs import figures, parallel, run_of
from kflow.analysis.carried import (
    Attempt,
    Carried,
    Transitions,
    bootstrap,
    contrast,
    count_transitions,
    measure_carried,
)
from kflow.analysis.comparison import compare_runs
from kflow.analysis.conclusion import sum_up
from kflow.analysis.run_statistics import build_timeline
from kflow.method import LeftOut
from kflow.results.rollout import Rollout
from kflow.results.runs import SavedRun, read
from kflow.types import Entry

PROBLEMS, STEPS, WORLDS = 40, 8, 100


def attempts(marks: str, name: int = 0) -> list[Attempt]:
    """`+-`: a right one, then a wrong one, each of another request."""
    return [Attempt(mark == "+", (name, n)) for n, mark in enumerate(marks)]


def carried_of(*runs: SavedRun) -> tuple[Carried, ...]:
    return measure_carried([build_timeline(run) for run in runs])


def test_an_attempt_that_a_chain_shares_says_nothing_about_it() -> None:
    same = attempts("+--")
    assert count_transitions([attempts("--")], same).alone_after_wrong == 0  # without the first two
    unknown = [Attempt(attempt.right, None) for attempt in same]
    assert count_transitions([unknown[:2]], unknown).alone_after_right == pytest.approx(1 / 3)
    assert contrast([count_transitions([same], same)]).repaired is None


def test_each_chain_is_set_against_the_attempts_that_it_does_not_share(tmp_path: Path) -> None:
    """Two seeds of two steps, each with the request of parallel thinking's first attempt of that
    seed: the chain of seed 0 meets wrong, right, wrong, that of seed 1 right, right, wrong."""
    shared = [
        ours(0, 1, answer, sampling_seed=seed, question="first")
        for seed, answer in enumerate((1, 9))
    ]
    later = ours(0, 1, 1, sampling_seed=7, question="later")
    for seed, first in enumerate(shared):
        write_step(tmp_path / "arm" / f"seed_{seed}", 0, [first])
        write_step(tmp_path / "arm" / f"seed_{seed}", 1, [later])
        write_step(tmp_path / "base" / f"seed_{seed}", 0, [first])
        other = replace(first, sampling_seed=8 + seed)  # with as many tokens as the later prompt
        write_step(tmp_path / "base" / f"seed_{seed}", 1, [other])
    write_manifest(tmp_path / "base", {}, experiment={"ahead": True})
    (carried,) = carried_of(read(tmp_path / "arm", "arm"), read(tmp_path / "base", "base"))
    assert carried.kept is not None
    assert carried.repaired is not None
    assert (carried.kept.answers, carried.kept.alone) == (1, pytest.approx(1 / 3))
    assert (carried.repaired.answers, carried.repaired.alone) == (1, pytest.approx(2 / 3))


def test_prompts_of_equal_length_are_not_the_same_request(tmp_path: Path) -> None:
    """Of two failed rollouts, say, which have no tokens."""
    rows = [ours(0, 1, 9, sampling_seed=s, question="first") for s in (0, 1)]
    write_step(tmp_path / "arm", 0, rows[:1])
    write_step(tmp_path / "arm", 1, [ours(0, 1, 1, sampling_seed=1, question="later")])
    for step, row in enumerate(rows):
        write_step(tmp_path / "base", step, [row])
    write_manifest(tmp_path / "base", {}, experiment={"ahead": True})
    (carried,) = carried_of(read(tmp_path / "arm", "arm"), read(tmp_path / "base", "base"))
    assert carried.repaired is not None
    assert (carried.repaired.answers, carried.repaired.alone) == (1, 0)


def test_a_problem_counts_by_its_answers() -> None:
    """(0.5 * 0 + 1.5 * 4 ...): 1 of 1 against 0.5 and 0 of 3 against 0.2."""
    carried = contrast([Transitions(1, 1, 0, 0, 0.5), Transitions(3, 0, 0, 0, 0.6)])
    assert carried.repaired is not None
    assert (carried.repaired.answers, carried.repaired.share) == (4, 0.25)
    assert carried.repaired.alone == pytest.approx((0.5 + 3 * 0.2) / 4)
    assert carried.repaired.difference == pytest.approx(0.25 - 1.1 / 4)
    assert (carried.repaired.low, carried.repaired.high) == (None, None)  # of two problems
    assert (carried.kept, carried.stationary) == (None, None)
    assert carried.net == carried.repaired
    stationary = contrast([Transitions(4, 1, 4, 2, 2.0, 2.0)]).stationary
    assert stationary == pytest.approx(0.25 / (0.25 + 0.5))


def test_intervals_of_problems_that_are_alike() -> None:
    """All of them: it has a width; six of seven: an end that resamples do not give is not known."""
    low, high = bootstrap(np.zeros(10), np.ones(10))
    assert -1 < low < 0 < high < 1
    low, _ = bootstrap(np.array([0.0] * 6 + [-2.0]), np.array([2.0] * 7))
    assert low == -np.inf


def made_up(seed: int, problems: int, repair: float, keep: float) -> list[Transitions]:
    """Problems of all difficulties. repair, keep: what a wrong or right answer before adds to the
    chance that the next one is right."""
    random = np.random.default_rng(seed)
    transitions = []
    for chance in random.beta(1.5, 1.5, size=problems):
        marks = [random.random() < chance]
        while len(marks) < STEPS:
            moved = chance + (keep if marks[-1] else repair)
            marks.append(random.random() < min(1, max(0, moved)))
        chain = "".join("-+"[int(mark)] for mark in marks)
        alone = "".join("-+"[int(mark)] for mark in random.random(STEPS) < chance)
        transitions.append(count_transitions([attempts(chain)], attempts(alone, 1)))
    return transitions


def true_differences(problems: Sequence[Transitions]) -> dict[str, float]:
    """Of so many problems that they are as good as all."""
    wrong, repaired, right, kept, alone_wrong, alone_right = np.array(problems).sum(axis=0)
    rows = {"repaired": (wrong, repaired, alone_wrong), "kept": (right, kept, alone_right)}
    rows["net"] = (wrong + right, repaired + kept, alone_wrong + alone_right)
    return {name: float((good - alone) / answers) for name, (answers, good, alone) in rows.items()}


@pytest.mark.parametrize(("repair", "keep"), [(0, 0), (0.15, 0.1), (-0.15, -0.2)])
def test_intervals_hold_the_truth_as_often_as_they_say(repair: float, keep: float) -> None:
    truth = true_differences(made_up(1000, 20_000, repair, keep))
    assert (truth["repaired"], truth["kept"]) == pytest.approx((repair, keep), abs=0.015)
    worlds = [contrast(made_up(seed, PROBLEMS, repair, keep)) for seed in range(WORLDS)]
    for name, value in truth.items():
        intervals = [getattr(world, name) for world in worlds]
        assert 90 <= sum(each.low <= value <= each.high for each in intervals) <= 99


def test_only_single_sequential_runs_have_it_against_the_first_parallel_one(tmp_path: Path) -> None:
    golds = [1]
    arm = run_of(tmp_path / "arm", [[9], [1]], golds=golds)
    one = parallel(tmp_path / "one", [[1], [1]], golds)
    two = parallel(tmp_path / "two", [[9], [9]], golds)
    population = wide([ours(0, 1, 1), ours(0, 1, 9)], 1)
    write_step(tmp_path / "wide", 0, [population])
    broad = read(tmp_path / "wide", "wide")
    assert carried_of(arm, broad) == ()
    assert [c.parallel for c in carried_of(arm, one, two)] == ["one"]
    (carried,) = carried_of(two, arm, one, broad)
    assert (carried.run, carried.parallel) == ("arm", "two")


@pytest.mark.parametrize(
    ("part", "own", "others"),
    [
        ("model", {"name": "small"}, {"name": "large"}),
        ("sampling", {"temperature": 0.6}, {"temperature": 1.0}),
        ("experiment", {"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
        ("settings", {"max_new_tokens": 512}, {"max_new_tokens": 1024}),
    ],
)
def test_attempts_under_other_conditions_are_not_the_independent_ones(
    part: str, own: dict[str, object], others: dict[str, object], tmp_path: Path
) -> None:
    def put(run: SavedRun, values: dict[str, object]) -> SavedRun:
        manifest = run.manifest or {}
        return replace(run, manifest={**manifest, part: {**manifest.get(part, {}), **values}})

    arm = put(run_of(tmp_path / "arm", [[9], [1]], golds=[1]), own)
    other, same = (parallel(tmp_path / name, [[1], [1]], [1]) for name in ("other", "same"))
    assert carried_of(arm, put(other, others)) == ()
    compared = compare_runs([put(other, others), arm])
    ((name, (differing,)),) = compared.unmatched.items()
    assert (name, differing.partition(".")[0]) == ("arm", part)
    assert f"is not measured: parallel thinking differs in {differing}." in " ".join(
        sum_up(compared.runs, compared)
    )
    assert [each.parallel for each in carried_of(arm, put(other, others), put(same, own))] == [
        "same"
    ]


def test_steps_without_answers_repeats_and_gaps(tmp_path: Path) -> None:
    """9, a reflection, 1, then repeated; and 9 and 1 with a step missing between."""
    last = ours(0, 1, 1)
    asked_nothing = ours(0, 1, None, asks_answer=False)
    for step, record in enumerate((ours(0, 1, 9), asked_nothing, last)):
        write_step(tmp_path / "arm", step, [record])
    write_step(tmp_path / "arm", 3, [replace(last, repeats_step=2)])
    write_step(tmp_path / "gap", 0, [ours(0, 1, 9)])
    write_step(tmp_path / "gap", 2, [ours(0, 1, 1)])
    arm, gap = (read(tmp_path / name, name) for name in ("arm", "gap"))
    base = parallel(tmp_path / "base", [[1], [9]], [1])
    over_reflection, over_gap = carried_of(arm, gap, base)
    assert over_reflection.net is not None
    assert (over_reflection.net.answers, over_reflection.net.share) == (1, 1)
    assert over_gap.net is None


@pytest.mark.parametrize(("cut", "said"), [(1, False), (2, True)])
def test_what_was_left_out_is_said_first_where_it_is_much(
    cut: int, said: bool, tmp_path: Path, compare: Program
) -> None:
    """Ten chains of two steps; of so many the second prompt shows one of three entries."""
    shown = {"knowledge": (Entry("why"),)}
    less = shown | {"left_out": LeftOut(entries=2, tokens=50)}
    write_step(tmp_path, 0, [ours(n, 1, 1, left_out=LeftOut(tokens=9)) for n in range(10)])
    write_step(tmp_path, 1, [ours(n, 1, 1, **(less if n < cut else shown)) for n in range(10)])
    left_out = figures(read(tmp_path, "x")).left_out
    assert left_out is not None
    assert (left_out.prompts, left_out.incomplete) == (10, cut)
    assert (left_out.entries_shown, left_out.entries_held) == (10, 10 + 2 * cut)
    assert left_out.with_entries == 10
    first_lines, *_ = compare(tmp_path).split("\n\n")
    assert (f"{cut} of 10 prompts" in " ".join(first_lines.split())) == said


@pytest.mark.parametrize(
    ("with_entries", "on_record", "said"),
    [(0, False, False), (0, True, True), (4, False, True), (5, True, False)],
)
def test_a_list_that_is_mostly_empty_is_said_first(
    with_entries: int, on_record: bool, said: bool, tmp_path: Path, compare: Program
) -> None:
    """Of ten later prompts so many show an entry. Of none, only run.json tells whether the method
    has a list."""
    write_manifest(tmp_path, {}, **({"shows_list": True} if on_record else {}))
    entry = (Entry("why"),)
    write_step(tmp_path, 0, [ours(n, 1, 1) for n in range(10)])
    later = [ours(n, 1, 1, knowledge=entry if n < with_entries else ()) for n in range(10)]
    write_step(tmp_path, 1, later)
    left_out = figures(read(tmp_path, "x")).left_out
    assert left_out is not None
    assert left_out.with_entries == (with_entries if on_record or with_entries else None)
    first_lines, *_ = compare(tmp_path).split("\n\n")
    assert (f"only {with_entries} of 10 prompts" in " ".join(first_lines.split())) == said


NOTHING_ASKED = [ours(n, 1, None, asks_answer=False) for n in range(10)]
ATTEMPT = [ours(n, 1, 1) for n in range(10)]
WITH_LIST = [ours(n, 1, 1, knowledge=(Entry("why"),)) for n in range(10)]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([WITH_LIST, NOTHING_ASKED, NOTHING_ASKED, WITH_LIST], id="a distillation"),
        pytest.param([NOTHING_ASKED, ATTEMPT, NOTHING_ASKED, WITH_LIST], id="a strategy first"),
    ],
)
def test_only_a_prompt_for_an_answer_after_an_attempt_needs_an_entry(
    steps: list[list[Rollout]], tmp_path: Path, compare: Program
) -> None:
    for step, rows in enumerate(steps):
        write_step(tmp_path, step, rows)
    left_out = figures(read(tmp_path, "x")).left_out
    assert left_out is not None
    assert (left_out.prompts, left_out.for_answers, left_out.with_entries) == (30, 10, 10)
    assert "show an entry" not in " ".join(compare(tmp_path).split())


def test_the_table_and_json(tmp_path: Path, compare: Program) -> None:
    write_run(tmp_path / "vllm_64_arm" / "m", [[9], [1]], [1])
    parallel(tmp_path / "vllm_parallel_64_base" / "m", [[1], [9]], [1])
    text = compare(tmp_path, "--details")
    assert "unclear +50.0 [?, ?]" in text
    assert re.search(r"mistakes +repaired +1 +100.0 +50.0 +\+50.0 \[\?, \?\]", text)
    (carried,) = compare.json(tmp_path)["carried"]
    assert carried["repaired"]["difference"] == 0.5
    assert (carried["repaired"]["low"], carried["kept"]) == (None, None)
    assert carried["effect"] == "unclear"


@pytest.mark.parametrize(
    ("marks", "effect"), [("-+++++++", "helps"), ("+-------", "drags"), ("+-+-+-+-", "unclear")]
)
def test_the_effect_is_the_interval_s(marks: str, effect: str) -> None:
    """Of independent attempts half are right."""
    problems = [
        count_transitions([attempts(marks, n)], attempts("+-" * 4, 100 + n)) for n in range(12)
    ]
    assert contrast(problems).effect == effect


@pytest.mark.parametrize(("differing", "effect"), [(5, "unclear"), (6, "helps")])
def test_too_few_problems_that_differ_show_no_effect(differing: int, effect: str) -> None:
    """Whatever the interval: five of one sign have p = 0.06."""
    better, as_alone = Transitions(4, 3, 4, 3, 2.0, 2.0), Transitions(4, 2, 4, 2, 2.0, 2.0)
    carried = contrast([*[better] * differing, *[as_alone] * 12])
    assert carried.net is not None
    assert carried.net.low is not None
    assert carried.net.low > 0
    assert carried.effect == effect


@pytest.mark.parametrize(("window", "said"), [("1100", True), ("20000", False)])
def test_the_end_of_a_run_says_what_was_left_out(window: str, said: bool, tmp_path: Path) -> None:
    flags = ["--reflex_size", "4", "--max_new_tokens", window]
    ran = run_script("vllm_kflow_qwen", flags, tmp_path, ScriptedEngine())
    assert ran.code == 0
    cut = figures(read(ran.folder, "x")).left_out
    assert cut is not None
    assert (cut.prompts, cut.incomplete > 0) == (9, said)
    lines = [line for line in ran.err.splitlines() if line.startswith("Prompts without room")]
    assert len(lines) == said
    assert all(f" {cut.incomplete} of 9 later prompts" in line for line in lines)
