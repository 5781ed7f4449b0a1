"""An answer type from outside: the one in docs/problems.md, from flag to reader."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_answer_types import answering

import kflow
from helpers.scripted import Ran, refused, run_script, write_problems
from kflow.answers import by_name
from kflow.types import UserError

DOCS = Path(__file__).parents[2] / "docs" / "problems.md"
TYPE = "my_answers:Word"


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with the docs' module, which is not imported yet."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
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


def test_it_grades_and_is_recorded_and_read_back(outside: Path) -> None:
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
        ("my_answers:re", ["not an answer type"]),
        ("word", ["integer, expression, choice"]),
    ],
)
def test_what_is_no_type_is_refused(kind: str, words: list[str], outside: Path) -> None:
    refused(run(outside, kind), *words)


def test_a_type_that_answers_to_another_name_is_refused(outside: Path) -> None:
    (outside / "my_answers.py").write_text("from kflow.answers import Integer as Whole")
    refused(run(outside, "my_answers:Whole"), "is the answer type 'integer'")
