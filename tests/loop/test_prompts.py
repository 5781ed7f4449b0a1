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
from kflow.answers import AnswerType, Choice, Expression, Integer
from kflow.loop.prompts import LARGEST, PromptText, load, locate
from kflow.methods.markovian import Markovian
from kflow.methods.notes import knowledge
from kflow.types import Prompt, UserError

METHODS = {name: driver.method(name) for name in driver.SCRIPTS}
FILES = sorted(Path(methods.__file__).parent.rglob("*.txt"))

BOTH = PromptText("Q: [[QUESTION]]\nK: [[KNOWLEDGE]]\nQ again: [[QUESTION]]")


@pytest.mark.parametrize(
    "text",
    [
        "see [[KNOWLEDGE]] and [[QUESTION]]",
        "[[UNKNOWN]]",
        r"\frac{1}{2} \boxed{n} {0} {QUESTION} {{x}}",
        r"\1 \g<0> \g<name> \\ \n \U",
        "%s %(QUESTION)s $QUESTION ${QUESTION}",
        "",
        "  two\n lines\n",
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


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("\n\nÉtude: [[QUESTION]]\n\nEnd.\n\n".encode(), "\n\nÉtude: [[QUESTION]]\n\nEnd.\n"),
        (b"[[QUESTION]] [QUESTION]", "[[QUESTION]] [QUESTION]"),
        (b" [[QUESTION]] \r\n", " [[QUESTION]] "),
        (b"\xef\xbb\xbf [[QUESTION]]\n", " [[QUESTION]]"),
    ],
)
def test_a_text_is_all_of_its_file_but_for_the_last_line_feed(
    tmp_path: Path, content: bytes, text: str
) -> None:
    (tmp_path / "one.txt").write_bytes(content)
    (tmp_path / "other.txt").write_text("[[NOT_WANTED]]")
    loaded = load(tmp_path, {"one": frozenset({"QUESTION"})})
    assert loaded == {"one": PromptText(text, hashlib.sha256(content).hexdigest())}


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
        (None, ["No such file"]),
        (b"[[QUESTION]] \xff [[KNOWLEDGE]]", ["utf-8"]),
        (b"[[QUESTION]] [[KNOWLEDGE]] [[HINT]]", ["unknown", "[[HINT]]"]),
        (b"[[ QUESTION ]] [[QUESTION]] [[KNOWLEDGE]]", ["unknown", "[[ QUESTION ]]"]),
        (b"[[QUESTION\n]] [[KNOWLEDGE]]", ["unknown", "[[QUESTION ]]"]),
        (b"", ["missing", "[[KNOWLEDGE]], [[QUESTION]]"]),
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
    assert all(word in sentence for word in [str(path), *words])
    assert "\n" not in sentence


MAKE = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "too large": lambda path: path.write_bytes(bytes(LARGEST + 1)),
}


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_no_text_file_is_refused_without_reading_it(tmp_path: Path, kind: str) -> None:
    MAKE[kind](tmp_path / "mine.txt")
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
    for method in METHODS.values():
        load(Path(method.prompt_folder), method.prompts)
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


def reply(step: int, slot: int, prompt: Prompt, answer: str) -> str:
    """A whole reply."""
    sections = dict.fromkeys(prompt.sections, "It is so.") | {"Adding?": "Yes", "Dropping?": "No"}
    sections |= {"Answer": rf"\boxed{{{answer}}}", "Least Useful to Drop": "N/A"}
    return "Hm.</think>" + "\n".join(f"[{name}]: {sections[name]}" for name in prompt.sections)


@pytest.mark.parametrize("answers", [Integer(), Choice(), Expression()], ids=lambda a: a.name)
@pytest.mark.parametrize("script", METHODS)
def test_prompts_ask_for_their_sections_in_order_and_for_the_answer_of_the_data(
    script: str, answers: AnswerType
) -> None:
    method, whole = METHODS[script], isinstance(answers, Integer)

    def replying(step: int, slot: int, prompt: Prompt) -> str:
        return reply(step, slot, prompt, str(step) if whole else "A")

    context, number = driver.context(method, answers=answers), getattr(method, "steps", 3)
    steps = driver.chain(method, context, replying, number)
    for prompt in (prompt for step in steps for prompt in step.prompts):
        first, *rest = prompt.messages
        assert first.role == "user"
        assert first.content.startswith("What is 1+1?")
        assert "[[" not in first.content
        assert whole or "integer" not in first.content
        if "Answer" in prompt.sections:
            asked = rf"answer( to the problem)? is {answers.instruction}\."
            assert re.search(asked, first.content)
            assert rf"\boxed{{{answers.box}}}" in first.content
        if isinstance(method, Markovian):
            assert prompt.sections == ()
        else:
            assert (first.content[12:14], rest) == ("\n\n", [])
            instructions = first.content.rpartition(" sections below")[2]
            headers = re.findall(r"^\[(.+)\]:", instructions, re.MULTILINE)
            assert tuple(headers) == prompt.sections
    if not isinstance(method, Markovian) and not whole:
        later = next(step for step in steps[1:] if step.prompts[0].asks_answer)
        assert later.answers[0] == "A"
