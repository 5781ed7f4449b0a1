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
AVOID, CUT = "[Things to Avoid]", ("Things to Avoid",)


def updated(method: Regeneration, text: str, state: Notes = OLD) -> StepResult[Notes]:
    return driver.learn(method, driver.context(method, window=1000), state, text)


@pytest.mark.parametrize(
    ("reply", "oss", "qwen", "truncated"),
    [
        (f"{AVOID}: Not 3. {END}", "Not 3.", "not 3.", ()),
        (f"{AVOID} Not 3. {END}", f"{AVOID} Not 3.", "not 3.", ()),  # without its colon
        (f"So. Not 3. {END}", "So. Not 3.", "so. Not 3.", ()),
        (f"{AVOID}: One.\n{AVOID}: Two. {END}", "Two.", "two.", ()),
        (f"{AVOID}: One. [Summary]: S. [Answer]: 4 [Summary]: T.", "One.", "one.", ()),
        (f"{END}\n{AVOID}: Late.", "Late.", "late.", CUT),
        (f"{AVOID}: Not thr", "Not thr", "not thr", CUT),
        (f"{AVOID}: \n{END}", "", "", CUT),
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
