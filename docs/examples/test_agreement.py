"""The example without a model: the method's rules, and a whole run that is interrupted, compared
and regraded although nothing of it is in the package. Nothing here needs this repository's tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kflow
from agreement import Agreement, State
from kflow import testing
from kflow.analysis import compare
from kflow.answers import AnswerType
from kflow.method import LeftOut
from kflow.testing import ScriptedEngine
from kflow.types import Entry, Request
from vllm_agreement import EXPERIMENT

METHOD = Agreement(most_entries=2)
CONTEXT = testing.context(METHOD)
PROBLEMS = (("How many roads lead there?", 101), ("How many birds?", 102), ("Why?", -4))


def says(lesson: str, answer: str) -> str:
    return f"[Lesson]: {lesson}\n\n[Answer]: \\boxed{{{answer}}}"


def after(*steps: tuple[str | None, ...], answers: AnswerType | None = None) -> tuple[object, ...]:
    """The verdict, the lessons and the last note's reason after steps of such replies."""
    context, state = testing.context(METHOD, answers=answers), METHOD.start("Q")
    for texts in steps:
        replies = tuple(text and testing.reply(METHOD, context, text) for text in texts)
        result = METHOD.update(state, replies, context)  # type: ignore[arg-type]
        state = result.state
    return result.verdict, [e.text for e in state.notes.entries], result.note.skipped


@pytest.mark.parametrize(
    ("steps", "verdict", "lessons", "skipped"),
    [
        ([(says("Count twice", "7"), says("Halve", "7"))], 7, ["count twice"], ""),
        ([(says("A", "7"), says("B", "8"))], None, [], "no two rollouts agree"),
        ([(says("A", "7"), None)], None, [], "no two rollouts agree"),
        ([("none", "none")], None, [], "no two rollouts agree"),
        ([(says("N/A", "7"), says("B", "7"))], 7, [], "no [Lesson] section"),
        ([(says("A", "8"), says("B", "7"), says("C", "7"))], 7, ["b"], ""),
        ([(says("A", "7"),) * 2, (says("B", "8"), None)], 7, ["a"], "no two rollouts agree"),
        ([(says(x, "7"),) * 2 for x in "ABC"], 7, ["b", "c"], ""),
    ],
)
def test_a_lesson_needs_two_who_agree(
    steps: list[tuple[str | None, ...]], verdict: object, lessons: list[str], skipped: str
) -> None:
    assert after(*steps) == (verdict, lessons, skipped)


def test_every_slot_is_shown_the_same_list_and_the_oldest_lesson_goes_first() -> None:
    lessons = (Entry("Old.", 7), Entry("New.", 7))
    notes = METHOD.start("How many?").notes
    state = State(type(notes)("How many?", lessons))
    views = METHOD.ask(state, CONTEXT)
    assert len(views) == METHOD.widths[0] == 2
    text = METHOD.render(views[1], CONTEXT).messages[0].content
    assert text.startswith("How many?\n")
    assert "## Lessons\n**Lesson 1**: Old.\n\n**Lesson 2**: New.\n" in text
    smaller = METHOD.shrink(views[0], 1, CONTEXT)
    assert smaller is not None
    assert smaller[0].shown == lessons[1:]
    assert smaller[1] == LeftOut(entries=1)
    assert "## Lessons\nN/A\n" in METHOD.render(notes, CONTEXT).messages[0].content


def agreeing(request: Request, prompt: str) -> str:
    """Two slots that agree at every other step."""
    answer = 101 if request.key.step % 2 == 0 else 101 + request.key.slot
    return f"Hm.</think>{says(f'Lesson of step {request.key.step}.', str(answer))}"


def work(home: Path, engine: ScriptedEngine) -> Path:
    return testing.run(EXPERIMENT, PROBLEMS, home, engine, reflex_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return work(tmp_path_factory.mktemp("agreement"), ScriptedEngine(agreeing))


def test_a_run_says_what_it_is(folder: Path) -> None:
    assert folder.parent.name == "agreement_32768_"
    experiment = json.loads((folder / "run.json").read_bytes())["experiment"]
    assert experiment["method"] == "agreement.Agreement"
    assert experiment["fields"] == {"rollouts_per_step": 2, "most_entries": 5, "budget": 0.9}
    assert experiment["rule"] == {"first": False, "fallback": True}
    assert (experiment["family"], experiment["family_fields"]) == (
        "thinking",
        {"no_thinking": False},
    )


def test_it_is_graded_again_and_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main(None, [str(folder), "--regrade", "--json"])
    (graded,) = json.loads(capsys.readouterr().out)["regraded"]
    assert (graded["checked"], graded["disagreements"]) == (18, [])
    compare.main(None, [str(folder), "--json"])
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert [step["rollouts"] for step in run["by_step"]] == [2, 4, 6]


def predictions(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("predictions_*.json"))]


def test_an_interruption_changes_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(kflow.RunEnded):
        work(tmp_path, ScriptedEngine(agreeing, order=1, stop_after=7))
    again = work(tmp_path, ScriptedEngine(agreeing, order=2))
    assert predictions(again) == predictions(folder)


def test_votes_are_by_the_answer_types_sameness(tmp_path: Path) -> None:
    """Answers are canonical when they reach the method, so that it may compare them with ==."""
    halves = (r"\frac{1}{2}", r"\frac{2}{4}")

    def script(request: Request, prompt: str) -> str:
        return says("Divide.", halves[request.key.slot])

    settings: dict[str, Any] = {"answer_type": "expression", "reflex_size": 1}
    rows = [("What is a half?", r"\frac{1}{2}")]
    ran = testing.run(EXPERIMENT, rows, tmp_path, ScriptedEngine(script), **settings)
    record = json.loads((ran / "predictions_0.json").read_bytes())[1]
    assert record["note"]["added"] == [{"text": "divide.", "answer": halves[0]}]
