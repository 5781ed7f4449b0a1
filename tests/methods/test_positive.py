"""Method 3 rule by rule, as the two scripts configure it (docs/method.md, section 3)."""

from __future__ import annotations

import re

import pytest

from helpers import driver
from kflow.method import StepNote, StepResult
from kflow.methods.notes import Notes
from kflow.methods.positive import Positive
from kflow.sections import pattern
from kflow.types import Entry

OSS: Positive = driver.method("vllm_kflow_oss_positiveKnowledge")
QWEN: Positive = driver.method("vllm_kflow_qwen_positiveKnowledge")
BOTH = pytest.mark.parametrize("method", [OSS, QWEN], ids=["oss", "qwen"])
NOVEL = "[Novel Knowledge to Add to the List]"
END = "[Summary]: We add.\n[Answer]: \\boxed{4}"


def holding(*entries: str) -> Notes:
    return Notes("Why?", tuple(map(Entry, entries)), "the old summary.")


def updated(method: Positive, text: str, *entries: str, window: int = 20_000) -> StepResult[Notes]:
    return driver.learn(method, driver.context(method, window), holding(*entries), text)


def texts(result: StepResult[Notes]) -> list[str]:
    return [entry.text for entry in result.state.entries]


WHY = "[Why that knowledge should be dropped?]: Bad 1.\n"


def later(adding: str = "Yes", novel: str = "Use symmetry.", drop: str = "N/A") -> str:
    return (
        f"[Solution without EK]: Long.\n[Adding?]: {adding}\n{NOVEL}: {novel}\n"
        f"[Reason to make this addition]: Good.\n[Dropping?]: Yes\n[Least Useful to Drop]: {drop}\n"
        f"{WHY}{END}"
    )


@BOTH
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(later(), ["A", "B", "Use symmetry."], id="added"),
        pytest.param(later(adding="No"), ["A", "B"], id="not added"),
        pytest.param(later(adding="Yes. Nothing like Novel"), ["A", "B", "Use symmetry."], id="No"),
        pytest.param(f"{NOVEL}: New. {END}", ["A", "B", "New."], id="no Adding section"),
        pytest.param(f"{NOVEL}: See [1] now. {END}", ["A", "B", "See [1] now."], id="to Summary"),
        pytest.param(
            f"{END}\n{NOVEL}: New. [Dropping?]: No", ["A", "B", "New."], id="to the next bracket"
        ),
        pytest.param(f"{NOVEL}: One.\n{NOVEL}: Two. {END}", ["A", "B", "Two."], id="the last one"),
        pytest.param(later(novel="N/A"), ["A", "B"], id="N/A"),
        pytest.param(later(novel=""), ["A", "B"], id="empty"),
        pytest.param(later("No", drop="Dropping Experimental Knowledge 1"), ["B"], id="dropped"),
        pytest.param(later("No", drop="of 1 and 2, EK 2"), ["A"], id="its last integer"),
        pytest.param(later("No", drop="EK 1").replace(WHY, ""), ["B"], id="not the answer's"),
        pytest.param(later("No", drop="EK [2]"), ["A"], id="in brackets"),
        pytest.param(
            later("No", drop="EK 2").replace("dropped?]", "dropped]"), ["A"], id="another header"
        ),
        pytest.param(later("No", drop="EK 3"), ["A", "B"], id="no such number"),
        pytest.param(later("No", drop="EK 0"), ["A", "B"], id="no number 0"),
        pytest.param(later(drop="EK 3"), ["A", "B"], id="added and dropped again"),
        pytest.param(f"{NOVEL}: New. [Summary]: S.", ["A", "B"], id="no answer section"),
        pytest.param(f"New. {END}", ["A", "B"], id="no novel section"),
    ],
)
def test_the_list(method: Positive, reply: str, expected: list[str]) -> None:
    assert texts(updated(method, reply, "A", "B")) == expected


@BOTH
def test_the_note_says_what_was_added_and_dropped(method: Positive) -> None:
    both = updated(method, later(drop="EK 1"), "A", "B")
    assert both.note == StepNote((Entry("Use symmetry."),), (Entry("A"),))
    assert both.verdict == 4
    skipped = updated(method, later(adding="No", drop="EK 1"), "A").note
    assert skipped == StepNote((), (Entry("A"),), skipped="the reply says not to add")
    assert updated(method, "truncated", "A").note == StepNote(skipped=f"no {NOVEL} section")
    assert updated(method, NOVEL, "A").note == StepNote(skipped="no [Answer] section")


