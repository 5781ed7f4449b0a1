"""Reading results folders: which runs there are and what is in them."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kflow.analysis.runs import differing_settings, outcome, read, read_all
from kflow.method import Note
from kflow.results.find import DEEPEST, find, names
from kflow.results.reading import journal, records
from kflow.results.rollout import ENCODE, Outcome, Rollout, outcome_of, to_json
from kflow.types import Entry, UserError
from results_on_disk import earlier, ours, wide, write_manifest, write_run, write_step

GOLDS = [25, "025", 7]
STEPS = [[25, 1, None], [25, 25, 7]]


def test_a_parent_a_glob_a_file_and_a_seed_folder_name_the_same_runs(tmp_path: Path) -> None:
    one = write_run(tmp_path / "vllm_131072_a" / "model", STEPS, GOLDS)
    two = tmp_path / "vllm_131072_b" / "model"
    for seed in (0, 1):
        write_run(two / f"seed_{seed}", STEPS, GOLDS)
    assert find([str(tmp_path)]).folders == (one, two)
    assert find([str(tmp_path / "vllm_*")]).folders == (one, two)
    assert find([str(two / "seed_1"), str(one / "predictions_0.json")]).folders == (two, one)
    assert find([str(one), str(tmp_path)]).folders == (one, two)


def test_a_name_with_the_marks_of_a_glob_is_a_name_first(tmp_path: Path) -> None:
    run = write_run(tmp_path / "vllm_64_[a]" / "m", STEPS, GOLDS)
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS)
    assert find([str(tmp_path / "vllm_64_[a]")]).folders == (run,)


def test_what_was_moved_aside_counts_only_by_its_own_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "vllm_64_" / "m", STEPS, GOLDS)
    aside = write_run(tmp_path / "vllm_64_" / "m.old-1", STEPS, GOLDS)
    assert find([str(tmp_path)]).folders == (run,)
    assert find([str(aside)]).folders == (aside,)


@pytest.mark.parametrize(
    "argument", ["", "nothing", "empty", "text.txt", "no*", "pipe", "\0", "a" * 5000, "loop"]
)
def test_an_argument_without_results_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").touch()
    os.mkfifo(tmp_path / "pipe")
    os.symlink("loop", tmp_path / "loop")
    with pytest.raises(UserError, match=re.escape(f"{argument} contains no results")):
        find([argument])


def test_an_empty_argument_is_not_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, STEPS, GOLDS)
    monkeypatch.chdir(tmp_path)
    assert find(["."]).folders == (tmp_path,)
    with pytest.raises(UserError, match="contains no results"):
        find([""])


def test_a_file_that_is_none_of_a_runs_names_nothing_beside_it(tmp_path: Path) -> None:
    write_run(tmp_path / "run", STEPS, GOLDS)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="contains no results"):
        find([str(tmp_path / "notes.txt")])


def test_links_below_an_argument_are_named_and_not_followed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "results" / "vllm_64_a" / "m", STEPS, GOLDS)
    outside = write_run(tmp_path / "outside", STEPS, GOLDS)
    os.symlink(".", tmp_path / "results" / "loop")
    os.symlink(outside, tmp_path / "results" / "there")
    located = find([str(tmp_path / "results")])
    assert located.folders == (run,)
    assert located.notes == tuple(
        f"{tmp_path}/results/{name} is left out: it is a link; name the folder it leads to"
        for name in ("loop", "there")
    )
    assert find([str(tmp_path / "results" / "there")]).folders == (outside,)


def test_folders_beyond_a_depth_are_named_and_not_searched(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", STEPS, GOLDS)
    tmp_path.joinpath(*["b"] * 60).mkdir(parents=True)
    located = find([str(tmp_path)])
    assert located.folders == (run,)
    assert f"is {DEEPEST} folders below {tmp_path}" in located.notes[0]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/r/vllm_64_a/m"], ["vllm_64_a"]),
        (["/somewhere/else"], ["else"]),
        (["/r/vllm_64_a/m", "/r/vllm_64_b/m"], ["vllm_64_a", "vllm_64_b"]),
        (["/r/vllm_64_a/m", "/r/vllm_64_a/n"], ["m", "n"]),
        (["/r/a/m", "/s/a/m"], ["r", "s"]),
        (["/r/a/m", "/r/b/n"], ["a/m", "b/n"]),
        (["/r/a/m", "/r/a/m/inner"], ["m", "m/inner"]),
    ],
)
def test_names_are_short_and_distinct(paths: list[str], expected: list[str]) -> None:
    assert names([Path(path) for path in paths]) == expected


def test_outcomes(tmp_path: Path) -> None:
    rows = [
        ours(0, 25, 25, finish_reason="length"),
        ours(1, 25, 3, finish_reason="length"),
        ours(2, 25, None, failure="the engine refused"),
        ours(3, 25, None),
        ours(4, 25, 3),
        ours(5, 25, None, asks_answer=False),
        wide([ours(6, 25, 3), ours(6, 25, 25)], 25),
    ]
    write_step(tmp_path, 0, rows)
    expected = ["right", "truncated", "failed", "no answer", "wrong", "not asked", "right"]
    assert [outcome(record) for record in read(tmp_path, "x").rollouts[0, 0]] == expected


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
    assert run.lists[0, 0] == ((2, 200, 20), (2, 200, None))
    first = run.rollouts[0, 0][0]
    assert (
        first.question,
        first.pred_solution,
        first.knowledge,
        first.note,
    ) == ("", "", (), None)
    assert next(records(run.files[0, 0])) == record


def test_settings_and_window_come_from_run_json(tmp_path: Path) -> None:
    settings = {"max_new_tokens": 4096, "reflex_size": 2}
    folder = write_run(tmp_path / "vllm_64_" / "m", STEPS, GOLDS, settings=settings)
    run = read(folder, "x")
    assert (run.window, run.session, run.notes) == (4096, {"commit": "c"}, ())


@pytest.mark.parametrize("stated", [0, -5, True, None, "64", 10**30, {}])
def test_a_window_that_cannot_be_is_the_folder_names(tmp_path: Path, stated: object) -> None:
    settings = {"max_new_tokens": stated}
    named = write_run(tmp_path / "vllm_64_" / "m", STEPS, GOLDS, settings=settings)
    assert read(named, "x").window == (True if stated is True else 64)
    assert read(write_run(tmp_path / "vllm_00_" / "m", STEPS, GOLDS), "x").window is None


@pytest.mark.parametrize(
    ("experiment", "ahead"),
    [
        ({"prefix": "mine", "ahead": True}, True),
        ({"prefix": "vllm", "ahead": False}, False),
        ({"prefix": "vllm", "ahead": "yes"}, False),
        (None, False),
    ],
)
def test_whether_all_rollouts_were_in_flight_at_once(
    tmp_path: Path, experiment: object, ahead: bool
) -> None:
    write_run(tmp_path, STEPS, GOLDS, experiment=experiment)
    assert read(tmp_path, "x").ahead is ahead


def test_only_steps_that_every_seed_has_count(tmp_path: Path) -> None:
    write_run(tmp_path / "seed_0", STEPS, GOLDS)
    write_run(tmp_path / "seed_3", STEPS[:1], GOLDS)
    (tmp_path / "seed_3" / "rollouts_1.jsonl").touch()
    run = read(tmp_path, "x")
    assert (run.seeds, run.steps) == ((0, 3), (0,))
    assert run.notes == (f"{tmp_path} is in progress: 1 step complete",)


def test_a_run_of_one_seed_that_others_joined_is_seed_0(tmp_path: Path) -> None:
    write_run(tmp_path, STEPS, GOLDS)
    write_run(tmp_path / "seed_1", STEPS, GOLDS)
    assert find([str(tmp_path)]).folders == (tmp_path,)
    assert read(tmp_path, "x").seeds == (0, 1)


def test_a_run_in_progress_says_how_far_it_is(tmp_path: Path) -> None:
    write_run(tmp_path, STEPS, GOLDS, settings={"reflex_size": 64})
    assert read(tmp_path, "x").notes == (f"{tmp_path} is in progress: 2 of 64 steps are complete",)


def test_steps_still_in_flight_are_not_missing(tmp_path: Path) -> None:
    write_run(tmp_path, [STEPS[0]] * 4, GOLDS, settings={"reflex_size": 4})
    (tmp_path / "predictions_1.json").rename(tmp_path / "rollouts_1.jsonl")
    (tmp_path / "predictions_2.json").unlink()
    run = read(tmp_path, "x")
    assert run.steps == (0, 3)
    assert run.notes == (
        f"{tmp_path} lacks step 2",
        f"{tmp_path} is in progress: 2 of 4 steps are complete",
    )


def test_a_run_at_its_first_step_is_left_out_while_others_are_read(tmp_path: Path) -> None:
    write_run(tmp_path / "a", STEPS, GOLDS)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "rollouts_0.jsonl").touch()
    (run,) = read_all([str(tmp_path)])
    assert run.notes == (
        f"{tmp_path}/b has no step that can be read for every seed: it is still at its first step.",
    )


def line(rollout: Rollout) -> bytes:
    return b'{"rollout":' + to_json(rollout) + b"}\n"


def test_a_journal_gives_what_is_there_with_its_outcome(tmp_path: Path) -> None:
    done = ours(0, 1, 1, note=Note(skipped="why"))
    slots = [ours(2, 1, 1, slot=1), ours(2, 1, 2, slot=0)]
    outcomes = [outcome_of(done), outcome_of(wide([slots[1], slots[0]], 1))]
    bare = replace(done, verdict=None, verdict_correct=False, note=None)
    path = tmp_path / "rollouts_0.jsonl"
    lines = [line(bare), line(ours(1, 1, 5)), *map(line, slots)]
    lines += [b'{"outcome":' + ENCODE.encode(each) + b"}\n" for each in outcomes]
    path.write_bytes(b"".join(lines) + line(bare)[:90])
    assert list(journal(path)) == [done, ours(1, 1, 5), *slots]


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
        write_run(tmp_path / name, STEPS, GOLDS, settings=settings)
    write_run(tmp_path / "c", STEPS, GOLDS)
    runs = read_all([str(tmp_path)])
    assert differing_settings(runs[:2]) == {"max_new_tokens": ["64", "65"], "top_k": ["-", "5"]}
    assert differing_settings(runs)["seed"] == ["0", "0", "-"]


def test_what_follows_from_the_method_is_not_listed_beside_it(tmp_path: Path) -> None:
    hashes = ("12ab" * 16, "34cd" * 16)
    one = {"method": "Mistakes", "fields": {"prefill": "a", "budget": 0.9}}
    two = {"method": "Markovian", "fields": {"nudge": "b"}}
    prompts = ({"first": hashes[0], "later": hashes[0]}, {"first": hashes[1]})
    for name, experiment, hashed in zip("ab", (one, two), prompts, strict=True):
        write_run(tmp_path / name, STEPS, GOLDS, experiment=experiment, prompts=hashed)
    assert differing_settings(read_all([str(tmp_path)])) == {
        "experiment.method": ["Mistakes", "Markovian"],
        "prompts.first": ["12ab12ab12ab", "34cd34cd34cd"],
    }


def test_an_earlier_and_todays_run_are_read_side_by_side(tmp_path: Path) -> None:
    write_run(tmp_path / "a", STEPS, GOLDS, earlier)
    write_run(tmp_path / "b", STEPS, GOLDS)
    write_manifest(tmp_path / "b", {})
    first, second = read_all([str(tmp_path)])
    assert first.problems == second.problems
    assert [r.correct for r in first.rollouts[0, 0]] == [r.correct for r in second.rollouts[0, 0]]


def test_outcome_is_what_a_journal_and_a_record_agree_on() -> None:
    record = ours(0, 1, 1)
    assert outcome_of(record) == Outcome(
        "aime-0", 1, True, Note(skipped="the answer did not change"), (1,), (True,)
    )
