"""Method 3 rule by rule, as the two scripts configure it (METHOD.md, section 3)."""

from __future__ import annotations

import pytest

import vllm_kflow_oss_positiveKnowledge
import vllm_kflow_qwen_positiveKnowledge
from kflow import prompts
from kflow.sentences import TokenMeasure
from kflow.types import Entry, Method, Reply, State

OSS = vllm_kflow_oss_positiveKnowledge.EXPERIMENT.method
QWEN = vllm_kflow_qwen_positiveKnowledge.EXPERIMENT.method
BOTH = pytest.mark.parametrize("method", [OSS, QWEN], ids=["oss", "qwen"])
MEASURE = TokenMeasure(20_000, lambda text: len(text.split()))
NOVEL = "[Novel Knowledge to Add to the List]"
END = "[Summary]: We add.\n[Answer]: \\boxed{4}"


def holding(*entries: str) -> State:
    return State("Why?", tuple(map(Entry, entries)), "the old summary.", (3,))


def updated(method: Method, text: str, *entries: str) -> State:
    return method.update(holding(*entries), Reply(text, text), MEASURE)


def texts(state: State) -> list[str]:
    return [entry.text for entry in state.knowledge]


def later(adding: str = "Yes", novel: str = "Use symmetry.", drop: str = "N/A") -> str:
    return (
        f"[Solution without EK]: Long.\n[Adding?]: {adding}\n{NOVEL}: {novel}\n"
        f"[Reason to make this addition]: Good.\n[Dropping?]: Yes\n[Least Useful to Drop]: {drop}\n"
        f"[Why that knowledge should be dropped?]: Bad 1.\n{END}"
    )


@BOTH
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(later(), ["A", "B", "Use symmetry."], id="added"),
        pytest.param(later(adding="No"), ["A", "B"], id="not added"),
        pytest.param(later(adding="Yes. Nothing like Novel"), ["A", "B", "Use symmetry."], id="No"),
        pytest.param("[Adding?]: No\n" + later(), ["A", "B", "Use symmetry."], id="last Adding"),
        pytest.param(f"{NOVEL}: New. {END}", ["A", "B", "New."], id="no Adding section"),
        pytest.param(f"{NOVEL} New. {END}", ["A", "B", "New."], id="no colon"),
        pytest.param(f"{NOVEL}: See [1] now. {END}", ["A", "B", "See [1] now."], id="to Summary"),
        pytest.param(
            f"{END}\n{NOVEL}: New. [Dropping?]: No", ["A", "B", "New."], id="to the next bracket"
        ),
        pytest.param(f"{END}\n{NOVEL}: New.", ["A", "B", "New."], id="reordered, to the end"),
        pytest.param(f"{NOVEL}: One.\n{NOVEL}: Two. {END}", ["A", "B", "Two."], id="the last one"),
        pytest.param(later(novel="N/A"), ["A", "B"], id="N/A"),
        pytest.param(later(novel=" n/a. "), ["A", "B"], id="n/a with a stop"),
        pytest.param(later(novel=""), ["A", "B"], id="empty"),
        pytest.param(later("No", drop="Dropping Experimental Knowledge 1"), ["B"], id="dropped"),
        pytest.param(later("No", drop="of 1 and 2, EK 2"), ["A"], id="its last integer"),
        pytest.param(later("No", drop="EK 3"), ["A", "B"], id="no such number"),
        pytest.param(later("No", drop="EK 0"), ["A", "B"], id="no number 0"),
        pytest.param(later(drop="EK 3"), ["A", "B"], id="added and dropped again"),
        pytest.param(later(drop="EK 1"), ["B", "Use symmetry."], id="both"),
        pytest.param(f"{NOVEL}: New. [Summary]: S.", ["A", "B"], id="no answer section"),
        pytest.param(f"New. {END}", ["A", "B"], id="no novel section"),
        pytest.param(later()[:150], ["A", "B"], id="cut off"),
    ],
)
def test_the_list(method: Method, reply: str, expected: list[str]) -> None:
    assert texts(updated(method, reply, "A", "B")) == expected


@BOTH
def test_the_record_says_what_was_added_and_dropped(method: Method) -> None:
    change = updated(method, later(drop="EK 1"), "A", "B").change
    assert change == {"added": "Use symmetry.", "dropped": ["A"]}
    change = updated(method, later(adding="No"), "A").change
    assert change == {"kept": "the reply says not to add"}
    change = updated(method, "cut off", "A").change
    assert change["kept"] == f"no {NOVEL} section"


@BOTH
def test_at_most_ten_are_kept_also_without_a_drop_section(method: Method) -> None:
    ten = [str(number) for number in range(10)]
    state = updated(method, f"{NOVEL}: New. {END}", *ten)
    assert texts(state) == [*ten[1:], "New."]
    assert state.change["dropped"] == ["0"]


@BOTH
def test_an_entry_of_1024_tokens_is_added_and_a_longer_one_is_not(method: Method) -> None:
    assert len(texts(updated(method, later(novel="a " * 1024)))) == 1
    state = updated(method, later(novel="a " * 1025))
    assert state.change["kept"] == "the entry has 1025 tokens, more than 1024"


def test_gpt_oss_first_cuts_an_entry_to_its_last_sentences() -> None:
    measure = TokenMeasure(100, lambda text: len(text.split()))
    reply = later(novel="First of all one two three. Then four five. Last six.")
    both = [m.update(holding(), Reply(reply, reply), measure) for m in (OSS, QWEN)]
    assert texts(both[0]) == ["Then four five. Last six."]
    assert texts(both[1]) == ["First of all one two three. Then four five. Last six."]


@BOTH
def test_the_summary_is_stored_only_with_both_sections(method: Method) -> None:
    assert updated(method, later()).reference == "we add."
    assert updated(method, END).reference == "the old summary."
    assert updated(method, END).answers == (3, 4)


def test_an_empty_list_by_family() -> None:
    for method in (OSS, QWEN):
        templates = prompts.load(prompts.FOLDER, method.prompts)
        text = method.messages(holding(), templates, MEASURE).messages[0].content
        assert ("## Experimental Knowledge List\nThe list is empty.\n" in text) is (method is OSS)
        assert (len(method.sections(holding())) == 9) is (method is OSS)
        first = method.messages(State("Why?"), templates, MEASURE).messages[0].content
        assert (text == first) is (method is QWEN)


@BOTH
def test_entries_keep_their_numbers_when_older_ones_are_left_out(method: Method) -> None:
    templates = prompts.load(prompts.FOLDER, method.prompts)
    state = State("Why?", (Entry("a"), Entry("b"), Entry("c")), "r", left_out=1)
    prompt = method.messages(state, templates, MEASURE)
    assert "List\n**EK 2**: b\n\n**EK 3**: c\n\n## Reference" in prompt.messages[0].content
    assert prompt.opening == ""
