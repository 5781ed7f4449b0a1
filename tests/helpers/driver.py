"""Methods worked directly: contexts, replies, and whole chains without engine, store or program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from kflow.answers import Sameness
from kflow.method import StepContext, StepResult
from kflow.sections import visible
from kflow.testing import context as context
from kflow.testing import reply as reply
from kflow.testing import words as words
from kflow.types import Answer, Prompt, Reply

SCRIPTS = sorted(path.stem for path in (Path(__file__).parents[2] / "scripts").glob("vllm_*.py"))


def method(script: str) -> Any:
    return import_module(script).EXPERIMENT.method


def learn(of: Any, context: StepContext, state: Any, *texts: str | None) -> StepResult[Any]:
    """Fold replies of width 1, all of each visible; None is a failed rollout."""
    for text in texts:
        replies = (None if text is None else reply(of, context, text),)
        result = of.update(state, replies, context)
        state = result.state
    return result


def render(of: Any, context: StepContext, state: Any) -> Prompt:
    """The prompt of a step's first slot."""
    prompt = of.render(of.ask(state, context)[0], context)
    assert isinstance(prompt, Prompt)
    return prompt


def content(prompt: Prompt) -> str:
    """The text of its one message."""
    (message,) = prompt.messages
    return message.content


def headed(text: str, heading: str) -> str:
    """What a prompt shows under a heading."""
    return text.partition(f"## {heading}\n")[2].partition("\n\n## ")[0]


@dataclass(frozen=True)
class Step:
    """A step of a chain: what its slots were asked, what they answered, what it taught."""

    prompts: tuple[Prompt, ...]
    answers: tuple[Answer | None, ...]
    result: StepResult[Any]


def chain(
    of: Any,
    context: StepContext,
    script: Callable[[int, int, Prompt], str | None],
    steps: int,
    question: str = "What is 1+1?",
    family: str = "qwen",
) -> list[Step]:
    """Work a chain; script: (step, slot, prompt) -> the whole reply, None for a failed rollout."""
    state, earlier, worked = of.start(question), [], []
    for step in range(steps):
        prompts = tuple(of.render(view, context) for view in of.ask(state, context))
        replies: list[Reply | None] = []
        for slot, prompt in enumerate(prompts):
            text, own = script(step, slot, prompt), None
            if text is not None and prompt.asks_answer:
                own = Sameness(context.answers).canonical(
                    context.answers.extract(text, of.rule), earlier
                )
                earlier += [] if own is None else [own]
            replies.append(
                None if text is None else Reply(text, visible(family, text), prompt.continues, own)
            )
        result = of.update(state, tuple(replies), context)
        state = result.state
        worked.append(Step(prompts, tuple(r and r.answer for r in replies), result))
    return worked
