"""The mistakes list, rule by rule, as both families' scripts set it up: docs/method.md, section
1."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from helpers import driver
from helpers.driver import headed
from kflow.answers import Integer
from kflow.method import StepResult
from kflow.methods.mistakes import Mistakes, State
from kflow.types import Answer, Entry

METHODS: dict[str, Mistakes] = {
    name: driver.method(f"vllm_kflow_{name}") for name in ("oss", "oss24", "qwen", "qwen24")
}
OSS, QWEN = METHODS["oss"], METHODS["qwen"]
CONTEXTS = {name: driver.context(method) for name, method in METHODS.items()}
WHY, REPORT = "[Why the reference solution is wrong?]", "[Error Report]"
HEADER = {name: WHY if name.startswith("oss") else REPORT for name in METHODS}
START = OSS.start("What is 1+1?")
LATER = State("What is 1+1?", (), "the reference")

each_method = pytest.mark.parametrize("name", METHODS)


def written(header: str, answer: Answer | None, error: str = "Slip.") -> str:
    boxed = "none" if answer is None else rf"\boxed{{{answer}}}"
    return f"{header}: {error}\n[Summary]: Add.\n[Answer]: {boxed}"


def learn(name: str, state: State, *texts: str) -> StepResult[State]:
    return driver.learn(METHODS[name], CONTEXTS[name], state, *texts)


def visible(name: str, text: str, shown: str) -> StepResult[State]:
    """The first reply of a chain, of which only a part is visible."""
    reply = driver.reply(METHODS[name], CONTEXTS[name], text, shown)
    return METHODS[name].update(START, (reply,), CONTEXTS[name])


def chain(name: str, *answers: Answer | None) -> StepResult[State]:
    """A chain of well-formed replies whose error reports say `Slip a.`, `Slip b.` and so on."""
    replies = zip("abcdef", answers, strict=False)
    texts = [written(HEADER[name], answer, f"Slip {letter}.") for letter, answer in replies]
    return learn(name, START, *texts)


def content(name: str, state: State) -> str:
    return driver.content(driver.render(METHODS[name], CONTEXTS[name], state))


def entries(result: StepResult[State]) -> tuple[Entry, ...]:
    return result.state.entries


@each_method
def test_budget_sections_prefill_and_twins(name: str) -> None:
    method, twin = METHODS[name], METHODS[name.removesuffix("24")]
    assert replace(method, later=twin.later) == twin
    prompts = [driver.render(method, CONTEXTS[name], state) for state in (START, LATER)]
    assert [prompt.fraction for prompt in prompts] == [0.9, 0.9]
    assert prompts[0].sections == ("Summary", "Answer")
    assert prompts[1].sections == (HEADER[name].strip("[]"), "Summary", "Answer")
    assert [prompt.continues for prompt in prompts] == ["", ""]
    assert [bool(prompt.prefill) for prompt in prompts] == [False, name.startswith("qwen")]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        pytest.param("[Summary]: One is 1.\n[Answer]: 2", "one is 1.", id="in order"),
        pytest.param("[Summary] a [Answer] 1 [Summary] B [Answer] 2", "b", id="the last summary"),
        pytest.param("[Answer]: 2\n[Summary]: One and", "one and", id="reordered, truncated"),
        pytest.param("[Summary]:\n[Answer]: 2", "", id="empty"),
        pytest.param("Sum: It is 2.\n[Answer]: 2", "Sum: It is 2.\n[Answer]: 2", id="no header"),
        pytest.param("", "", id="nothing visible"),
    ],
)
@each_method
def test_the_summary_becomes_the_reference(name: str, text: str, reference: str) -> None:
    state = visible(name, "thoughts, " + text, text).state
    assert state.reference == reference
    assert headed(content(name, state), "Reference Solution") == reference


@each_method
def test_a_changed_answer_files_an_entry_under_the_one_before(name: str) -> None:
    result = chain(name, 1, 2)
    (entry,) = entries(result)
    assert (entry.answer, result.verdict) == (1, 2)
    assert entry.text.removeprefix(": ").lower().startswith("slip b.")
    assert result.note.added == (entry,)
    assert [entry.answer for entry in entries(chain(name, 1, 2, 3))] == [1, 2]


@pytest.mark.parametrize(("limit", "kept"), [(1, "e"), (2, "ce"), (3, "ace"), (4, "ace")])
def test_the_newest_entries_of_an_answer_are_kept(limit: int, kept: str) -> None:
    method = replace(OSS, entries_per_answer=limit)
    texts = [
        written(WHY, answer, slip) for slip, answer in zip("-a-c-e-", (1, 2) * 4, strict=False)
    ]
    result = driver.learn(method, CONTEXTS["oss"], START, *texts)
    slips = [entry.text[2] for entry in entries(result) if entry.answer == 1]
    assert "".join(slips) == kept


class Parity(Integer):
    """Answers are the same when both are even or both odd."""

    def same(self, gold: Any, other: Any) -> bool:
        return bool(gold % 2 == other % 2)


@each_method
def test_sameness_is_the_answer_types(name: str) -> None:
    method = METHODS[name]
    context = driver.context(method, answers=Parity())
    texts = [written(HEADER[name], answer, f"Slip {answer}.") for answer in (1, 3, 2, 5, 4, 7, 6)]
    result = driver.learn(method, context, method.start("Q"), *texts)
    slips = [re.findall(r"[Ss]lip (\d)", entry.text)[0] for entry in entries(result)]
    assert slips == (["7", "6"] if name.startswith("oss") else ["5", "4", "7", "6"])
    assert [re.findall(r"[Ss]lip (\d)", e.text)[0] for e in result.note.dropped] == (
        ["4"] if name.startswith("oss") else ["2"]
    )


NO_ANSWER = "no answer in the answer section"


@pytest.mark.parametrize(
    ("before", "reply", "why"),
    [
        pytest.param((), written("{E}", 2), "no answer before this one", id="first reply"),
        pytest.param((1, 2), written("{E}", 2), "the answer did not change", id="agreement"),
        pytest.param((1,), written("Report", 2), "no {E} section", id="no header"),
        pytest.param((1,), written("{E}", None), NO_ANSWER, id="no integer"),
        pytest.param((1,), r"[Answer]: \boxed{2} {E}", "an empty {E} section", id="empty, last"),
        pytest.param((1,), "", NO_ANSWER, id="empty reply"),
    ],
)
@each_method
def test_no_entry_and_why(name: str, before: tuple[int, ...], reply: str, why: str) -> None:
    state = replace(LATER, entries=(Entry("old", 1),), answers=before)
    result = learn(name, state, reply.replace("{E}", HEADER[name]))
    assert entries(result) == state.entries
    assert result.note.skipped == why.replace("{E}", HEADER[name])
    assert result.note.added == ()
    empty = "an empty" in why
    assert result.note.truncated == ((HEADER[name].strip("[]"),) if empty else ())


@pytest.mark.parametrize(
    ("reply", "added"),
    [
        pytest.param(r"[Answer]: \boxed{2} {E} x [Answer]: \boxed{1}", 0, id="the last section"),
        pytest.param(r"{E}: it is \boxed{2}", 1, id="no answer section: the visible answer"),
        pytest.param(r"[Answer]: \boxed{1} {E}: no.", 0, id="reordered, the same answer"),
    ],
)
@each_method
def test_where_this_answer_is_read(name: str, reply: str, added: int) -> None:
    result = learn(name, chain(name, 1).state, reply.replace("{E}", HEADER[name]))
    assert len(entries(result)) == added


def test_the_answer_before_comes_from_the_whole_reply() -> None:
    thought = r"It may be \boxed{5} or 6. "
    shown = rf"{WHY}: no \boxed{{7}}. [Answer]: \boxed{{8}} or \boxed{{9}}"
    assert visible("oss", thought + shown, shown).state.answers == (5,)
    assert visible("qwen", thought + shown, shown).state.answers == (9,)
    assert visible("qwen", thought, "").state.answers == (5,)


def test_gpt_oss_reads_the_first_box_and_skips_replies_without_one() -> None:
    state = chain("oss", 1).state
    assert entries(learn("oss", state, rf"{WHY}: no. [Answer]: \boxed{{1}} \boxed{{2}}")) == ()
    assert learn("oss", state, f"{WHY}: no. [Answer]: 2").state.answers == (1,)
    assert learn("oss", state, "New text.").state.reference == "New text."
    assert chain("oss", 1, None, 2).state.answers == (1, 2)
    assert [entry.answer for entry in entries(chain("oss", 1, None, 2))] == [1]
    assert entries(chain("oss", None, 1)) == ()


def test_qwen_reads_the_last_box_or_integer_and_skips_no_reply() -> None:
    state = chain("qwen", 1).state
    two = rf"{REPORT}: no. [Summary] x [Answer]: \boxed{{1}} \boxed{{2}}"
    assert entries(learn("qwen", state, two)) == (Entry("no.", 1),)
    last = f"{REPORT}: no. [Summary] x [Answer]: 2"
    assert learn("qwen", state, last).state.answers == (1, 2)
    assert chain("qwen", 1, None, 2).state.answers == (1, None, 2)
    assert [entry.answer for entry in entries(chain("qwen", 1, None, 2))] == [None]
    empty = learn("qwen", state, written(REPORT, 2, error=""))
    assert (entries(empty), empty.note.skipped) == ((), f"an empty {REPORT} section")


SLIP = "{E}: Slip: in 2.\n[Summary]: Add.\n[Answer]: \\boxed{2}"


@pytest.mark.parametrize(
    ("visible", "oss", "qwen"),
    [
        pytest.param(SLIP, SLIP.removeprefix("{E}"), "slip: in 2.", id="in order"),
        pytest.param("{E}: One. " + SLIP, SLIP.removeprefix("{E}"), "slip: in 2.", id="repeated"),
        pytest.param("[Summary] a [Answer] \\boxed{2} {E}: No.", ": No.", "no.", id="reordered"),
        pytest.param("{E} So \\boxed{2} and", "So \\boxed{2} and", "so \\boxed{2} and", id="cut"),
    ],
)
@each_method
def test_the_text_of_an_entry(name: str, visible: str, oss: str, qwen: str) -> None:
    result = learn(name, chain(name, 1).state, visible.replace("{E}", HEADER[name]))
    assert entries(result) == (Entry(oss if name.startswith("oss") else qwen, 1),)


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        (0, "**Wrong Answer 1**: third\n\n**Wrong Answer 2**: second\n\n**Wrong Answer 3**: first"),
        (1, "**Wrong Answer 1**: third\n\n**Wrong Answer 2**: second"),
        (3, "N/A"),
    ],
    ids=["none hidden", "one", "all"],
)
@each_method
def test_hidden_entries_are_the_oldest(name: str, hidden: int, shown: str) -> None:
    listed = (Entry("first", 1), Entry("second", 2), Entry("third", 3))
    prompt = driver.render(
        METHODS[name], CONTEXTS[name], replace(LATER, entries=listed, hidden=hidden)
    )
    heading = "Empirical Mistakes List" if name.startswith("oss") else "Wrong Answer List"
    assert headed(prompt.messages[0].content, heading) == shown
    assert prompt.shown == listed[hidden:][::-1]
