"""Method 4 rule by rule, as the two scripts configure it (METHOD.md, section 4)."""

from __future__ import annotations

import pytest

import vllm_oss_markovian_thinking
import vllm_qwen_markovian_thinking
from kflow import prompts
from kflow.rollout import Plan, ask
from kflow.sentences import TokenMeasure
from kflow.types import Key, Message, Method, Reply, State
from scripted import ScriptedChat

OSS = vllm_oss_markovian_thinking.EXPERIMENT.method
QWEN = vllm_qwen_markovian_thinking.EXPERIMENT.method
BOTH = pytest.mark.parametrize("method", [OSS, QWEN], ids=["oss", "qwen"])
MEASURE = TokenMeasure(100, lambda text: len(text.split()))
TEXT = "analysis We try. So 7. assistantfinal It is \\boxed{8}."


def nudge(method: Method) -> str:
    templates = prompts.load(prompts.FOLDER, method.prompts)
    return method.carried(State("", reference=""), templates, MEASURE)


@BOTH
def test_step_0_sees_the_bare_question(method: Method) -> None:
    prompt = method.messages(State("Why?"), {}, MEASURE)
    assert (prompt.messages, prompt.opening) == ((Message("user", "Why?"),), "")
    assert (method.carried(State("Why?"), {}, MEASURE), method.fraction(State("Why?"))) == ("", 0.9)


@BOTH
def test_step_0_is_carried_whole(method: Method) -> None:
    state = method.update(State("Why?"), Reply(TEXT, TEXT), MEASURE)
    assert (state.reference, state.answers) == (TEXT, (8,))
    assert method.fraction(state) == 0.5


@pytest.mark.parametrize(
    ("method", "joined"), [(OSS, "Before.\nanalysis We try. So 7. "), (QWEN, f"Before.\n{TEXT}")]
)
def test_later_replies_join_the_text(method: Method, joined: str) -> None:
    state = State("Why?", reference="Before.")
    assert method.update(state, Reply(TEXT, TEXT, "Before.\n"), MEASURE).reference == joined


@BOTH
def test_the_answer_comes_from_the_new_text_alone(method: Method) -> None:
    state = State("Why?", reference="\\boxed{1}")
    after = method.update(state, Reply("no number", "", "So \\boxed{1}."), MEASURE)
    assert after.answers == (None,)


@BOTH
def test_the_tail_is_whole_sentences_within_its_share(method: Method) -> None:
    templates = prompts.load(prompts.FOLDER, method.prompts)
    sentences = [f"We now look at case number {n}." for n in range(20)]
    state = State("Why?", reference=" ".join(sentences))
    question, turn = method.messages(state, templates, MEASURE).messages
    tail = " ".join(sentences[-6:])  # 6 x 7 tokens of the 45 there are
    assert question == Message("user", "Why?")
    assert turn == Message("assistant", tail + nudge(method))
    assert method.carried(state, templates, MEASURE) == turn.content


@BOTH
def test_a_sentence_over_the_budget_leaves_the_nudge_alone(method: Method) -> None:
    templates = prompts.load(prompts.FOLDER, method.prompts)
    state = State("Why?", reference="Short. " + "word " * 46)
    turn = method.messages(state, templates, MEASURE).messages[1]
    assert turn.content == nudge(method)


def test_only_qwens_nudge_opens_the_thinking_again() -> None:
    assert nudge(QWEN).startswith("\n")
    assert nudge(QWEN).endswith("\n<think>\n")
    assert "<think>" not in nudge(OSS)


@BOTH
def test_prompts_stay_bounded_over_64_steps(method: Method) -> None:
    chat, window = ScriptedChat(), 2000
    measure = TokenMeasure(window, chat.count)
    templates = prompts.load(prompts.FOLDER, method.prompts)
    plan = Plan(method, templates, chat, measure, 64)
    state, lengths = State("How many?"), []
    for step in range(64):
        asked = ask(plan, Key("p", 0, step), state)
        assert asked.request is not None
        lengths.append(len(asked.prompt_ids))
        text = f" At step {step} we go on and on." * (asked.request.max_tokens // 20)
        state = method.update(state, Reply(text, text, asked.carried), measure)
    overhead = chat.count("<user>\nHow many?\n<assistant>\n") + chat.count(nudge(method)) + 20
    assert max(lengths) <= 0.45 * window + overhead
    assert min(lengths[3:]) > 0.4 * window
