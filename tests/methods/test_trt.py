"""Test-time recursive thinking rule by rule (docs/method.md, section 8)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from helpers import driver
from helpers.driver import content, headed
from kflow.loop.fit import fit
from kflow.method import LeftOut, StepNote
from kflow.methods.candidates import Candidate
from kflow.methods.notes import Notes
from kflow.methods.trt import Phase, State, Trt, View
from kflow.sections import pattern
from kflow.types import Entry, Prompt

ARMS = ["oss", "qwen"]
METHODS: dict[str, Trt] = {name: driver.method(f"vllm_{name}_trt") for name in ARMS}
TRT = METHODS["qwen"]
CONTEXT = driver.context(TRT)
each = pytest.mark.parametrize("name", ARMS)
A, B, C = Candidate("sol a", 1), Candidate("sol b", 2), Candidate("sol c", None)


def notes(*entries: str) -> Notes:
    return Notes("Q", tuple(map(Entry, entries)))


NOTES = notes("a b", "c")


def script(step: int, slot: int, prompt: Prompt) -> str:
    """What each kind of prompt asks for, with marks of step and slot."""
    mark = f"«{step}.{slot}»"
    if not prompt.asks_answer:
        texts = {"Best": "2", "Insight": f"Not {mark}.", "Drop": "N/A"}
        names = prompt.sections
        written = (f"[{n}]: {texts.get(n, f'{n} of {mark}')}" for n in names)
        return "Hm.</think>\n" + "\n".join(written)
    return rf"Hm.</think>[Summary]: Try {mark}. [Answer]: \boxed{{{10 * step + slot}}}"


@each
def test_a_whole_chain(name: str) -> None:
    method = METHODS[name]
    steps = driver.chain(method, driver.context(method), script, 17)
    assert [len(step.prompts) for step in steps] == [1, *[2, 1] * 8]
    assert [step.prompts[0].asks_answer for step in steps] == [False, *[True, False] * 8]
    assert {step.prompts[0].fraction for step in steps} == {0.9}
    # A round's majority is its first answer of two; candidate 2 is a round's first but in round 1.
    verdicts = [step.result.verdict for step in steps]
    assert verdicts[:7] == [None, 10, 11, 30, 30, 50, 50]
    solving = [step.prompts for step in steps[1::2]]
    for number, prompts in enumerate(solving):
        for slot, prompt in enumerate(prompts, 1):
            before = f"Strategy {slot} of «{2 * number}.0»"
            assert headed(content(prompt), "Strategy") == before
            listed = [f"Not «{2 * n}.0»." for n in range(max(1, number - 4), number + 1)]
            assert [entry.text for entry in prompt.shown] == listed
            numbered = "\n".join(f"{n}. {text}" for n, text in enumerate(listed, 1))
            assert headed(content(prompt), "Things That Failed") == (numbered or "N/A")
            assert "«1.0»" not in content(prompt)
    for number, step in enumerate(steps[2::2]):
        (prompt,) = step.prompts
        numbers = re.findall(r"### Candidate (\d)\n\[Summary\]: Try «(\d+\.\d)»", content(prompt))
        now = 2 * number + 1
        best = [] if not number else ["1.1" if number == 1 else f"{now - 2}.0"]
        solutions = [*best, f"{now}.0", f"{now}.1"]
        assert numbers == [(str(n), text) for n, text in enumerate(solutions, 1)]
        assert prompt.shown == solving[number][0].shown
        assert prompt.sections == ("Best", "Insight", "Drop", "Strategy 1", "Strategy 2")
        assert step.result.note.selected == 2


def reflected(state: State, text: str | None) -> tuple[State, StepNote, object]:
    result = driver.fold(TRT, CONTEXT, replace(state, phase=Phase.REFLECT), text)
    assert result.state.phase is Phase.SOLVE
    assert result.state.round == ()
    return result.state, result.note, result.verdict


@pytest.mark.parametrize(
    ("best", "round_", "text", "selected", "chosen"),
    [
        pytest.param(A, (B, C), "[Best]: 1", 1, A, id="the best so far"),
        pytest.param(A, (B, C), "[Best]: Candidate 2.", 2, B, id="the first of the round"),
        pytest.param(A, (B, C), "[Best]: not 2 but 3 [Insight]: 1", 3, C, id="its last integer"),
        pytest.param(A, (B, C), "[Best]: 4", None, A, id="no such candidate"),
        pytest.param(A, (B, C), "[Best]: 0", None, A, id="no candidate 0"),
        pytest.param(A, (B, C), "[Best]: the second", None, A, id="no number"),
        pytest.param(A, (B, C), None, None, A, id="failed"),
        pytest.param(None, (B, C), "[Best]: 2", 2, C, id="none before"),
        pytest.param(None, (C, B), None, None, C, id="none before, failed"),
        pytest.param(A, (), "[Best]: 1", 1, A, id="a round that failed"),
    ],
)
def test_the_selection(
    best: Candidate | None,
    round_: tuple[Candidate, ...],
    text: str | None,
    selected: int | None,
    chosen: Candidate,
) -> None:
    state, note, verdict = reflected(State(notes(), best=best, round=round_), text)
    assert (state.best, note.selected, verdict) == (chosen, selected, chosen.answer)
    assert (note.skipped == "the rollout failed") is (text is None)


@pytest.mark.parametrize(
    ("before", "text", "after", "dropped"),
    [
        pytest.param("ab", "[Insight]: c.", "ab c.", "", id="added"),
        pytest.param("ab", "[Insight]: c. [Drop]: 1", "b c.", "a", id="dropped before it is added"),
        pytest.param("ab", "[Insight]: c. [Drop]: 3", "ab c.", "", id="the new one has no number"),
        pytest.param("ab", "[Insight]: N/A. [Drop]: items 1, 2", "a", "b", id="its last integer"),
        pytest.param("ab", "[Insight]: [Drop]: 0", "ab", "", id="empty; no number 0"),
        pytest.param("ab", "[Insight] see [1] c. [Drop] N/A", "ab see [1] c.", "", id="brackets"),
        pytest.param("abcde", "[Insight]: f.", "bcde f.", "a", id="at most five"),
        pytest.param("abcde", "[Insight]: f. [Drop]: 5", "abcd f.", "e", id="first the drop"),
        pytest.param("ab", None, "ab", "", id="failed"),
    ],
)
def test_the_list(before: str, text: str | None, after: str, dropped: str) -> None:
    old, _, new = after.partition(" ")
    state, note, _ = reflected(State(notes(*before), round=(A, B)), text)
    expected = [*old, *([new] if new else [])]
    assert [entry.text for entry in state.notes.entries] == expected
    assert [entry.text for entry in note.added] == ([new] if new else [])
    assert [entry.text for entry in note.dropped] == [*dropped]
    why = "the rollout failed" if text is None else "" if new else "no insight"
    assert note.skipped == why


@pytest.mark.parametrize(
    ("text", "strategies"),
    [
        pytest.param("[Strategy 1]: Go. [Strategy 2]: Count.", ("Go.", "Count."), id="both"),
        pytest.param("[Strategy 2]: Count. [Strategy 1]: Go.", ("Go.", "Count."), id="reordered"),
        pytest.param("[Strategy 1]: [Strategy 2]: n/a", ("", ""), id="empty and N/A"),
        pytest.param("[Strategy 2]: A [1] b [Best]: 1", ("", "A [1] b"), id="to the next header"),
        pytest.param(None, ("", ""), id="failed"),
    ],
)
@pytest.mark.parametrize("phase", [Phase.DESIGN, Phase.REFLECT])
def test_the_strategies(phase: Phase, text: str | None, strategies: tuple[str, str]) -> None:
    state = State(notes("x"), phase, ("old", "old"), A if phase is Phase.REFLECT else None)
    result = driver.fold(TRT, CONTEXT, state, text)
    assert (result.state.phase, result.state.strategies) == (Phase.SOLVE, strategies)
    lists = [
        headed(content(TRT.render(v, CONTEXT)), "Strategy") for v in TRT.ask(result.state, CONTEXT)
    ]
    assert lists == [strategy or "N/A" for strategy in strategies]


@each
def test_without_list_and_strategy_it_is_method_1s_first_prompt(name: str) -> None:
    method, mistakes = METHODS[name], driver.method(f"vllm_kflow_{name}")
    first = driver.render(mistakes, driver.context(mistakes), mistakes.start("Q"))
    state = State(notes(), Phase.SOLVE, ("", "Go."))
    prompts = [method.render(view, driver.context(method)) for view in method.ask(state, CONTEXT)]
    assert prompts[0] == first != prompts[1]


@pytest.mark.parametrize(
    ("best", "replies", "verdict", "phase", "skipped"),
    [
        pytest.param(A, ["r 5", "s 6"], 5, Phase.REFLECT, "", id="the round's majority, a tie"),
        pytest.param(A, ["r", "s 6"], 6, Phase.REFLECT, "", id="no answer does not vote"),
        pytest.param(A, ["r", "s"], 1, Phase.REFLECT, "", id="no answer: the best's"),
        pytest.param(None, ["r", "s"], None, Phase.REFLECT, "", id="no answer at all"),
        pytest.param(A, [None, None], 1, Phase.REFLECT, "2 of 2 rollouts failed", id="both failed"),
        pytest.param(None, [None] * 2, None, Phase.DESIGN, "2 of 2 rollouts failed", id="nothing"),
    ],
)
def test_a_solving_step(
    best: Candidate | None,
    replies: list[str | None],
    verdict: object,
    phase: Phase,
    skipped: str,
) -> None:
    state = State(notes("x"), Phase.SOLVE, ("", ""), best)
    result = driver.fold(TRT, CONTEXT, state, *replies)
    assert (result.verdict, result.state.phase) == (verdict, phase)
    assert result.note == StepNote(skipped=skipped)
    assert [s.text for s in result.state.round] == [text for text in replies if text is not None]
    assert (result.state.best, result.state.notes) == (best, state.notes)
    assert len(TRT.ask(result.state, CONTEXT)) == 1


def test_a_prompt_that_does_not_fit_hides_entries_and_then_cuts_candidates() -> None:
    texts = ("Ax bx. Cx.", "Ax bx. Cx dx. Ex.")
    view = View(Phase.REFLECT, notes("a b", "c"), candidates=texts)
    text, left_out = driver.fitted(TRT, view, CONTEXT, 1)
    assert left_out == LeftOut(1)
    assert headed(text, "Things That Failed") == "2. c"
    assert driver.fitted(TRT, view, CONTEXT, 4)[1] == LeftOut(2)
    text, left_out = driver.fitted(TRT, view, CONTEXT, 5)
    assert left_out == LeftOut(2, 2)
    assert "### Candidate 2\nCx dx. Ex." in text
    assert TRT.shrink(View(Phase.DESIGN, notes()), 1, CONTEXT) is None


def test_a_strategy_is_cut_to_its_last_sentences_once_all_entries_are_hidden() -> None:
    view = View(Phase.SOLVE, notes("a b", "c"), strategy="Ax bx. Cx dx. Ex.")
    assert TRT.shrink(view, 1, CONTEXT) == (
        replace(view, notes=replace(NOTES, hidden=1)),
        LeftOut(1),
    )
    hidden = replace(view, notes=replace(NOTES, hidden=2))
    for excess, kept in ((1, "Cx dx. Ex."), (3, "Ex."), (5, ""), (99, "")):
        less = LeftOut(tokens=5 - driver.words(kept))
        assert TRT.shrink(hidden, excess, CONTEXT) == (replace(hidden, strategy=kept), less)
    assert TRT.shrink(replace(hidden, strategy=""), 1, CONTEXT) is None


def test_the_rest_of_a_truncated_design_does_not_fail_the_rollout_it_is_for() -> None:
    thoughts = "[Strategy 2] could be this. " + 400 * "Or is it that? "
    state = driver.fold(TRT, CONTEXT, TRT.start("Q"), thoughts).state
    _, view = TRT.ask(state, CONTEXT)
    context = replace(CONTEXT, window=1000)
    fitted = fit(TRT, view, context, lambda prompt: [0] * driver.words(content(prompt)))
    assert fitted.fits
    assert fitted.left_out.tokens > 500
    assert headed(content(fitted.prompt), "Strategy").endswith("Or is it that?")


def test_forced_sections_read_back() -> None:
    state = State(notes("x"), Phase.REFLECT, best=A, round=(B,))
    prompt = TRT.render(TRT.ask(state, CONTEXT)[0], CONTEXT)
    long = "so it is, as we have seen."
    reply = f"[Best]: 2\n[Insight]: {long}\n[Drop]: N/A\n[Strategy 1]: {long}\n[Strategy 2]: {long}"
    expression = pattern(prompt.sections, 1000, prompt.forms)
    assert re.fullmatch(expression, reply)
    assert not re.fullmatch(expression, reply.replace("[Best]: 2", "[Best]: the second one"))


@pytest.mark.parametrize("number", [1, 3])
def test_the_number_of_strategies_is_the_width_of_a_round(number: int) -> None:
    method = replace(TRT, strategies=number)
    steps = driver.chain(method, driver.context(method), script, 3)
    assert [len(step.prompts) for step in steps] == [1, number, 1]
    names = tuple(f"Strategy {n}" for n in range(1, number + 1))
    for step in (steps[0], steps[2]):
        assert step.prompts[0].sections[-number:] == names
        assert f"Number of attempts: {number}. " in content(step.prompts[0])
    assert steps[0].prompts[0].sections == names
