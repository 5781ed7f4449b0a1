"""A chain walked before the run with replies made up: whether every prompt that the method will
send reaches the model with its question and with what it carries. A chat template may drop a text,
or raise, and may do so at later steps alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kflow.answers import Integer
from kflow.method import Method, StepContext, Template
from kflow.types import Chat, Prompt, Reply, UserError

STEPS = 6  # every method's kinds of steps have come round by then
QUESTION = "By the quorq0z bridge, how many lamps of the quorq1z kind are lit?"
MARK = re.compile(r"quor\w+?z")  # a word that stands in one text alone
FORMED = ("Yes", "N/A", "1")  # what sections that are not free text may hold


def prompts(
    method: Method[Any, Any], context: StepContext, end_of_thinking: str, steps: int
) -> Iterator[tuple[int, Prompt]]:
    """The prompts of a chain's first steps, each with the number of its step. Every section of
    every reply made up holds a mark of its own, and the answers change from step to step."""
    state = method.start(QUESTION)
    for step in range(min(steps, STEPS)):
        asked = [method.render(view, context) for view in method.ask(state, context)]
        yield from ((step, prompt) for prompt in asked)
        replies = (
            stand_in(prompt, f"{step}x{slot}", step, end_of_thinking)
            for slot, prompt in enumerate(asked)
        )
        state = method.update(state, tuple(replies), context).state


def stand_in(prompt: Prompt, name: str, answer: int, end_of_thinking: str) -> Reply:
    """A reply as the prompt asks for it, thinking first. name: of its marks."""
    written = []
    for number, section in enumerate(prompt.sections):
        text = f"- The quor{name}x{number}z rule holds here."
        if section in prompt.forms:
            form = re.compile(prompt.forms[section])
            text = next(filter(form.fullmatch, FORMED), text)
        elif section == "Answer":
            text = f"\\boxed{{{answer}}}"
        written.append(f"[{section}]: {text}")
    visible = "\n\n".join(written) or f"By the quor{name}z rule it is \\boxed{{{answer}}}."
    text = f"First, quor{name}thoughtsz.{end_of_thinking}\n\n{visible}"
    return Reply(text, visible, prompt.continues, answer)


def rehearse(
    name: str,
    chat: Chat,
    method: Method[Any, Any],
    templates: Mapping[str, Template],
    window: int,
    end_of_thinking: str,
    steps: int,
) -> Chat:
    """The chat format, once every prompt of a chain's first steps has come through it. Of what an
    assistant's turn holds, a template may leave a part (docs/method.md, section 4).

    name: of the experiment. window: tokens. Raises UserError for a prompt that the format refuses,
    and for one that lacks its question or a text that it carries.
    """
    context = StepContext(window, chat.count, last_part, Integer(), Integer().same, templates)
    seen = set()
    for step, prompt in prompts(method, context, end_of_thinking, steps):
        if (prompt.messages, prompt.prefill) in seen:
            continue
        seen.add((prompt.messages, prompt.prefill))
        try:
            text = chat.decode(chat.render(prompt), False)
        except UserError as error:
            raise UserError(f"{name}, step {step}: {error}") from error
        if lost := what_is_lost(prompt, "".join(text.split()).casefold()):
            raise UserError(
                f"{name}, step {step}: the prompt would reach the model without {lost}: give "
                "--model_name a model whose chat template keeps it, or run another script."
            )
    return chat


def last_part(text: str, tokens: int) -> str:
    """The end of a text, without the sentence splitter, which is slow to load."""
    return text[-4 * tokens :] if tokens > 0 else ""


def what_is_lost(prompt: Prompt, rendered: str) -> str:
    """What of a prompt is not in its rendered text, "" where nothing is lost."""
    if any(mark not in rendered for mark in MARK.findall(QUESTION)):
        return "its question"
    kept = prompt.prefill + "".join(m.content for m in prompt.messages if m.role != "assistant")
    if any(mark not in rendered for mark in MARK.findall(kept)):
        return "what earlier replies taught"
    for message in prompt.messages:
        marks = MARK.findall(message.content)
        if marks and not any(mark in rendered for mark in marks):
            return "the text that it goes on from"
    return ""
