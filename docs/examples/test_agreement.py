"""The example without a model: the method's rules, and a whole run that is compared, regraded and
shown although nothing of it is in the package. The helpers are those of tests/helpers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agreement import Agreement, State
from helpers import driver, pages
from helpers.fakes import ScriptedEngine
from helpers.scripted import QUESTIONS, Ran, refused, run_script
from kflow.analysis import compare
from kflow.answers import AnswerType
from kflow.method import LeftOut
from kflow.types import Entry, Request

METHOD = Agreement(most_entries=2)
CONTEXT = driver.context(METHOD)


def says(lesson: str, answer: str) -> str:
    return f"[Lesson]: {lesson}\n\n[Answer]: \\boxed{{{answer}}}"


def after(*steps: tuple[str | None, ...], answers: AnswerType | None = None) -> tuple[object, ...]:
    """The verdict, the lessons and the last note's reason after steps of such replies."""
    context, state = driver.context(METHOD, answers=answers), METHOD.start("Q")
    for texts in steps:
        replies = tuple(text and driver.reply(METHOD, context, text) for text in texts)
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


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    home = tmp_path_factory.mktemp("agreement")
    return run_script("vllm_agreement", ["--reflex_size", "3"], home, ScriptedEngine(agreeing))


def test_a_run_ends_well_and_says_what_it_is(ran: Ran) -> None:
    assert (ran.code, ran.complaints) == (0, [])
    assert ran.folder.parent.name == "agreement_32768_"
    experiment = ran.run()["experiment"]
    assert experiment["method"] == "agreement.Agreement"
    assert experiment["fields"] == {"rollouts_per_step": 2, "most_entries": 5, "budget": 0.9}
    assert experiment["rule"] == {"first": False, "fallback": True}
    assert (experiment["family"], experiment["family_fields"]) == (
        "thinking",
        {"no_thinking": False},
    )


def test_it_is_graded_again_and_compared(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main(None, [str(ran.folder), "--regrade", "--json"])
    (graded,) = json.loads(capsys.readouterr().out)["regraded"]
    assert (graded["checked"], graded["disagreements"]) == (18, [])
    compare.main(None, [str(ran.folder), "--json"])
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert [step["rollouts"] for step in run["by_step"]] == [2, 4, 6]


def test_the_page_shows_its_sections_lessons_and_notes(ran: Ran, tmp_path: Path) -> None:
    page = pages.write_page(ran.folder, at=tmp_path / "r.html")
    for problem in range(len(QUESTIONS)):
        first, second, third = page.chain(0, 0, problem)
        slot = third["slots"][1]
        assert slot["sections"] == ["Lesson", "Answer"]
        assert slot["texts"][2:] == ["Hm.</think>", says("Lesson of step 2.", "101")]
        assert slot["list"] == ["lesson of step 0."]
        assert (first["note"]["added"], first["verdict"]) == (["lesson of step 0."], "101")
        assert (second["note"]["skipped"], second["verdict"]) == ("no two rollouts agree", "101")


def test_an_interruption_changes_nothing(ran: Ran, tmp_path: Path) -> None:
    flags = ["--reflex_size", "3"]
    stopped = ScriptedEngine(agreeing, order=1, stop_after=7)
    assert run_script("vllm_agreement", flags, tmp_path, stopped).code == 1
    again = run_script("vllm_agreement", flags, tmp_path, ScriptedEngine(agreeing, order=2))
    assert (again.code, again.predictions()) == (0, ran.predictions())


def test_flags_of_method_and_family_are_recorded_and_decide_which_run_it_is(tmp_path: Path) -> None:
    usage = run_script("vllm_agreement", ["--help"], tmp_path).out
    assert usage.index("the method:") < usage.index("the family:") < usage.index("sampling:")
    one = ["--reflex_size", "1", "--limit", "1"]
    flags = [*one, "--rollouts_per_step", "3", "--no_thinking", "--reasoning_effort", "low"]
    engine = ScriptedEngine()
    ran = run_script("vllm_agreement", flags, tmp_path, engine)
    assert len(engine.requests) == 3
    experiment = ran.run()["experiment"]
    assert experiment["fields"]["rollouts_per_step"] == 3
    assert experiment["family_fields"] == {"no_thinking": True}
    assert experiment["reasoning_effort"] == "low"
    changed = run_script("vllm_agreement", [*one, "--rollouts_per_step", "3"], tmp_path)
    refused(changed, "family_fields.no_thinking", 'reasoning_effort: "low" -> null')
    refused(run_script("vllm_agreement", ["--rollouts_per_step", "1"], tmp_path), "at least 2")


def test_votes_are_by_the_answer_types_sameness(tmp_path: Path) -> None:
    """Answers are canonical when they reach the method, so that it may compare them with ==."""
    problems = tmp_path / "problems.jsonl"
    problems.write_text(json.dumps({"problem": "What is a half?", "answer": r"\frac{1}{2}"}))
    halves = (r"\frac{1}{2}", r"\frac{2}{4}")

    def script(request: Request, prompt: str) -> str:
        return says("Divide.", halves[request.key.slot])

    flags = ["--answer_type", "expression", "--dataset", str(problems), "--reflex_size", "1"]
    ran = run_script("vllm_agreement", flags, tmp_path, ScriptedEngine(script))
    assert ran.step(0)[1]["note"]["added"] == [{"text": "divide.", "answer": halves[0]}]
