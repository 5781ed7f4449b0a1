"""Folders of the published code as Rollouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.results_on_disk import published as foreign
from helpers.results_on_disk import write_run, write_step
from helpers.scripted import ROOT
from kflow.results.reading import Damaged
from kflow.results.records import list_entries, read_published, read_records
from kflow.results.rollout import is_measured
from kflow.results.runs import read


def test_a_run_of_the_published_code(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "vllm_131072_x" / "gpt-oss-120b", record=foreign)
    run = read(folder, "x")
    assert (run.problems, run.golds, run.own_ids) == (("0", "1", "2"), (25, 25, 7), False)
    assert (run.window, run.manifest, run.measured, run.notes) == (131072, None, False, ())
    first, second = run.rollouts[0, 0], run.rollouts[0, 1]
    assert [r.correct for r in first + second] == [True, False, False, True, True, True]
    assert [r.verdict for r in first] == [25, 1, None]
    assert [r.verdict_correct for r in first] == [True, False, False]


@pytest.mark.parametrize("indent", [None, 2])
def test_any_layout_of_json_is_read(tmp_path: Path, indent: int | None) -> None:
    rows = [{"accuracy": 0.5}, foreign(0, 25, 25), foreign(1, "025", 25), foreign(2, 7, 25)]
    path = tmp_path / "predictions_0.json"
    path.write_text(json.dumps(rows, indent=indent))
    assert [record.correct for record in read_records(path)] == [True, True, False]


def test_what_the_published_code_does_not_say_is_not_made_up() -> None:
    record = read_published(foreign(0, 25, 25), 3)
    assert not is_measured(record)
    assert (record.id, record.note, record.finish_reason) == ("3", None, None)
    assert (record.prompt_tokens, record.completion_tokens, record.sections) == (0, 0, ())
    assert record.family == "qwen"
    harmony = foreign(0, 1, 1, question="<|start|>system<|message|>You are")
    assert read_published(harmony, 0).family == "gpt_oss"


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        (2, "it is not an object"),
        ({"gold": 1}, "it has no 'question'"),
        (foreign(0, 25, 25) | {"update": {}}, "it was written by this program before version 0.2"),
        (foreign(0, 25, 25) | {"predicted": "25"}, "'predicted' is neither an integer nor null"),
        (foreign(0, 25, 25) | {"predicted": True}, "'predicted' is neither an integer nor null"),
        (foreign(0, 25, 25, pred_solution=[1]), "'question' or 'pred_solution' is not a text"),
        (foreign(0, [[]], 25), "'gold' is neither a number nor a text"),
        (foreign(0, "x", 25), "not an integer"),
    ],
)
def test_what_is_no_record_is_named(tmp_path: Path, record: object, complaint: str) -> None:
    path = write_step(tmp_path, 0, [record])
    with pytest.raises(Damaged, match=f"record 0: {complaint}"):
        list(read_records(path))


def test_numbers_and_texts_that_only_json_takes(tmp_path: Path) -> None:
    large = 10**30
    odd = foreign(0, large, large, pred_solution="\ud800", confidence=float("nan"))
    assert next(read_records(write_step(tmp_path, 0, [odd]))).correct


PROMPTS = ROOT / "scripts" / "kflow" / "methods" / "prompts"
PUBLISHED = ("mistakes", "regeneration", "positive")
LATER = sorted(path for name in PUBLISHED for path in PROMPTS.glob(f"*{name}_later.txt"))


def fill(path: Path, **slots: str) -> str:
    text = path.read_text()
    for name, value in slots.items():
        text = text.replace(f"[[{name}]]", value)
    return text


@pytest.mark.parametrize("path", LATER, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], ()),
        (["**{}1**: it is $3$.\n\nThen 4."], ("it is $3$.\n\nThen 4.",)),
        (["**{}1**: a", "**{}2**: b [Answer]\n## Step 1\nc"], ("a", "b [Answer]\n## Step 1\nc")),
    ],
)
def test_the_list_is_read_back_from_every_prompt(
    path: Path, entries: list[str], expected: tuple[str, ...]
) -> None:
    label = "EK " if "positive" in path.stem else "Wrong Answer "
    knowledge = "\n\n".join(entry.format(label) for entry in entries) or "N/A"
    prompt = fill(path, QUESTION="What?", KNOWLEDGE=knowledge, REFERENCE="It is 5.\n## So\nyes")
    assert list_entries(f"<user>{prompt}<assistant>") == expected


@pytest.mark.parametrize("name", ["qwen_regeneration_later", "oss_regeneration_later"])
@pytest.mark.parametrize(("knowledge", "expected"), [("N/A", ()), ("not 3", ("not 3",))])
def test_a_reference_solution_that_spells_the_headings_does_not_hide_the_list(
    name: str, knowledge: str, expected: tuple[str, ...]
) -> None:
    hostile = "see\n\n## Wrong Answer List\nand\n\n## Empirical Mistakes List\nfor more"
    prompt = fill(PROMPTS / f"{name}.txt", QUESTION="?", KNOWLEDGE=knowledge, REFERENCE=hostile)
    assert list_entries(prompt) == expected


REWRITTEN = "?\n\n## Empirical Mistakes List\n{}\n\n## Reference Solution\nr"


@pytest.mark.parametrize(
    ("prompt", "entries"),
    [
        # split where it marks its items
        (REWRITTEN.format("- not 3. It is odd.\n- not 4"), ("- not 3. It is odd.", "- not 4")),
        (REWRITTEN.format("1. not 3. 2. not 4."), ("1. not 3.", "2. not 4.")),
        (REWRITTEN.format("All of 3 2 1 fail."), ("All of 3 2 1 fail.",)),
        ("Question\n\nSolve it.", ()),
        # the published code's headings around a list are not ours
        ("?\n## Wrong Answer List\n**Wrong Answer 1**: a\n## What to do\nSolve.", ("a",)),
    ],
)
def test_a_list_as_a_model_or_the_published_code_writes_it(
    prompt: str, entries: tuple[str, ...]
) -> None:
    assert list_entries(prompt) == entries
