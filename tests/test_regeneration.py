"""Method 2 rule by rule, as the two scripts configure it (METHOD.md, section 2)."""

from __future__ import annotations

import pytest

import vllm_kflow_oss_knowledgeRegen
import vllm_kflow_qwen_knowledgeRegen
from kflow import prompts
from kflow.sentences import TokenMeasure
from kflow.types import Entry, Method, Reply, State

OSS = vllm_kflow_oss_knowledgeRegen.EXPERIMENT.method
QWEN = vllm_kflow_qwen_knowledgeRegen.EXPERIMENT.method
MEASURE = TokenMeasure(1000, lambda text: len(text.split()))
OLD = State("Why?", (Entry("the old list."),), "the old summary.", (3,))
END = "[Summary]: We add.\n[Answer]: \\boxed{4}"


def updated(method: Method, text: str, state: State = OLD) -> State:
    return method.update(state, Reply(text, text), MEASURE)


def shown(state: State) -> str:
    return " ".join(entry.text for entry in state.knowledge)


@pytest.mark.parametrize(
    ("reply", "oss", "qwen"),
    [
        pytest.param(f"[Things to Avoid]: Not 3. {END}", "Not 3.", "not 3.", id="replaced"),
        pytest.param(
            f"[Things to Avoid] Not 3. {END}",
            "[Things to Avoid] Not 3.",
            "not 3.",
            id="for gpt-oss the header counts only with its colon",
        ),
        pytest.param(f"So. Not 3. {END}", "So. Not 3.", "so. Not 3.", id="no header"),
        pytest.param(
            f"[Things to Avoid]: One.\n[Things to Avoid]: Two. {END}", "Two.", "two.", id="the last"
        ),
        pytest.param(
            "[Things to Avoid]: One. [Summary]: S. [Answer]: 4 [Summary]: T.",
            "One.",
            "one.",
            id="up to the first summary after it",
        ),
        pytest.param(
            f"{END}\n[Things to Avoid]: Late.", "the old list.", "the old list.", id="reordered"
        ),
        pytest.param(
            "[Things to Avoid]: Not thr", "the old list.", "the old list.", id="cut off in the list"
        ),
        pytest.param("We think and th", "the old list.", "the old list.", id="cut off before it"),
        pytest.param(f"[Things to Avoid]: \n{END}", "the old list.", "the old list.", id="empty"),
    ],
)
def test_the_list(reply: str, oss: str, qwen: str) -> None:
    assert (shown(updated(OSS, reply)), shown(updated(QWEN, reply))) == (oss, qwen)


def test_a_list_that_stays_says_why() -> None:
    change = updated(OSS, "[Things to Avoid]: Not thr").change
    assert change["kept"] == "the list is cut off: the old one stays"
    assert change["missing_sections"] == ["Summary", "Answer"]
    assert updated(OSS, f"[Things to Avoid]: 1. {END}").change == {"replaced": "1."}


@pytest.mark.parametrize("method", [OSS, QWEN])
def test_a_long_list_is_cut_to_its_last_sentences(method: Method) -> None:
    sentences = [f"Item {n} fails for a good reason here." for n in range(20)]
    state = updated(method, f"[Things to Avoid]: {' '.join(sentences)} {END}")
    assert shown(state) == " ".join(sentences[-12:])  # 12 x 8 tokens of the 100 there are
    assert state.change["cut_from_tokens"] == 160


def test_a_sentence_over_the_budget_leaves_an_empty_list() -> None:
    state = updated(OSS, f"[Things to Avoid]: {'word ' * 101}. {END}")
    assert state.knowledge == ()


def test_reference_and_answers_follow_every_reply() -> None:
    state = updated(QWEN, "no sections here, 5 at most")
    assert (state.reference, state.answers) == ("no sections here, 5 at most", (3, 5))
    assert updated(OSS, END).reference == "we add."


@pytest.mark.parametrize(
    ("method", "order"),
    [
        (OSS, ["## Empirical Mistakes List\n", "## Reference Solution\n"]),
        (QWEN, ["## Reference Solution\n", "## Wrong Answer List\n"]),
    ],
)
def test_the_prompt(method: Method, order: list[str]) -> None:
    templates = prompts.load(prompts.FOLDER, method.prompts)
    prompt = method.messages(OLD, templates, MEASURE)
    text = prompt.messages[0].content
    assert [text.index(heading) for heading in order] == sorted(text.index(h) for h in order)
    assert "List\nthe old list.\n" in text
    assert bool(prompt.opening) is (method is QWEN)
    empty = method.messages(State("Why?", reference="r"), templates, MEASURE)
    assert "List\nN/A\n" in empty.messages[0].content
    first = method.messages(State("Why?"), templates, MEASURE)
    assert "##" not in first.messages[0].content
    assert first.opening == ""
