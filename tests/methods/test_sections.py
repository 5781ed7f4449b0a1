"""Reading `[Header]: text` replies, and the expression that forces them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.fakes import ScriptedEngine
from helpers.scripted import run_script
from kflow import sections
from kflow.answers import FIRST_BOXED, LAST_BOXED_OR_LAST, Integer
from kflow.sections import missing, prose, section

FORMS = {"Answer": Integer().form}


def pattern(names: tuple[str, ...], max_tokens: int) -> str:
    return sections.pattern(names, max_tokens, FORMS)


OSS_LATER = ("Why the reference solution is wrong?", "Summary", "Answer")
QWEN_LATER = ("Error Report", "Summary", "Answer")
LISTS = [
    pytest.param(("Summary", "Answer"), id="step 0"),
    pytest.param(OSS_LATER, id="gpt-oss"),
    pytest.param(QWEN_LATER, id="qwen"),
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("[Summary]: one\n[Answer]: 2", ": one\n", id="in order"),
        pytest.param("Well.\n[Summary] one [Answer]", " one ", id="nothing is stripped"),
        pytest.param("[summary]: one\n[Answer]: 2", None, id="another case"),
        pytest.param("[Summary]", "", id="truncated after the header"),
        pytest.param("[Summary]: one\n[Ans", ": one\n[Ans", id="the end's header truncated"),
        pytest.param("[Summary]: a [Answer]: b [Summary]: c [Answer]: d", ": c ", id="the last"),
        pytest.param("[Answer]: 2\n[Summary]: one", ": one", id="reordered"),
        pytest.param("[Summary]: a [Answer]: b [Answer]: c", ": a ", id="the next end"),
    ],
)
def test_section(text: str, found: str | None) -> None:
    assert section(text, "Summary", until="Answer") == found


def test_section_takes_the_name_literally() -> None:
    assert section("[Why?]: so", "Why?") == ": so"
    assert section("[Wh]: so", "Why?") is None
    assert section("[Answer]: 1 [Summary]: a [Answer]: 2 [b]", "Answer") == ": 2 [b]"


@pytest.mark.parametrize(
    ("visible", "lacking"),
    [
        pytest.param("[Error Report] [Summary] [Answer]", (), id="none"),
        pytest.param("[Summary]: one", ("Error Report", "Answer"), id="two"),
        pytest.param("", QWEN_LATER, id="empty"),
    ],
)
def test_missing(visible: str, lacking: tuple[str, ...]) -> None:
    assert missing(QWEN_LATER, visible) == lacking


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param(": One.", "one.", id="colon directly after the header"),
        pytest.param(" : \n One.\n\n", "one.", id="blanks and lines around"),
        pytest.param("**: Text", "text", id="colon after markup"),
        pytest.param("\nOne. Then: two.", "one. Then: two.", id="a colon in the prose stays"),
        pytest.param("::  one", ":  one", id="only one of two colons"),
        pytest.param(": $n$: even", "$n$: even", id="a colon after a symbol stays"),
        pytest.param(": AIME", "aIME", id="one letter only"),
        pytest.param(": Über", "über", id="any alphabet"),
        pytest.param(": ", "", id="empty section"),
    ],
)
def test_prose(text: str, read: str) -> None:
    assert prose(text) == read


TEXTS = (
    "The sum was taken twice: 41 counts $x = {0}$ two times.",
    "Add 40 and 2 (see above). That makes 42: done.",
)


def built(names: tuple[str, ...]) -> str:
    texts = dict(zip(names, TEXTS[1:] if len(names) == 2 else TEXTS, strict=False))
    return "\n".join(f"[{name}]: {texts.get(name, '')}" for name in names) + r"\boxed{42}"


@pytest.mark.parametrize("names", LISTS)
def test_a_forced_reply_reads_back(names: tuple[str, ...]) -> None:
    reply = built(names)
    assert re.fullmatch(pattern(names, 1000), reply)
    assert missing(names, reply) == ()
    following = (*names[1:], None)
    read = [section(reply, name, until) for name, until in zip(names, following, strict=True)]
    texts = [*TEXTS[len(TEXTS) + 1 - len(names) :], r"\boxed{42}"]
    assert [text.removeprefix(": ").strip() for text in read if text is not None] == texts
    assert [Integer().extract(reply, r) for r in (FIRST_BOXED, LAST_BOXED_OR_LAST)] == [42, 42]


@pytest.mark.parametrize("names", LISTS)
def test_a_forced_reply_keeps_the_order(names: tuple[str, ...]) -> None:
    lines = [f"[{name}]: " + (r"\boxed{42}" if name == "Answer" else "x" * 20) for name in names]
    assert re.fullmatch(pattern(names, 1000), "\n".join(lines))
    for broken in (lines[::-1], lines[1:], lines[:-1], [*lines, lines[-1]], ["Well.", *lines]):
        assert not re.fullmatch(pattern(names, 1000), "\n".join(broken))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        pytest.param("x" * 4, False, id="too short"),
        pytest.param("x" * 5, True, id="shortest"),
        pytest.param("x" * 300, True, id="longest"),
        pytest.param("x" * 301, False, id="too long"),
        pytest.param("a line with \\frac{1}{2} + \\(x\\)", True, id="LaTeX"),
        pytest.param("a line\nand another", False, id="two lines"),
        pytest.param("as [Summary] says, it is so", False, id="a header inside"),
    ],
)
def test_a_forced_section_is_bounded(text: str, allowed: bool) -> None:
    """Two free sections of 300 tokens: 300 characters each."""
    reply = built(QWEN_LATER).replace(TEXTS[0], text)
    assert (re.fullmatch(pattern(QWEN_LATER, 300), reply) is not None) == allowed


def test_a_small_budget_still_leaves_room() -> None:
    assert re.fullmatch(
        pattern(("Summary", "Answer"), 4), "[Summary]: " + "x" * 40 + "\n[Answer]: \\boxed{1}"
    )


def test_forms_are_the_callers() -> None:
    expression = sections.pattern(("Adding?", "Answer"), 1000, {"Adding?": "(Yes|No)", **FORMS})
    assert re.fullmatch(expression, "[Adding?]: No\n[Answer]: \\boxed{1}")
    assert not re.fullmatch(expression, "[Adding?]: Well, perhaps\n[Answer]: \\boxed{1}")


def test_headers_are_literal_in_the_expression() -> None:
    without_mark = built(OSS_LATER).replace("wrong?", "wron")
    assert not re.fullmatch(pattern(OSS_LATER, 1000), without_mark)


def test_forced_sections_end_in_the_half_of_the_window_that_any_prompt_leaves(
    tmp_path: Path,
) -> None:
    """Though a reply may have nine tenths of it where its prompt is short."""
    engine = ScriptedEngine()
    flags = ["--force_sections", "--reflex_size", "2", "--max_new_tokens", "4096", "--limit", "1"]
    ran = run_script("vllm_kflow_qwen", [*flags, "--dataset", "quickstart"], tmp_path, engine)
    assert ran.code == 0
    first, second = engine.requests
    assert first.max_tokens > 2048
    for request in (first, second):
        longest = [int(bound) for bound in re.findall(r"\{5,(\d+)\}", request.pattern or "")]
        assert longest
        assert set(longest) == {2 * 2048 // len(longest)}
