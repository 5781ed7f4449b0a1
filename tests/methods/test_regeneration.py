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


def shown(result: StepResult[Notes]) -> str:
    return " ".join(entry.text for entry in result.state.entries)


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
        pytest.param("We think and th", "We think and th", "we think and th", CUT, id="before it"),
        pytest.param(f"[Things to Avoid]: \n{END}", "", "", CUT, id="empty"),
        pytest.param("", "", "", CUT, id="nothing visible"),
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
def test_a_failed_rollout_leaves_the_list(method: Regeneration) -> None:
    result = driver.learn(method, driver.context(method), OLD, None)
    assert result == StepResult(OLD, None, StepNote(skipped="the rollout failed"))


@BOTH
def test_a_long_list_is_cut_to_its_last_sentences(method: Regeneration) -> None:
    sentences = [f"Item {n} fails for a good reason here." for n in range(20)]
    result = updated(method, f"[Things to Avoid]: {' '.join(sentences)} {END}")
    assert shown(result) == " ".join(sentences[-12:])  # 12 x 8 tokens of the 100 there are


def test_a_sentence_over_the_budget_leaves_an_empty_list() -> None:
    assert updated(OSS, f"[Things to Avoid]: {'word ' * 101}. {END}").state.entries == ()


def test_reference_and_verdict_follow_every_reply() -> None:
    result = updated(QWEN, "no sections here, 5 at most")
    assert (result.state.reference, result.verdict) == ("no sections here, 5 at most", 5)
    assert updated(OSS, END).state.reference == "we add."
    assert updated(OSS, "no number").verdict is None


@pytest.mark.parametrize(
    ("method", "order", "fraction"),
    [
        (OSS, ["## Empirical Mistakes List\n", "## Reference Solution\n"], 0.8),
        (QWEN, ["## Reference Solution\n", "## Wrong Answer List\n"], 0.9),
    ],
)
def test_the_prompt(method: Regeneration, order: list[str], fraction: float) -> None:
    context = driver.context(method)
    prompt = driver.render(method, context, OLD)
    text = prompt.messages[0].content
    assert [text.index(heading) for heading in order] == sorted(text.index(h) for h in order)
    assert "List\nthe old list.\n" in text
    assert prompt.shown == OLD.entries
    assert prompt.fraction == fraction
    assert bool(prompt.prefill) is (method is QWEN)
    assert "List\nN/A\n" in driver.content(
        driver.render(method, context, Notes("Why?", reference="r"))
    )
    first = driver.render(method, context, method.start("Why?"))
    assert "##" not in first.messages[0].content
    assert first.prefill == ""
