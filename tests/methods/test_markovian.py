"""Method 4 rule by rule, as the two scripts configure it (docs/method.md, section 4)."""

from __future__ import annotations

import pytest

from helpers import driver
from helpers.driver import words
from kflow.loop.steps import without_carried
from kflow.methods.markovian import Markovian, Tail
from kflow.types import Message, Prompt

OSS: Markovian = driver.method("vllm_oss_markovian_thinking")
QWEN: Markovian = driver.method("vllm_qwen_markovian_thinking")
BOTH = pytest.mark.parametrize("method", [OSS, QWEN], ids=["oss", "qwen"])
TEXT = "analysis We try. So 7. assistantfinal It is \\boxed{8}."


def nudge(method: Markovian) -> str:
    return driver.render(method, driver.context(method), Tail("", "")).continues


@BOTH
def test_step_0_sees_the_bare_question_and_is_carried_whole(method: Markovian) -> None:
    context, start = driver.context(method), method.start("Why?")
    prompt = driver.render(method, context, start)
    assert prompt == Prompt((Message("user", "Why?"),), 0.9)
    result = driver.learn(method, context, start, TEXT)
    assert (result.state, result.verdict) == (Tail("Why?", TEXT), 8)
    assert driver.render(method, context, result.state).fraction == 0.5


@pytest.mark.parametrize(
    ("method", "joined"), [(OSS, "Before.\nanalysis We try. So 7. "), (QWEN, f"Before.\n{TEXT}")]
)
def test_later_replies_join_the_text(method: Markovian, joined: str) -> None:
    context = driver.context(method)
    reply = driver.reply(method, context, TEXT, continues="Before.\n")
    result = method.update(Tail("Why?", "Long before. Before."), (reply,), context)
    assert result.state == Tail("Why?", joined)


@pytest.mark.parametrize(
    "start", ["assistantfinal", "<|end|><|start|>assistant<|channel|>final<|message|>"]
)
def test_gpt_oss_carries_its_thinking_whatever_marks_its_end(start: str) -> None:
    context = driver.context(OSS)
    reply = driver.reply(OSS, context, f"So 7.{start}It is \\boxed{{8}}.")
    assert OSS.update(Tail("Why?", ""), (reply,), context).state == Tail("Why?", "So 7.")


@pytest.mark.parametrize("tail", ["So 7.", ""])
@BOTH
def test_what_is_measured_is_the_tail_alone(method: Markovian, tail: str) -> None:
    prompt = driver.render(method, driver.context(method), Tail("Why? So 7.", tail))
    assert prompt.continues.replace(tail, "") == prompt.nudge
    question, turn = without_carried(prompt).messages
    assert (question.content, turn.content) == ("Why? So 7.", prompt.nudge)


@BOTH
def test_the_tail_is_whole_sentences_within_its_share(method: Markovian) -> None:
    sentences = [f"We now look at case number {n}." for n in range(20)]
    prompt = driver.render(method, driver.context(method, 100), Tail("Why?", " ".join(sentences)))
    tail = " ".join(sentences[-6:])  # 6 x 7 tokens of the 45 there are
    assert prompt.messages == (Message("user", "Why?"), Message("assistant", prompt.continues))
    assert prompt.continues == tail + nudge(method)
    too_long = Tail("Why?", "Short. " + "word " * 46)
    alone = driver.render(method, driver.context(method, 100), too_long)
    assert alone.continues == nudge(method)


@BOTH
def test_a_tail_that_does_not_fit_loses_its_first_sentences(method: Markovian) -> None:
    context = driver.context(method, 100)
    smaller = method.shrink(Tail("Why?", "One two. Three four. Five six."), 3, context)
    assert smaller is not None
    assert (smaller[0], smaller[1].tokens) == (Tail("Why?", "Five six."), 4)
    assert method.shrink(Tail("Why?", ""), 3, context) is None
    assert method.shrink(Tail("Why?"), 3, context) is None


@BOTH
def test_prompts_stay_bounded_over_64_steps(method: Markovian) -> None:
    context = driver.context(method, 2000)
    family = "gpt_oss" if method is OSS else "qwen"
    steps = driver.chain(
        method,
        context,
        lambda step, slot, prompt: f" At step {step} we go on and on." * 100,
        64,
        family=family,
    )
    lengths = [words(step.prompts[0].continues) for step in steps]
    assert max(lengths) <= 0.45 * 2000 + 7
    assert min(lengths[2:]) > 0.4 * 2000
