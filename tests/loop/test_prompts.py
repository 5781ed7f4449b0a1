"""Prompt texts: one strict pass over the slots, checks when loaded, and the shipped files."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import driver
from helpers.fakes import ScriptedEngine, obliging
from helpers.scripted import run_script, write_problems
from kflow import methods
from kflow.answers import AnswerType, Choice, Expression
from kflow.loop.prompts import ABOUT_ANSWERS, LARGEST, PromptText, load, locate
from kflow.methods.markovian import Markovian
from kflow.methods.notes import knowledge
from kflow.types import Prompt, UserError

METHODS = {name: driver.method(name) for name in driver.SCRIPTS}
FILES = sorted(Path(methods.__file__).parent.rglob("*.txt"))

MISTAKES_FIRST = ("Summary", "Answer")
DISTILLED = ("Propositions", "Pitfalls")
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
    "vllm_qwen_markovian_whole_tail": ((), ()),
    **{
        f"vllm_{family}_{rival}": (MISTAKES_FIRST, MISTAKES_FIRST)
        for family in ("oss", "qwen")
        for rival in ("parallel_thinking", "refine", "rsa", "pacore")
    },
    "vllm_oss_rse": (MISTAKES_FIRST, DISTILLED),
    "vllm_qwen_rse": (MISTAKES_FIRST, DISTILLED),
    "vllm_oss_trt": (("Strategy 1", "Strategy 2"), MISTAKES_FIRST),
    "vllm_qwen_trt": (("Strategy 1", "Strategy 2"), MISTAKES_FIRST),
}

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


def test_load_reads_each_prompts_file(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("\n\nÉtude: [[QUESTION]]\n\nEnd.\n\n", encoding="utf-8")
    (tmp_path / "two.txt").write_text("no slots, [QUESTION] is none", encoding="utf-8")
    (tmp_path / "other.txt").write_text("[[NOT_WANTED]]", encoding="utf-8")
    loaded = load(tmp_path, {"one": frozenset({"QUESTION"}), "two": frozenset()})
    assert sorted(loaded) == ["one", "two"]
    assert loaded["one"].fill(QUESTION="q") == "\n\nÉtude: q\n\nEnd.\n"
    assert loaded["two"].fill() == "no slots, [QUESTION] is none"


def test_only_the_line_feed_that_ends_the_last_line_is_not_part_of_a_text(tmp_path: Path) -> None:
    for content, text in (("a", "a"), ("a\n", "a"), (" a \r\n", " a "), ("\na\n\n", "\na\n")):
        (tmp_path / "one.txt").write_bytes(content.encode())
        assert load(tmp_path, {"one": frozenset()})["one"].text == text


def test_prompts_are_hashed_as_sha256sum_does(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf Why?\n"
    (tmp_path / "later.txt").write_bytes(content)
    (prompt,) = load(tmp_path, {"later": frozenset()}).values()
    assert (prompt.text, prompt.sha256) == (" Why?", hashlib.sha256(content).hexdigest())


SHOWING = {"later": frozenset({"KNOWLEDGE"})}


def shown(folder: Path, entries: list[tuple[int, str]]) -> str:
    context = replace(driver.context(METHODS["vllm_kflow_qwen"]), templates=load(folder, SHOWING))
    return knowledge(context, "later", entries, "{0}) {1}", apart="; ", empty="none yet")


def test_how_a_list_is_written_is_the_methods_to_say_or_two_files(tmp_path: Path) -> None:
    (tmp_path / "later.txt").write_text("[[KNOWLEDGE]]")
    both = [(1, "one {0}\nand [[N]]"), (2, "[[ENTRY]]")]
    assert shown(tmp_path, both) == "1) one {0}\nand [[N]]; 2) [[ENTRY]]"
    assert shown(tmp_path, []) == "none yet"
    (tmp_path / "later_empty.txt").write_text("\n# List\n\n")
    assert shown(tmp_path, []) == "\n# List\n"
    assert shown(tmp_path, both[:1]) == "1) one {0}\nand [[N]]"
    (tmp_path / "later_list.txt").write_text("# List\n[[N]]: [[ENTRY]].\n\nEnd\n")
    assert shown(tmp_path, both) == "# List\n1: one {0}\nand [[N]].\n2: [[ENTRY]].\n\nEnd"
    (tmp_path / "later_list.txt").write_text("[[ENTRY]]")
    assert shown(tmp_path, both) == "one {0}\nand [[N]]\n[[ENTRY]]"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("later_list", "no slot", ["missing", "[[ENTRY]]", "may have [[N]]"]),
        ("later_list", "[[ENTRY]] [[QUESTION]]", ["unknown", "[[QUESTION]]"]),
        ("later_list", "No. [[N]]\n[[ENTRY]]", ["several lines"]),
        ("later_list", "[[ENTRY]]\n[[ENTRY]]", ["several lines"]),
        ("later_empty", "[[ENTRY]]", ["unknown", "none"]),
    ],
)
def test_a_bad_file_beside_a_prompt_ends_in_one_sentence(
    tmp_path: Path, name: str, content: str, words: list[str]
) -> None:
    (tmp_path / "later.txt").write_text("[[KNOWLEDGE]]")
    (tmp_path / f"{name}.txt").write_text(content)
    with pytest.raises(UserError) as raised:
        load(tmp_path, SHOWING)
    assert all(word in str(raised.value) for word in [f"{name}.txt", *words])


def test_only_texts_about_integers_may_leave_out_what_an_answer_is(tmp_path: Path) -> None:
    (tmp_path / "first.txt").write_text("[[QUESTION]] Which integer?")
    slots = {"first": frozenset({"QUESTION", "ANSWER", "BOX"})}
    with pytest.raises(UserError, match=r"missing slots \[\[ANSWER\]\], \[\[BOX\]\]"):
        load(tmp_path, slots)
    loaded = load(tmp_path, slots, optional=ABOUT_ANSWERS)
    assert loaded["first"].fill(QUESTION="q", ANSWER="a", BOX="b") == "q Which integer?"
    (tmp_path / "first.txt").write_text("Which integer?")
    with pytest.raises(UserError, match=r"missing slots \[\[QUESTION\]\]: .* and may have"):
        load(tmp_path, slots, optional=ABOUT_ANSWERS)


@pytest.mark.parametrize(("kind", "code"), [("integer", 0), ("expression", 2)])
def test_a_run_on_other_answers_needs_texts_that_say_so(
    tmp_path: Path, kind: str, code: int
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    method = METHODS["vllm_kflow_qwen"]
    for name in method.prompts:
        text = locate(Path(method.prompt_folder), name).read_text()
        text = text.replace("[[ANSWER]]", "an integer").replace("[[BOX]]", "integer")
        (folder / f"{name}.txt").write_text(text)
    problems = write_problems(tmp_path / "one.jsonl", [("one", "Why?", "7")])
    flags = ["--dataset", str(problems), "--answer_type", kind, "--prompt_dir", str(folder)]
    flags += ["--reflex_size", "1"]
    ran = run_script("vllm_kflow_qwen", flags, tmp_path, ScriptedEngine(obliging))
    assert (ran.code, "[[ANSWER]], [[BOX]]" in ran.err) == (code, code == 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, ["No such file"], id="missing file"),
        pytest.param(b"[[QUESTION]] \xff [[KNOWLEDGE]]", ["utf-8"], id="not UTF-8"),
        pytest.param(b"[[QUESTION]] [[KNOWLEDGE]] [[HINT]]", ["unknown", "[[HINT]]"], id="unknown"),
        pytest.param(
            b"[[ QUESTION ]] [[QUESTION]] [[KNOWLEDGE]]",
            ["unknown", "[[ QUESTION ]]"],
            id="blanks in a slot",
        ),
        pytest.param(
            b"[[QUESTION\n]] [[KNOWLEDGE]]", ["unknown", "[[QUESTION ]]"], id="a line in it"
        ),
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


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "too large"])
def test_what_is_no_text_file_is_refused_without_reading_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(LARGEST + 1)
    what = "larger than 1,000,000 bytes" if kind == "too large" else "not a regular file"
    with pytest.raises(UserError, match=rf"mine\.txt \({what}\): give --prompt_dir"):
        load(tmp_path, {"mine": frozenset()})


def test_every_shipped_prompt_is_used_and_stands_once() -> None:
    used = {
        locate(Path(method.prompt_folder), name)
        for method in METHODS.values()
        for name in method.prompts
    }
    assert used == set(FILES)
    assert len({path.read_bytes() for path in FILES}) == len(FILES)


def test_families_share_a_text_until_one_has_its_own(tmp_path: Path) -> None:
    assert locate(tmp_path, "oss_first") == tmp_path / "oss_first.txt"
    (tmp_path / "first.txt").write_text("both")
    (tmp_path / "qwen_first.txt").write_text("own")
    names = ("oss_first", "qwen_first", "first")
    loaded = load(tmp_path, dict.fromkeys(names, frozenset[str]()))
    assert [loaded[name].fill() for name in names] == ["both", "own", "both"]
    assert loaded["oss_first"].sha256 == hashlib.sha256(b"both").hexdigest()
    assert loaded["qwen_first"].sha256 == hashlib.sha256(b"own").hexdigest()
    (tmp_path / "vllm24").mkdir()
    (tmp_path / "vllm24" / "qwen_first.txt").write_text("one script's")
    assert (
        load(tmp_path, {"qwen_first": frozenset()}, "vllm24")["qwen_first"].text == "one script's"
    )
    assert load(tmp_path, {"qwen_first": frozenset()}, "vllm")["qwen_first"].text == "own"


@pytest.mark.parametrize("script", METHODS)
def test_shipped_prompts_have_exactly_their_slots(script: str) -> None:
    method = METHODS[script]
    load(Path(method.prompt_folder), method.prompts)
    for name, slots in method.prompts.items():
        text = locate(Path(method.prompt_folder), name).read_text(encoding="utf-8")
        assert set(re.findall(r"\[\[(.*?)\]\]", text)) == slots - {"TAIL"}


def reply(step: int, slot: int, prompt: Prompt) -> str:
    """A whole reply, with an answer that changes from step to step."""
    sections = dict.fromkeys(prompt.sections, "It is so.") | {"Adding?": "Yes", "Dropping?": "No"}
    sections |= {"Answer": rf"\boxed{{{step}}}", "Least Useful to Drop": "N/A"}
    return "Hm.</think>" + "\n".join(f"[{name}]: {sections[name]}" for name in prompt.sections)


@pytest.mark.parametrize("script", METHODS)
def test_prompts_ask_for_their_sections_in_order(script: str) -> None:
    method = METHODS[script]
    steps = driver.chain(method, driver.context(method), reply, getattr(method, "steps", 3))
    for step, expected in zip(steps[:2], ASKED_FOR[script], strict=True):
        assert step.prompts[0].sections == expected
    for prompt in (prompt for step in steps for prompt in step.prompts):
        first, *rest = prompt.messages
        assert first.role == "user"
        assert first.content.startswith("What is 1+1?")
        assert "[[" not in first.content
        if not isinstance(method, Markovian):
            assert (first.content[12:14], rest) == ("\n\n", [])
            instructions = first.content.rpartition(" sections below")[2]
            headers = re.findall(r"^\[(.+)\]:", instructions, re.MULTILINE)
            assert tuple(headers) == prompt.sections


@pytest.mark.parametrize("answers", [Choice(), Expression()], ids=lambda answers: answers.name)
@pytest.mark.parametrize("script", METHODS)
def test_prompts_ask_for_the_answer_of_the_data(script: str, answers: AnswerType) -> None:
    method = METHODS[script]

    def lettered(step: int, slot: int, prompt: Prompt) -> str:
        return reply(step, slot, prompt).replace(rf"\boxed{{{step}}}", r"\boxed{A}")

    context, number = driver.context(method, answers=answers), getattr(method, "steps", 3)
    steps = driver.chain(method, context, lettered, number)
    for prompt in (prompt for step in steps for prompt in step.prompts):
        text = prompt.messages[0].content
        assert "integer" not in text
        if "Answer" in prompt.sections:
            assert re.search(rf"answer( to the problem)? is {answers.instruction}\.", text)
            assert rf"\boxed{{{answers.box}}}" in text
    if not isinstance(method, Markovian):
        later = next(step for step in steps[1:] if step.prompts[0].asks_answer)
        assert later.answers[0] == "A"
