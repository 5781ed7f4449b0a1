"""Reading results folders: which runs there are, what is in them, what is wrong with them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from kflow.analysis.knowledge import changes, shown
from kflow.analysis.runs import differing_settings, find, names, read, read_all
from kflow.prompts import PromptText
from kflow.types import UserError
from results_on_disk import ours, published, write_run, write_step

GOLDS = [25, "025", 7]
STEPS = [[25, 1, None], [25, 25, 7]]


def test_a_parent_a_glob_a_file_and_a_seed_folder_name_the_same_runs(tmp_path: Path) -> None:
    one = write_run(tmp_path / "vllm_131072_a" / "model", STEPS, GOLDS)
    two = tmp_path / "vllm_131072_b" / "model"
    for seed in (0, 1):
        write_run(two / f"seed_{seed}", STEPS, GOLDS)
    assert find([str(tmp_path)]) == [one, two]
    assert find([str(tmp_path / "vllm_*")]) == [one, two]
    assert find([str(two / "seed_1"), str(one / "predictions_0.json")]) == [two, one]
    assert find([str(one), str(tmp_path)]) == [one, two]


def test_a_name_with_the_marks_of_a_glob_is_a_name_first(tmp_path: Path) -> None:
    run = write_run(tmp_path / "vllm_64_[a]" / "m", STEPS, GOLDS)
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS)
    assert find([str(tmp_path / "vllm_64_[a]")]) == [run]


def test_what_was_moved_aside_counts_only_by_its_own_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "vllm_64_" / "m", STEPS, GOLDS)
    aside = write_run(tmp_path / "vllm_64_" / "m.old-1", STEPS, GOLDS)
    assert find([str(tmp_path)]) == [run]
    assert find([str(aside)]) == [aside]


@pytest.mark.parametrize("argument", ["", "nothing", "empty", "text.txt", "no*"])
def test_an_argument_without_results_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").touch()
    with pytest.raises(UserError, match=re.escape(f"{argument} holds no results")):
        find([argument])


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


def test_a_run_of_the_published_code(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "vllm_131072_x" / "gpt-oss-120b", STEPS, GOLDS, published)
    run = read(folder, "x")
    assert (run.problems, run.golds, run.own_ids) == (("0", "1", "2"), ("25", "25", "7"), False)
    assert (run.window, run.settings, run.notes) == (131072, None, ())
    first = run.rollouts[0, 0]
    assert [rollout.outcome for rollout in first] == ["right", "wrong", "no answer"]
    assert [rollout.outcome for rollout in run.rollouts[0, 1]] == ["right"] * 3
    assert first[0].completion_tokens is None
    assert first[0].cut_off is None


def test_outcomes_and_counts_of_our_records(tmp_path: Path) -> None:
    rows = [
        ours(0, 25, 25, finish_reason="length"),
        ours(1, 25, 3, finish_reason="length"),
        ours(2, 25, None, failure="the engine refused"),
        ours(3, 25, None),
        ours(4, 25, 3, update={"missing_sections": ["Summary"]}, carried_from=0),
    ]
    write_step(tmp_path, 0, rows)
    found = read(tmp_path, "x").rollouts[0, 0]
    assert [r.outcome for r in found] == ["right", "cut off", "failed", "no answer", "wrong"]
    assert [r.no_answer for r in found] == [False, False, False, True, False]
    assert [r.unparsed for r in found] == [False, False, False, False, True]
    assert [r.carried for r in found] == [False, False, False, False, True]


def test_settings_and_window_come_from_run_json(tmp_path: Path) -> None:
    settings = {"max_new_tokens": 4096, "experiment": {"prefix": "vllm"}}
    folder = write_run(tmp_path / "vllm_64_" / "m", STEPS, GOLDS, settings=settings)
    run = read(folder, "x")
    assert run.window == 4096
    assert run.settings == settings
    assert run.session == {"flags": {"reflex_size": 2}}


def test_only_steps_that_every_seed_has_count(tmp_path: Path) -> None:
    write_run(tmp_path / "seed_0", STEPS, GOLDS)
    write_run(tmp_path / "seed_3", STEPS[:1], GOLDS)
    (tmp_path / "seed_3" / "rollouts_1.jsonl").touch()
    run = read(tmp_path, "x")
    assert (run.seeds, run.steps) == ((0, 3), (0,))
    assert run.notes == (f"{tmp_path} is in progress: 1 steps are complete",)


def test_a_run_in_progress_says_how_far_it_is(tmp_path: Path) -> None:
    write_run(tmp_path, STEPS, GOLDS, settings={}, reflex_size=64)
    assert read(tmp_path, "x").notes == (f"{tmp_path} is in progress: 2 of 64 steps are complete",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "it is not JSON"),
        ("[{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("{}", "it is not a list of a summary and records"),
        ("[]", "it is not a list of a summary and records"),
        ("[1, 2]", "its first element is not a summary"),
        ('[{"accuracy": 1}, 2]', "record 0 is not an object"),
        ('[{"accuracy": 1}, {"gold": 1}]', "record 0 has no 'question'"),
        (json.dumps([{"accuracy": 1}, published(0, 25, 25), {}]), "record 1 has no 'question'"),
        (
            json.dumps([{"accuracy": 1}, published(0, 25, 25) | {"predicted": "25"}]),
            "record 0: 'predicted' is neither an integer nor null",
        ),
        (
            json.dumps([{"accuracy": 1}, published(0, 25, 25) | {"predicted": True}]),
            "record 0: 'predicted' is neither an integer nor null",
        ),
        (
            json.dumps([{"accuracy": 1}, published(0, 25, 25, pred_solution=[1])]),
            "record 0: 'pred_solution' is not a text",
        ),
        (
            json.dumps([{"accuracy": 1}, published(0, 25, 25)]),
            "it differs from the files before it: 3 problems against 1",
        ),
        (
            json.dumps([{"accuracy": 1}, *(published(n, 25, 25) for n in range(3))]),
            "it differs from the files before it: the gold answer of 2 is 7 against 25",
        ),
        (
            json.dumps([{"accuracy": 1}, *(published(0, 25, 25, id="a") for _ in range(3))]),
            "two records have the same id",
        ),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_read(tmp_path: Path, content: str, told: str) -> None:
    write_run(tmp_path, [*STEPS, STEPS[0]], GOLDS, published)
    (tmp_path / "predictions_1.json").write_text(content)
    run = read(tmp_path, "x")
    assert run.steps == (0, 2)
    assert run.notes[0].startswith(f"{tmp_path / 'predictions_1.json'} is left out: {told}")
    assert run.notes[1] == f"{tmp_path} lacks step 1"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": 1, "sessions": [{}]}'])
def test_a_damaged_run_json_is_named_and_the_steps_read(tmp_path: Path, content: str) -> None:
    write_run(tmp_path, STEPS, GOLDS)
    (tmp_path / "run.json").write_text(content)
    run = read(tmp_path, "x")
    assert run.settings is None
    assert run.notes[0].startswith(f"{tmp_path / 'run.json'} is left out: ")


def test_a_run_without_a_readable_step_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "predictions_0.json").write_text("[")
    with pytest.raises(UserError, match=r"no step that can be read.*is not JSON"):
        read_all([str(tmp_path)])


def test_numbers_and_texts_that_only_json_takes(tmp_path: Path) -> None:
    large = 10**30
    write_step(tmp_path, 0, [published(0, large, large, pred_solution="\ud800", conf=float("nan"))])
    assert read(tmp_path, "x").rollouts[0, 0][0].correct


def test_settings_that_differ_are_listed_with_their_values(tmp_path: Path) -> None:
    one: dict[str, Any] = {"seed": 0, "sampling": {"temperature": 0.6, "top_k": 5}, "model": {}}
    two: dict[str, Any] = {"seed": 0, "sampling": {"temperature": 1.0}, "model": {}}
    for name, settings in (("a", one), ("b", two)):
        write_run(tmp_path / name, STEPS, GOLDS, settings=settings)
    write_run(tmp_path / "c", STEPS, GOLDS)
    runs = read_all([str(tmp_path)])
    assert differing_settings(runs[:2]) == {
        "sampling.temperature": ["0.6", "1.0"],
        "sampling.top_k": ["5", "-"],
    }
    assert differing_settings(runs)["seed"] == ["0", "0", "-"]


def test_what_follows_from_the_method_is_not_listed_beside_it(tmp_path: Path) -> None:
    hashes = ("12ab" * 16, "34cd" * 16)
    one = {
        "experiment": {"method": "Mistakes", "opening": "a", "budget": 0.9},
        "prompts": {"first": hashes[0], "later": hashes[0]},
    }
    two = {"experiment": {"method": "Markovian", "nudge": "b"}, "prompts": {"first": hashes[1]}}
    for name, settings in (("a", one), ("b", two)):
        write_run(tmp_path / name, STEPS, GOLDS, settings=settings)
    assert differing_settings(read_all([str(tmp_path)])) == {
        "experiment.method": ["Mistakes", "Markovian"],
        "prompts.first": ["12ab12ab12ab", "34cd34cd34cd"],
    }


PROMPTS = Path(__file__).resolve().parents[1] / "scripts" / "kflow" / "prompts"


@pytest.mark.parametrize("name", sorted(path.stem for path in PROMPTS.glob("*_later.txt")), ids=str)
@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], ()),
        (["**{}1**: it is $3$.\n\nThen 4."], ("it is $3$.\n\nThen 4.",)),
        (["**{}1**: a", "**{}2**: b [Answer]\n## Step 1\nc"], ("a", "b [Answer]\n## Step 1\nc")),
    ],
)
def test_the_list_is_read_back_from_every_prompt(
    name: str, entries: list[str], expected: tuple[str, ...]
) -> None:
    label = "EK " if "positive" in name else "Wrong Answer "
    knowledge = "\n\n".join(entry.format(label) for entry in entries) or "N/A"
    text = PromptText((PROMPTS / f"{name}.txt").read_text())
    prompt = text.fill(QUESTION="What?", KNOWLEDGE=knowledge, REFERENCE="It is 5.\n## So\nyes")
    assert shown(f"<user>{prompt}<assistant>") == expected


@pytest.mark.parametrize("name", ["qwen_regeneration_later", "oss_regeneration_later"])
@pytest.mark.parametrize(("knowledge", "expected"), [("N/A", ()), ("not 3", ("not 3",))])
def test_a_reference_solution_that_spells_the_headings_does_not_hide_the_list(
    name: str, knowledge: str, expected: tuple[str, ...]
) -> None:
    text = PromptText((PROMPTS / f"{name}.txt").read_text())
    hostile = "see\n\n## Wrong Answer List\nand\n\n## Empirical Mistakes List\nfor more"
    prompt = text.fill(QUESTION="?", KNOWLEDGE=knowledge, REFERENCE=hostile)
    assert shown(prompt) == expected


def test_a_rewritten_list_is_split_where_it_marks_its_items() -> None:
    prompt = "?\n\n## Empirical Mistakes List\n{}\n\n## Reference Solution\nr"
    assert shown(prompt.format("- not 3. It is odd.\n- not 4")) == (
        "- not 3. It is odd.",
        "- not 4",
    )
    assert shown(prompt.format("1. not 3. 2. not 4.")) == ("1. not 3.", "2. not 4.")
    assert shown(prompt.format("All of 3 2 1 fail.")) == ("All of 3 2 1 fail.",)
    assert shown("Question\n\nSolve it.") is None


def test_a_list_with_other_headings_around_it_ends_at_the_next() -> None:
    """The published code's wording around the lists is not ours."""
    assert shown("?\n## Wrong Answer List\n**Wrong Answer 1**: a\n## What to do\nSolve.") == ("a",)


def test_changes_between_two_lists() -> None:
    assert changes(("a", "b"), ("b", "c")) == (("c",), ("a",))


def test_a_folder_that_cannot_be_entered_is_named_not_a_traceback(tmp_path: Path) -> None:
    """A loop of links stands in for any folder the system refuses."""
    write_run(tmp_path / "run", STEPS, GOLDS)
    os.symlink(tmp_path / "run" / "predictions_9.json", tmp_path / "run" / "predictions_9.json")
    run = read(tmp_path / "run", "x")
    assert run.steps == (0, 1)
    assert "predictions_9.json is left out" in run.notes[0]
