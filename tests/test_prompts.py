"""Prompt texts: one strict pass over the slots, checks when loaded, and the shipped files."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from kflow import prompts
from kflow.prompts import PromptText, load
from kflow.sentences import TokenMeasure
from kflow.types import Entry, Method, State, UserError

SCRIPTS = sorted(path.stem for path in prompts.FOLDER.parents[1].glob("vllm_*.py"))
METHODS: dict[str, Method] = {name: import_module(name).EXPERIMENT.method for name in SCRIPTS}
MEASURE = TokenMeasure(10_000, len)

FIRST = State("What is 1+1?")
LATER = State("What is 1+1?", (Entry("Not 3.", 3),), "add one and one.", (3, 2))

MISTAKES_FIRST = ("Summary", "Answer")
OSS_MISTAKES = ("Why the reference solution is wrong?", "Summary", "Answer")
QWEN_MISTAKES = ("Error Report", "Summary", "Answer")
REGENERATION = ("Things to Avoid", "Summary", "Answer")
POSITIVE_FIRST = ("Novel Knowledge to Add to the List", "Summary", "Answer")
POSITIVE = (
    "Solution without EK",
    "Adding?",
    "Novel Knowledge to Add to the List",
    "Reason to make this addition",
    "Dropping?",
    "Least Useful to Drop",
    "Why that knowledge should be dropped?",
    "Summary",
    "Answer",
)
ASKED_FOR = {
    "vllm_kflow_oss": (MISTAKES_FIRST, OSS_MISTAKES),
    "vllm_kflow_oss24": (MISTAKES_FIRST, OSS_MISTAKES),
    "vllm_kflow_qwen": (MISTAKES_FIRST, QWEN_MISTAKES),
    "vllm_kflow_qwen24": (MISTAKES_FIRST, QWEN_MISTAKES),
    "vllm_kflow_oss_knowledgeRegen": (REGENERATION, REGENERATION),
    "vllm_kflow_qwen_knowledgeRegen": (REGENERATION, REGENERATION),
    "vllm_kflow_oss_positiveKnowledge": (POSITIVE_FIRST, POSITIVE),
    "vllm_kflow_qwen_positiveKnowledge": (POSITIVE_FIRST, POSITIVE),
    "vllm_oss_markovian_thinking": ((), ()),
    "vllm_qwen_markovian_thinking": ((), ()),
}
HEADERS = {name for both in ASKED_FOR.values() for names in both for name in names}

BOTH = PromptText("Q: [[QUESTION]]\nK: [[KNOWLEDGE]]\nQ again: [[QUESTION]]")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("see [[KNOWLEDGE]] and [[QUESTION]]", id="slot names"),
        pytest.param("[[UNKNOWN]]", id="an unknown slot name"),
        pytest.param(r"\frac{1}{2} \boxed{n} {0} {QUESTION} {{x}}", id="LaTeX braces"),
        pytest.param(r"\1 \g<0> \g<name> \\ \n \U", id="backslashes"),
        pytest.param("%s %(QUESTION)s $QUESTION ${QUESTION}", id="other templates' slots"),
        pytest.param("", id="empty"),
        pytest.param("  two\n lines\n", id="blanks around"),
    ],
)
def test_what_fills_a_slot_stays_as_it_is(text: str) -> None:
    filled = BOTH.fill(QUESTION=text, KNOWLEDGE="list")
    assert filled == f"Q: {text}\nK: list\nQ again: {text}"
    assert BOTH.fill(QUESTION="q", KNOWLEDGE=text) == f"Q: q\nK: {text}\nQ again: q"


def test_slots_that_meet_make_no_new_slot() -> None:
    assert PromptText("[[[A]][[B]]]").fill(A="[X]", B="]") == "[[X]]]"
    assert PromptText("[[A]][[B]]").fill(A="[[", B="A]]") == "[[A]]"


def test_a_slot_that_is_not_given_is_an_error() -> None:
    with pytest.raises(KeyError):
        BOTH.fill(QUESTION="q")


def test_load_reads_each_wanted_file(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("\n\nÉtude: [[QUESTION]]\n\nEnd.\n\n", encoding="utf-8")
    (tmp_path / "two.txt").write_text("no slots, [QUESTION] is none", encoding="utf-8")
    (tmp_path / "other.txt").write_text("[[NOT_WANTED]]", encoding="utf-8")
    loaded = load(tmp_path, {"one": frozenset({"QUESTION"}), "two": frozenset()})
    assert sorted(loaded) == ["one", "two"]
    assert loaded["one"].fill(QUESTION="q") == "Étude: q\n\nEnd."
    assert loaded["two"].fill() == "no slots, [QUESTION] is none"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, ["No such file"], id="missing file"),
        pytest.param(b"[[QUESTION]] \xff [[KNOWLEDGE]]", ["utf-8"], id="not UTF-8"),
        pytest.param(b"[[QUESTION]] [[KNOWLEDGE]] [[HINT]]", ["unknown", "[[HINT]]"], id="unknown"),
        pytest.param(b"[[QUESTION]]", ["missing", "[[KNOWLEDGE]]"], id="missing slot"),
        pytest.param(b"", ["missing", "[[KNOWLEDGE]], [[QUESTION]]"], id="empty file"),
    ],
)
def test_a_bad_prompt_ends_in_one_sentence(
    tmp_path: Path, content: bytes | None, words: list[str]
) -> None:
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        load(tmp_path, {"mine": frozenset({"QUESTION", "KNOWLEDGE"})})
    sentence = str(raised.value)
    assert str(path) in sentence
    assert all(word in sentence for word in words)
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_folder_in_the_place_of_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").mkdir()
    with pytest.raises(UserError, match=r"mine\.txt"):
        load(tmp_path, {"mine": frozenset()})


def test_every_shipped_prompt_is_used() -> None:
    used = {name for method in METHODS.values() for name in method.prompts}
    assert {path.name for path in prompts.FOLDER.iterdir()} == {f"{name}.txt" for name in used}


@pytest.mark.parametrize("script", SCRIPTS)
def test_shipped_prompts_load_with_exactly_their_slots(script: str) -> None:
    wanted = METHODS[script].prompts
    load(prompts.FOLDER, wanted)
    for name, slots in wanted.items():
        text = (prompts.FOLDER / f"{name}.txt").read_text(encoding="utf-8")
        assert set(re.findall(r"\[\[(.*?)\]\]", text)) == slots


@pytest.mark.parametrize("step", [0, 1], ids=["step 0", "later"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_prompts_ask_for_the_sections_in_order(script: str, step: int) -> None:
    method, state = METHODS[script], (FIRST, LATER)[step]
    expected = ASKED_FOR[script][step]
    assert method.sections(state) == expected
    asked = method.messages(state, load(prompts.FOLDER, method.prompts), MEASURE)
    text = "\n".join(message.content for message in asked.messages)
    found = [name for name in re.findall(r"\[([^\[\]]+)\]", text) if name in HEADERS]
    assert found == list(expected)


@pytest.mark.parametrize("step", [0, 1], ids=["step 0", "later"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_question_comes_first_in_one_user_message(script: str, step: int) -> None:
    method, state = METHODS[script], (FIRST, LATER)[step]
    asked = method.messages(state, load(prompts.FOLDER, method.prompts), MEASURE)
    if not method.sections(state):
        assert asked.messages[0].content == state.question
        return
    (message,) = asked.messages
    assert message.role == "user"
    assert re.match(re.escape(state.question) + r"\n\n\S", message.content)
    assert "[[" not in message.content
