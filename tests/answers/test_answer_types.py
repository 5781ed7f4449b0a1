r"""Runs whose answers are no integers, from the command line to the files and back; at the end of
the type in docs/problems.md, which stands outside of this package."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kflow
from helpers.fakes import ScriptedEngine
from helpers.scripted import Ran, refused, run_script, write_problems
from kflow.answers import by_name, worker
from kflow.types import Request, UserError

DOCS = Path(__file__).parents[2] / "docs" / "problems.md"
TYPE = "my_answers:Word"
HALVES = ["1/2", "0.5", "2", r"\frac{1}{2}", "3", r"\frac12"]
DATA = Path(__file__).parents[1] / "data"


def answering(answers: Callable[[Request], str]) -> ScriptedEngine:
    """Replies in the sections that a prompt asks for, with answers of our choice."""

    def script(request: Request, prompt: str) -> str:
        boxed = rf"\boxed{{{answers(request)}}}"
        return (
            f"Thinking.</think>\n\n[Error Report]: It was wrong.\n\n[Summary]: It is {boxed}.\n\n"
            f"[Answer]: {boxed}"
        )

    return ScriptedEngine(script)


def halves() -> ScriptedEngine:
    return answering(lambda request: HALVES[request.key.step])


def a_half(tmp_path: Path) -> list[str]:
    data = write_problems(tmp_path / "half.jsonl", [("half", "What is half of one?", "0.50")])
    return ["--dataset", str(data), "--answer_type", "expression", "--reflex_size", "6"]


@pytest.mark.parametrize("script", ["vllm_kflow_qwen", "vllm_qwen_parallel_thinking"])
def test_a_half_is_one_answer_however_it_is_written(script: str, tmp_path: Path) -> None:
    ran = run_script(script, a_half(tmp_path), tmp_path, halves())
    assert (ran.code, ran.complaints) == (0, [])
    records = [ran.step(step)[1] for step in range(6)]
    assert [record["predicted"] for record in records] == ["1/2", "1/2", "2", "1/2", "3", "1/2"]
    assert [record["correct"] for record in records] == [True, True, False, True, False, True]
    assert {record["gold"] for record in records} == {"0.50"}
    if "parallel" in script:
        assert [record["verdict"] for record in records] == ["1/2"] * 6
    else:  # written otherwise, it is no wrong answer
        assert [len(record["note"]["added"]) for record in records] == [0, 0, 1, 1, 1, 1]
    assert ran.run()["answers"] == "expression"


@pytest.mark.parametrize("given_up", [("1/2", "0.5"), ("0.50", "0.5"), ("0.50", "1/2")])
def test_a_comparison_that_was_given_up_is_on_record_and_not_made_again(
    given_up: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, compare = a_half(tmp_path), worker.same
    # A gold answer is compared where an answer is no other one of the chain.
    chain = [("1/2", "0.5")] if given_up == ("0.50", "0.5") else []
    hostile = [given_up, *chain]
    monkeypatch.setattr(worker, "same", lambda *p: None if p in hostile else compare(*p))
    ran = run_script("vllm_kflow_qwen", flags, tmp_path, halves())
    before = ran.predictions()
    recorded = [tuple(pair) for step in range(3) for pair in ran.step(step)[1]["undecided"]]
    assert sorted(recorded) == sorted(hostile)
    monkeypatch.setattr(worker, "same", compare)
    for path in ran.folder.glob("predictions_[345].json"):  # the others are replayed
        path.unlink()
    again = run_script("vllm_kflow_qwen", flags, tmp_path, halves())
    assert (again.code, again.complaints) == (0, [])
    assert again.predictions() == before


def test_choices_by_letter(tmp_path: Path) -> None:
    flags = ["--dataset", str(DATA / "choices.jsonl"), "--reflex_size", "2"]
    ran = run_script("vllm_kflow_qwen", flags, tmp_path, answering(lambda request: r"\text{(B)}"))
    assert (ran.code, ran.complaints) == (0, [])
    records = ran.step(1)[1:]
    assert {record["predicted"] for record in records} == {"B"}
    assert {record["gold"] for record in records} <= set("ABCD")
    assert [r["correct"] for r in records] == [r["gold"] == "B" for r in records]
    shuffled = ran.run()["problems"]["source"]["choice_order"]
    for number, record in enumerate(records):
        assert "ABCD"[shuffled[str(number)].index(0)] == record["gold"]
        right = json.loads((DATA / "choices.jsonl").read_text().splitlines()[number])
        assert f"({record['gold']}) {right['Correct Answer']}\n" in record["question"] + "\n"
    assert "a single letter" in records[0]["question"]
    assert r"\boxed{letter}" in records[0]["question"]


def test_the_prompt_and_the_form_are_the_types(tmp_path: Path) -> None:
    engine = halves()
    ran = run_script("vllm_kflow_qwen", [*a_half(tmp_path), "--force_sections"], tmp_path, engine)
    assert ran.code == 0
    question = ran.step(1)[1]["question"]
    assert "a mathematical expression, exact and simplified" in question
    assert r"\boxed{expression}" in question
    assert "integer" not in question
    assert all(r"\\boxed\{([^\n{}]|" in (request.pattern or "") for request in engine.requests)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with the docs' module, which is not imported yet."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    code += "\nfrom kflow.answers import Integer as Whole\n"
    (tmp_path / "my_answers.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_answers", None)


def run(folder: Path, kind: str = TYPE) -> Ran:
    data = write_problems(folder / "words.jsonl", [("cat", "What says miaow?", "cat")])
    flags = ["--dataset", str(data), "--answer_type", kind, "--reflex_size", "3"]
    words = ["Cat", "dog", "CAT"]
    return run_script(
        "vllm_kflow_qwen", flags, folder, answering(lambda request: words[request.key.step])
    )


def test_a_type_from_outside_grades_and_is_recorded_and_read_back(outside: Path) -> None:
    ran = run(outside)
    assert (ran.code, ran.complaints) == (0, [])
    records = [ran.step(step)[1] for step in range(3)]
    assert [record["predicted"] for record in records] == ["Cat", "dog", "Cat"]
    assert [record["correct"] for record in records] == [True, False, True]
    assert "a single word" in records[0]["question"]
    assert r"\boxed{word}" in records[0]["question"]
    assert ran.run()["answers"] == TYPE
    assert kflow.read(ran.folder).answers == by_name(TYPE)
    again = run(outside)
    assert (again.code, again.complaints) == (0, [])


def test_a_results_folder_imports_nothing(outside: Path) -> None:
    folder = run(outside).folder
    del sys.modules["my_answers"]
    with pytest.raises(UserError, match="not imported"):
        kflow.read(folder)
    assert "my_answers" not in sys.modules


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no_such_module:Word", ["no_such_module", "package.module:Type"]),
        ("my_answers:Number", ["not an answer type"]),
        ("my_answers:dataclass", ["not an answer type"]),
        ("my_answers:Whole", ["is the answer type 'integer'"]),
        ("word", ["integer, expression, choice"]),
    ],
)
def test_what_is_no_type_is_refused(kind: str, words: list[str], outside: Path) -> None:
    refused(run(outside, kind), *words)
