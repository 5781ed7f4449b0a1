"""Method 2 rule by rule, as the two scripts configure it (docs/method.md, section 2)."""

from __future__ import annotations

import pytest

from helpers import driver
from kflow.method import StepNote, StepResult
from kflow.methods.notes import Notes
from kflow.methods.regeneration import Regeneration
from kflow.types import Entry

OSS: Regeneration = driver.method("vllm_kflow_oss_knowledgeRegen")
QWEN: Regeneration = driver.method("vllm_kflow_qwen_knowledgeRegen")
BOTH = pytest.mark.parametrize("method", [OSS, QWEN], ids=["oss", "qwen"])
OLD = Notes("Why?", (Entry("the old list."),), "the old summary.")
END = "[Summary]: We add.\n[Answer]: \\boxed{4}"
CUT = ("Things to Avoid",)


def updated(method: Regeneration, text: str, state: Notes = OLD) -> StepResult[Notes]:
    return driver.learn(method, driver.context(method, window=1000), state, text)


@pytest.mark.parametrize(
    ("reply", "oss", "qwen", "truncated"),
    [
        pytest.param(f"[Things to Avoid]: Not 3. {END}", "Not 3.", "not 3.", (), id="replaced"),
        pytest.param(
            f"[Things to Avoid] Not 3. {END}",
            "[Things to Avoid] Not 3.",
            "not 3.",
            (),
            id="for gpt-oss the header counts only with its colon",
        ),
        pytest.param(f"So. Not 3. {END}", "So. Not 3.", "so. Not 3.", (), id="no header"),
        pytest.param(
            f"[Things to Avoid]: One.\n[Things to Avoid]: Two. {END}", "Two.", "two.", (), id="last"
        ),
        pytest.param(
            "[Things to Avoid]: One. [Summary]: S. [Answer]: 4 [Summary]: T.",
            "One.",
            "one.",
            (),
            id="up to the first summary after it",
        ),
        pytest.param(f"{END}\n[Things to Avoid]: Late.", "Late.", "late.", CUT, id="reordered"),
        pytest.param("[Things to Avoid]: Not thr", "Not thr", "not thr", CUT, id="truncated"),
        pytest.param(f"[Things to Avoid]: \n{END}", "", "", CUT, id="empty"),
    ],
)
def test_the_latest_list_replaces_the_old_one(
    reply: str, oss: str, qwen: str, truncated: tuple[str, ...]
) -> None:
    for method, text in ((OSS, oss), (QWEN, qwen)):
        result = updated(method, reply)
        entries = (Entry(text),) if text else ()
        assert result.state.entries == entries
        assert result.note == StepNote(entries, replaced=True, truncated=truncated)


@BOTH
def test_a_long_list_is_cut_to_its_last_sentences(method: Regeneration) -> None:
    sentences = [f"Item {n} fails for a good reason here." for n in range(20)]
    (entry,) = updated(method, f"[Things to Avoid]: {' '.join(sentences)} {END}").state.entries
    assert entry.text == " ".join(sentences[-12:])  # 12 x 8 tokens of the 100 there are
    too_long = updated(method, f"[Things to Avoid]: {'word ' * 101}. {END}")
    assert too_long.state.entries == ()


def test_reference_and_verdict_follow_every_reply() -> None:
    result = updated(QWEN, "no sections here, 5 at most")
    assert (result.state.reference, result.verdict) == ("no sections here, 5 at most", 5)
    assert updated(OSS, END).state.reference == "we add."
    assert updated(OSS, "no number").verdict is None


@pytest.mark.parametrize(("method", "fraction"), [(OSS, 0.8), (QWEN, 0.9)])
def test_the_prompt(method: Regeneration, fraction: float) -> None:
    context = driver.context(method)
    prompt = driver.render(method, context, OLD)
    assert "List\nthe old list.\n" in prompt.messages[0].content
    assert (prompt.shown, prompt.fraction) == (OLD.entries, fraction)
    empty = driver.render(method, context, Notes("Why?", reference="r"))
    assert "List\nN/A\n" in driver.content(empty)
