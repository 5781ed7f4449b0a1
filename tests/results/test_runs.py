"""Reading results folders: which runs there are and what is in them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.results_on_disk import (
    GOLDS,
    STEPS,
    ours,
    published,
    write_manifest,
    write_run,
    write_step,
)
from kflow.results.records import read_records
from kflow.results.runs import find_differing_settings, read, read_all, read_one
from kflow.types import Entry, UserError


def test_a_run_that_lost_a_step_is_not_in_progress(tmp_path: Path) -> None:
    for step in range(3):
        write_step(tmp_path, step, [ours(0, 1, 1)])
    write_manifest(tmp_path, {"reflex_size": 3})
    (tmp_path / "predictions_1.json").write_text("")
    left_out, lacking = read(tmp_path, "x").notes
    assert "predictions_1.json is left out" in left_out
    assert lacking == f"{tmp_path} lacks step 1"


def test_no_text_stays_in_memory_and_the_list_is_measured(tmp_path: Path) -> None:
    """200 of the prompt's 1,000 characters are the list's, so 20 of its 100 tokens are."""
    entries = (Entry("a" * 150, 3), Entry("b" * 50))
    record = ours(0, 1, 1, question="q" * 1000, knowledge=entries)
    refused = replace(record, id="refused", failure="the engine refused", prompt_tokens=0)
    write_step(tmp_path, 0, [record, refused])
    run = read(tmp_path, "x")
    assert [size[:3] for size in run.lists[0, 0]] == [(2, 200, 20), (2, 200, None)]
    first = run.rollouts[0, 0][0]
    assert first.question + first.pred_solution == ""
    assert (first.knowledge, first.note) == ((), None)
    assert next(read_records(run.files[0, 0])) == record


@pytest.mark.parametrize(
    ("stated", "window"),
    [(4096, 4096), (0, 64), (-5, 64), (None, 64), ("64", 64), (10**30, 64), ({}, 64)],
)
def test_the_window_is_run_jsons_or_the_folder_names(
    tmp_path: Path, stated: object, window: int
) -> None:
    folder = write_run(tmp_path / "vllm_64_" / "m", settings={"max_new_tokens": stated})
    assert read(folder, "x").window == window
    assert read(write_run(tmp_path / "vllm_00_" / "m"), "x").window is None


@pytest.mark.parametrize("ahead", [True, False, "yes"])
def test_whether_all_rollouts_were_in_flight_at_once(tmp_path: Path, ahead: object) -> None:
    write_run(tmp_path, experiment={"prefix": "vllm", "ahead": ahead})
    assert read(tmp_path, "x").ahead is (ahead is True)


def test_only_steps_that_every_seed_has_count(tmp_path: Path) -> None:
    write_run(tmp_path / "seed_0")
    write_run(tmp_path / "seed_3", STEPS[:1], GOLDS)
    write_manifest(tmp_path, {})
    (tmp_path / "seed_3" / "rollouts_1.jsonl").touch()
    run = read(tmp_path, "x")
    assert (run.seeds, run.steps) == ((0, 3), (0,))
    assert run.notes == (f"{tmp_path} is in progress: 1 step complete",)


@pytest.mark.parametrize("files", [(), ("rollouts_0.jsonl",)])
def test_a_seed_without_a_complete_step_is_left_out(files: tuple[str, ...], tmp_path: Path) -> None:
    """As where a second seed is added to a run that is complete."""
    write_manifest(tmp_path, {})
    write_run(tmp_path / "seed_0")
    (tmp_path / "seed_1").mkdir()
    for name in files:
        (tmp_path / "seed_1" / name).touch()
    run = read(tmp_path, "x")
    assert (run.seeds, run.steps, run.complete) == ((0,), tuple(range(len(STEPS))), False)
    assert run.notes[0] == f"{tmp_path} has no complete step of 1 of its 2 seeds, such as seed 1"


@pytest.mark.parametrize(
    ("promised", "missing"),
    [(1, None), (2, "1 of its 3 seeds"), (10**30, "9,998 of its 10,000 seeds"), ("2", None)],
)
def test_a_seed_whose_folder_is_lost_is_named(
    promised: object, missing: str | None, tmp_path: Path
) -> None:
    for seed in (0, 2):
        write_run(tmp_path / f"seed_{seed}")
    write_manifest(tmp_path, {"num_seeds": promised})
    run = read(tmp_path, "x")
    told = [f"{tmp_path} has no complete step of {missing}, such as seed 1"] if missing else []
    assert (run.seeds, run.complete, list(run.notes)) == ((0, 2), missing is None, told)


@pytest.mark.parametrize("moved", [[], [0], [0, 1]])
def test_a_run_of_one_seed_that_others_joined_is_seed_0(moved: list[int], tmp_path: Path) -> None:
    """moved: the steps that stood in their new folder when the program was killed."""
    write_run(tmp_path)
    write_run(tmp_path / "seed_1")
    for step in moved:
        (tmp_path / "seed_0").mkdir(exist_ok=True)
        name = f"predictions_{step}.json"
        (tmp_path / name).rename(tmp_path / "seed_0" / name)
    (run,) = read_all([str(tmp_path)])
    assert (run.folder, run.seeds, run.steps) == (tmp_path, (0, 1), (0, 1))


@pytest.mark.parametrize("record", [ours, published])
def test_a_run_of_ours_without_run_json_is_told(record: Any, tmp_path: Path) -> None:
    """Whether its attempts were independent is nowhere else."""
    noted = "has no run.json" in "".join(read(write_run(tmp_path, record=record), "x").notes)
    assert noted is (record is ours)


def test_a_run_in_progress_says_how_far_it_is_and_what_it_lacks(tmp_path: Path) -> None:
    write_run(tmp_path, [STEPS[0]] * 4, settings={"reflex_size": 64})
    progress = f"{tmp_path} is in progress: {{}} steps are complete"
    assert read(tmp_path, "x").notes == (progress.format("4 of 64"),)
    write_manifest(tmp_path, {"reflex_size": 4})
    (tmp_path / "predictions_1.json").rename(tmp_path / "rollouts_1.jsonl")
    (tmp_path / "predictions_2.json").unlink()
    run = read(tmp_path, "x")
    assert run.steps == (0, 3)
    assert run.notes == (f"{tmp_path} lacks step 2", progress.format("2 of 4"))


def test_a_run_at_its_first_step_is_left_out_while_others_are_read(tmp_path: Path) -> None:
    write_run(tmp_path / "a", settings={})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "rollouts_0.jsonl").touch()
    write_manifest(tmp_path / "b", {"num_seeds": 2})
    told = f"{tmp_path}/b is still at its first step: nothing of it is shown yet."
    for named in ([tmp_path], sorted(tmp_path.iterdir())):  # as a shell gives what a glob names
        (run,) = read_all([str(each) for each in named])
        assert run.notes == (told,)
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        read_one(tmp_path / "b")
    (tmp_path / "b" / "predictions_0.json").write_text("[")
    with pytest.raises(UserError, match="no step that can be read"):
        read_all([str(each) for each in sorted(tmp_path.iterdir())])


@pytest.mark.parametrize(
    ("name", "gold", "answers", "right"),
    [
        ("expression", r"\frac{1}{2}", [r"\frac12", "2"], [True, False]),
        ("choice", "b", ["B", "C"], [True, False]),
        ("integer", "025", [25, 5], [True, False]),
    ],
)
def test_a_run_of_any_answer_type(
    tmp_path: Path, name: str, gold: str, answers: list[Any], right: list[bool]
) -> None:
    rows = [ours(n, gold, answer, correct=right[n]) for n, answer in enumerate(answers)]
    write_step(tmp_path, 0, rows)
    write_manifest(tmp_path, {}, answers=name)
    run = read(tmp_path, "x")
    assert (run.answers.name, run.golds) == (name, (run.answers.gold(gold),) * 2)
    assert [record.correct for record in run.rollouts[0, 0]] == right


def test_settings_that_differ_are_listed_with_their_values(tmp_path: Path) -> None:
    one: dict[str, Any] = {"seed": 0, "max_new_tokens": 64, "results_dir": "a"}
    two: dict[str, Any] = {"seed": 0, "max_new_tokens": 65, "top_k": 5, "results_dir": "b"}
    for name, settings in (("a", one), ("b", two)):
        write_run(tmp_path / name, settings=settings)
    write_run(tmp_path / "c")
    runs = read_all([str(tmp_path)])
    assert find_differing_settings(runs[:2]) == {
        "max_new_tokens": ["64", "65"],
        "top_k": ["-", "5"],
    }
    assert find_differing_settings(runs)["seed"] == ["0", "0", "-"]


def test_what_follows_from_the_method_is_not_listed_beside_it(tmp_path: Path) -> None:
    hashes = ("12ab" * 16, "34cd" * 16)
    one = {"method": "Mistakes", "fields": {"prefill": "a", "budget": 0.9}}
    two = {"method": "Markovian", "fields": {"nudge": "b"}}
    prompts = ({"first": hashes[0], "later": hashes[0]}, {"first": hashes[1]})
    for name, experiment, hashed in zip("ab", (one, two), prompts, strict=True):
        write_run(tmp_path / name, experiment=experiment, prompts=hashed)
    assert find_differing_settings(read_all([str(tmp_path)])) == {
        "experiment.method": ["Mistakes", "Markovian"],
        "prompts.first": ["12ab12ab12ab", "34cd34cd34cd"],
    }


def test_records_come_with_their_texts_seed_by_seed_and_only_those_asked_for(
    tmp_path: Path,
) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"seed_{seed}")
    write_run(tmp_path / "seed_0", [*STEPS, STEPS[0]], GOLDS)  # a step that only one seed has
    run = read(tmp_path, "x")

    def places(*chosen: Any) -> list[tuple[int, int, int]]:
        return [(seed, step, place) for seed, step, place, _ in run.records(*chosen)]

    every = [(seed, step, p) for seed in (0, 1) for step in range(3 - seed) for p in range(3)]
    assert places() == every
    assert places(run.steps) == [at for at in every if at[1] < 2]
    assert places([1], [1]) == [(1, 1, 0), (1, 1, 1), (1, 1, 2)]
    assert {record.pred_solution for *_, record in run.records([0])} >= {"?"}
    only = run.only([2, 0])
    assert [(place, record.id) for *_, place, record in only.records([0], [0])] == [
        (1, "aime-0"),
        (0, "aime-2"),
    ]


def test_a_file_that_holds_other_problems_than_when_it_was_read_is_named(tmp_path: Path) -> None:
    run = read(write_run(tmp_path), "x")
    write_step(tmp_path, 1, [ours(5, 1, 1)])
    with pytest.raises(UserError, match=r"predictions_1\.json changed while it was read"):
        list(run.records())


def test_a_run_that_goes_on_is_read_again_only_where_it_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path)
    (before,) = read_all([str(tmp_path)])
    write_step(tmp_path, 2, [ours(n, gold, 25) for n, gold in enumerate(GOLDS)])
    write_step(tmp_path, 1, [ours(n, gold, 7) for n, gold in enumerate(GOLDS)])
    opened: list[str] = []

    def counting(path: Path) -> Any:
        opened.append(path.name)
        return read_records(path)

    monkeypatch.setattr("kflow.results.records.read_records", counting)
    (now,) = read_all([str(tmp_path)], [before])
    assert opened == ["predictions_1.json", "predictions_2.json"]
    monkeypatch.undo()
    assert now == replace(read(tmp_path, now.name), label=now.label)