@BOTH
def test_at_most_ten_are_kept_also_without_a_drop_section(method: Positive) -> None:
    ten = [str(number) for number in range(10)]
    result = updated(method, f"{NOVEL}: New. {END}", *ten)
    assert texts(result) == [*ten[1:], "New."]
    assert result.note.dropped == (Entry("0"),)


@BOTH
def test_an_entry_of_1024_tokens_is_added_and_a_longer_one_is_not(method: Positive) -> None:
    assert len(texts(updated(method, later(novel="a " * 1024)))) == 1
    result = updated(method, later(novel="a " * 1025))
    assert result.note.skipped == "the entry has 1025 tokens, more than 1024"
    assert texts(result) == []


def test_gpt_oss_first_cuts_an_entry_to_its_last_sentences() -> None:
    reply = later(novel="First of all one two three. Then four five. Last six.")
    assert texts(updated(OSS, reply, window=100)) == ["Then four five. Last six."]
    whole = "First of all one two three. Then four five. Last six."
    assert texts(updated(QWEN, reply, window=100)) == [whole]


@BOTH
def test_the_summary_is_stored_only_with_both_sections(method: Positive) -> None:
    assert updated(method, later()).state.reference == "we add."
    without = updated(method, END)
    assert (without.state.reference, without.verdict) == ("the old summary.", 4)


@pytest.mark.parametrize(("method", "fraction"), [(OSS, 0.8), (QWEN, 0.9)])
def test_an_empty_list_by_family(method: Positive, fraction: float) -> None:
    """gpt-oss is shown an empty list; Qwen is asked the first prompt again."""
    context = driver.context(method)
    first, empty = (driver.render(method, context, s) for s in (method.start("Why?"), holding()))
    text = empty.messages[0].content
    assert ("## Experimental Knowledge List\nThe list is empty.\n" in text) is (method is OSS)
    assert (empty == first) is (method is QWEN)
    assert (first.fraction, empty.fraction) == (fraction, fraction)


@BOTH
def test_after_a_first_reply_without_its_sections(method: Positive) -> None:
    """gpt-oss is asked about an empty list, without a reference solution; Qwen from the start."""
    context, start = driver.context(method), method.start("Why?")
    first, after, failed = (
        driver.render(method, context, state)
        for state in (start, *(driver.learn(method, context, start, t).state for t in ("x", None)))
    )
    assert (after == first) is (method is QWEN)
    assert ("## Reference Solution\n\n" in after.messages[0].content) is (method is OSS)
    assert failed == first


@BOTH
def test_entries_keep_their_numbers_when_older_ones_are_hidden(method: Positive) -> None:
    state = Notes("Why?", (Entry("a"), Entry("b"), Entry("c")), "r", hidden=1)
    prompt = driver.render(method, driver.context(method), state)
    assert "List\n**EK 2**: b\n\n**EK 3**: c\n\n## Reference" in prompt.messages[0].content
    assert prompt.shown == (Entry("b"), Entry("c"))
    assert prompt.prefill == ""
    hidden = Notes("Why?", (Entry("a"),), "r", hidden=1)
    assert len(driver.render(method, driver.context(method), hidden).sections) == 9


@BOTH
def test_a_forced_reply_reads_back(method: Positive) -> None:
    prompt = driver.render(method, driver.context(method), holding("A"))
    expression = pattern(prompt.sections, 1000, {"Answer": r"\\boxed\{4\}", **prompt.forms})
    reply = later(drop="Dropping Experimental Knowledge 1").replace("Long.", "x" * 20)
    reply = reply.replace("Use symmetry.", "y" * 20).replace("Good.", "z" * 20)
    reply = reply.replace("Bad 1.", "w" * 20).replace("We add.", "v" * 20)
    assert re.fullmatch(expression, reply)
    assert not re.fullmatch(expression, reply.replace("[Adding?]: Yes", "[Adding?]: Maybe"))
