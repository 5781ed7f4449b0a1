"""The mistakes list, rule by rule, as both families' scripts set it up: METHOD.md, section 1."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from typing import get_args, get_type_hints

import pytest

from kflow import prompts
from kflow.methods.mistakes import Mistakes
from kflow.sentences import TokenMeasure
from kflow.types import Answer, Entry, Problem, Prompt, Reply, State

METHODS: dict[str, Mistakes] = {
    name: import_module(f"vllm_kflow_{name}").EXPERIMENT.method
    for name in ("oss", "oss24", "qwen", "qwen24")
}
OSS, QWEN = METHODS["oss"], METHODS["qwen"]
MEASURE = TokenMeasure(10_000, len)
WHY, REPORT = "[Why the reference solution is wrong?]", "[Error Report]"
HEADER = {name: WHY if name.startswith("oss") else REPORT for name in METHODS}
START = State("What is 1+1?")
LATER = State("What is 1+1?", (), "the reference")

each_method = pytest.mark.parametrize("name", METHODS)


def written(header: str, answer: Answer, error: str = "Slip.") -> str:
    boxed = "none" if answer is None else rf"\boxed{{{answer}}}"
    return f"{header}: {error}\n[Summary]: Add.\n[Answer]: {boxed}"


def learn(method: Mistakes, state: State, *texts: str) -> State:
    for text in texts:
        state = method.update(state, Reply(text=text, visible=text), MEASURE)
    return state


def chain(name: str, *answers: Answer) -> State:
    """A chain of well-formed replies whose error reports say `Slip a.`, `Slip b.` and so on."""
    replies = zip("abcdef", answers, strict=False)
    texts = [written(HEADER[name], answer, f"Slip {letter}.") for letter, answer in replies]
    return learn(METHODS[name], START, *texts)


def ask(name: str, state: State) -> Prompt:
    method = METHODS[name]
    return method.messages(state, prompts.load(prompts.FOLDER, method.prompts), MEASURE)


def content(name: str, state: State) -> str:
    (message,) = ask(name, state).messages
    return message.content


def headed(text: str, heading: str) -> str:
    """What a prompt shows under a heading."""
    return text.partition(f"## {heading}\n")[2].partition("\n\n## ")[0]


@each_method
def test_budget_sections_and_twins(name: str) -> None:
    method, twin = METHODS[name], METHODS[name.removesuffix("24")]
    assert replace(method, later=twin.later) == twin
    assert method.fraction(START) == method.fraction(LATER) == 0.9
    assert method.sections(START) == ("Summary", "Answer")
    assert method.sections(LATER) == (HEADER[name].strip("[]"), "Summary", "Answer")
    assert method.carried(LATER, prompts.load(prompts.FOLDER, method.prompts), MEASURE) == ""


@pytest.mark.parametrize(
    ("visible", "reference"),
    [
        pytest.param("[Summary]: One is 1.\n[Answer]: 2", "one is 1.", id="in order"),
        pytest.param("[Summary]  : \n One.\n\n[Answer]: 2", "one.", id="blanks around"),
        pytest.param("[Summary]: First: add. [Answer]", "first: add.", id="first colon only"),
        pytest.param("[Summary] a [Answer] 1 [Summary] B [Answer] 2", "b", id="the last summary"),
        pytest.param("[Answer]: 2\n[Summary]: One.", "one.", id="reordered"),
        pytest.param("[Summary]: One and", "one and", id="cut off"),
        pytest.param("[Summary]:\n[Answer]: 2", "", id="empty"),
        pytest.param("Sum: It is 2.\n[Answer]: 2", "Sum: It is 2.\n[Answer]: 2", id="no header"),
        pytest.param("", "", id="nothing visible"),
    ],
)
@each_method
def test_the_summary_becomes_the_reference(name: str, visible: str, reference: str) -> None:
    state = METHODS[name].update(START, Reply("thoughts, " + visible, visible), MEASURE)
    assert state.reference == reference
    assert headed(content(name, state), "Reference Solution") == reference


@each_method
def test_a_changed_answer_files_an_entry_under_the_one_before(name: str) -> None:
    state = chain(name, 1, 2)
    (entry,) = state.knowledge
    assert (entry.answer, state.question) == (1, START.question)
    assert entry.text.removeprefix(": ").lower().startswith("slip b.")
    assert state.change == {"added": entry.text, "under_answer": 1}
    assert state.answers == (1, 2)
    assert [entry.answer for entry in chain(name, 1, 2, 3).knowledge] == [1, 2]


NO_ANSWER = "no answer in the answer section"


@pytest.mark.parametrize(
    ("before", "reply", "why"),
    [
        pytest.param((), written("{E}", 2), "no answer before this one", id="first reply"),
        pytest.param((1, 2), written("{E}", 2), "the answer did not change", id="agreement"),
        pytest.param((1,), written("Report", 2), "no {E} section", id="no header"),
        pytest.param((1,), written("{E}", None), NO_ANSWER, id="no integer"),
        pytest.param((1,), r"{E} no \boxed{2} [Answer]: x", NO_ANSWER, id="an integer elsewhere"),
        pytest.param((1,), r"[Answer]: \boxed{2} {E}", "an empty {E} section", id="empty, last"),
        pytest.param((1,), "", NO_ANSWER, id="empty reply"),
    ],
)
@each_method
def test_no_entry_and_why(name: str, before: tuple[int, ...], reply: str, why: str) -> None:
    state = replace(LATER, answers=before, knowledge=(Entry("old", 1),))
    learnt = learn(METHODS[name], state, reply.replace("{E}", HEADER[name]))
    assert learnt.knowledge == state.knowledge
    assert learnt.change["kept"] == why.replace("{E}", HEADER[name])
    assert "added" not in learnt.change


@pytest.mark.parametrize(
    ("reply", "added"),
    [
        pytest.param(r"{E}: no \boxed{1}. [Answer]: \boxed{2}", 1, id="not from the report"),
        pytest.param(r"[Answer]: \boxed{2} {E} x [Answer]: \boxed{1}", 0, id="the last section"),
        pytest.param(r"{E}: it is \boxed{2}", 1, id="no answer section: the visible answer"),
        pytest.param(r"[Answer]: \boxed{1} {E}: no.", 0, id="reordered, the same answer"),
        pytest.param(r"[Answer]: \boxed{2} {E}: no.", 1, id="reordered, another answer"),
    ],
)
@each_method
def test_where_this_answer_is_read(name: str, reply: str, added: int) -> None:
    assert (
        len(learn(METHODS[name], chain(name, 1), reply.replace("{E}", HEADER[name])).knowledge)
        == added
    )


def test_the_prediction_comes_from_the_whole_reply() -> None:
    thought = r"It may be \boxed{5} or 6. "
    visible = rf"{WHY}: no \boxed{{7}}. [Answer]: \boxed{{8}} or \boxed{{9}}"
    assert OSS.update(START, Reply(thought + visible, visible), MEASURE).answers == (5,)
    assert QWEN.update(START, Reply(thought + visible, visible), MEASURE).answers == (9,)
    assert QWEN.update(START, Reply(thought, ""), MEASURE).answers == (5,)


def test_gpt_oss_reads_the_first_box_and_skips_rollouts_without_one() -> None:
    state = chain("oss", 1)
    assert learn(OSS, state, rf"{WHY}: no. [Answer]: \boxed{{1}} \boxed{{2}}").knowledge == ()
    assert learn(OSS, state, f"{WHY}: no. [Answer]: 2").answers == (1,)
    assert learn(OSS, state, "New text.").reference == "New text."
    assert chain("oss", 1, None, 2).answers == (1, 2)
    assert [entry.answer for entry in chain("oss", 1, None, 2).knowledge] == [1]
    assert chain("oss", None, 1).knowledge == ()


def test_qwen_reads_the_last_box_or_integer_and_skips_no_rollout() -> None:
    state = chain("qwen", 1)
    two = rf"{REPORT}: no. [Summary] x [Answer]: \boxed{{1}} \boxed{{2}}"
    assert learn(QWEN, state, two).knowledge == (Entry("no.", 1),)
    assert learn(QWEN, state, f"{REPORT}: no. [Summary] x [Answer]: 2").answers == (1, 2)
    assert chain("qwen", 1, None, 2).answers == (1, None, 2)
    assert [entry.answer for entry in chain("qwen", 1, None, 2).knowledge] == [None]
    empty = learn(QWEN, state, written(REPORT, 2, error=""))
    assert (empty.knowledge, empty.change["kept"]) == ((), f"an empty {REPORT} section")


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
    learnt = learn(METHODS[name], chain(name, 1), visible.replace("{E}", HEADER[name]))
    assert learnt.knowledge == (Entry(oss if name.startswith("oss") else qwen, 1),)


@each_method
def test_missing_sections_are_recorded(name: str) -> None:
    method, state = METHODS[name], chain(name, 1)
    asked = list(method.sections(state))
    assert "missing_sections" not in learn(method, state, written(HEADER[name], 2)).change
    cut_off = learn(method, state, f"{HEADER[name]}: No.\n[Summary]: It is")
    assert cut_off.change["missing_sections"] == ["Answer"]
    assert learn(method, state, "It is 2.").change["missing_sections"] == asked
    assert learn(method, START, "It is 2.").change["missing_sections"] == ["Summary", "Answer"]


@pytest.mark.parametrize(
    ("name", "shown"), [("oss", "fe"), ("oss24", "fe"), ("qwen", "fedc"), ("qwen24", "fedc")]
)
def test_the_newest_entries_of_each_answer_newest_first(name: str, shown: str) -> None:
    """Replies b, d and f give up the answer 1; replies c and e give up the answer 2."""
    text = content(name, chain(name, 1, 2, 1, 2, 1, 2))
    numbered = re.findall(r"\*\*Wrong Answer (\d+)\*\*: \W*[Ss]lip (\w)\.", text)
    assert numbered == [(str(number), letter) for number, letter in enumerate(shown, 1)]


@pytest.mark.parametrize(
    ("left_out", "shown"),
    [
        (0, "**Wrong Answer 1**: third\n\n**Wrong Answer 2**: second\n\n**Wrong Answer 3**: first"),
        (1, "**Wrong Answer 1**: third\n\n**Wrong Answer 2**: second"),
        (3, "N/A"),
    ],
    ids=["none left out", "one", "all"],
)
@each_method
def test_entries_left_out_are_the_oldest(name: str, left_out: int, shown: str) -> None:
    knowledge = (Entry("first", 1), Entry("second", 2), Entry("third", 3))
    text = content(name, replace(LATER, knowledge=knowledge, left_out=left_out))
    heading = "Empirical Mistakes List" if name.startswith("oss") else "Wrong Answer List"
    assert headed(text, heading) == shown


@each_method
def test_headings_in_order_and_an_empty_list(name: str) -> None:
    text = content(name, LATER)
    shown = {"Reference Solution": "the reference"}
    if name.startswith("oss"):
        shown = {"Empirical Mistakes List": "N/A", **shown}
    else:
        shown = {**shown, "Wrong Answer List": "N/A"}
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)[:2]
    assert [(heading, headed(text, heading)) for heading in headings] == list(shown.items())


@each_method
def test_the_first_prompt_has_neither_list_nor_reference(name: str) -> None:
    text = content(name, START)
    assert text.startswith("What is 1+1?\n\n")
    assert "## " not in text
    assert "reference" not in text.lower()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("oss", "grain of salt.*better approach"),
        ("oss24", "critic.*afresh"),
        ("qwen", "from scratch.*(compare|check)"),
        ("qwen24", "analyse.*flaws.*solve"),
    ],
    ids=METHODS,
)
def test_what_the_later_prompt_tells_the_model(name: str, words: str) -> None:
    assert re.search(words, headed(content(name, LATER), "Instructions"), re.DOTALL)


@each_method
def test_only_qwen_opens_the_thinking_and_only_later(name: str) -> None:
    assert ask(name, START).opening == ""
    opening = ask(name, LATER).opening
    told = "" if name.startswith("oss") else "hard.*mistake.*independently first.*then.*list"
    assert re.fullmatch(f".*{told}.*" if told else "", opening)


@each_method
def test_messages_and_update_are_pure(name: str) -> None:
    state, text = chain(name, 1, 2), written(HEADER[name], 3)
    before = repr(state)
    once, twice = learn(METHODS[name], state, text), learn(METHODS[name], state, text)
    assert once == twice != state
    assert ask(name, replace(state, answers=(7,), change={})) == ask(name, state)
    assert repr(state) == before


def made_of(hint: object) -> set[object]:
    """A type and all that its fields and arguments are made of."""
    found = {hint}.union(*(made_of(inner) for inner in get_args(hint)))
    if isinstance(hint, type) and is_dataclass(hint):
        found = found.union(*(made_of(inner) for inner in get_type_hints(hint).values()))
    return found


def test_no_gold_answer_reaches_the_method() -> None:
    hints = [*get_type_hints(Mistakes.update).values(), *get_type_hints(Mistakes.messages).values()]
    reached = set().union(*(made_of(hint) for hint in hints))
    assert {State, Reply, Entry, Prompt} <= reached
    assert Problem not in reached
    names = " ".join(f.name for each in reached if is_dataclass(each) for f in fields(each))
    assert not re.search("gold|correct", names)
