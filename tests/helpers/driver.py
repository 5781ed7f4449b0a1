"""Methods worked directly: contexts, replies, and whole chains without engine, store or program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from kflow.answers import Sameness
from kflow.loop.fit import fit
from kflow.method import LeftOut, StepContext, StepResult
from kflow.sections import visible
from kflow.testing import context as context
from kflow.testing import reply as reply
from kflow.testing import words as words
from kflow.types import Answer, Prompt, Reply

SCRIPTS = sorted(path.stem for path in (Path(__file__).parents[2] / "scripts").glob("vllm_*.py"))


def method(script: str) -> Any:
    return import_module(script).EXPERIMENT.method


def fold(of: Any, context: StepContext, state: Any, *texts: str | None) -> StepResult[Any]:
    """Fold the replies of one step, all of each visible; None is a failed rollout."""
    replies = tuple(None if text is None else reply(of, context, text) for text in texts)
    result: StepResult[Any] = of.update(state, replies, context)
    return result


def learn(of: Any, context: StepContext, state: Any, *texts: str | None) -> StepResult[Any]:
    """Fold one step after the other, each of a single reply."""
    for text in texts:
        result = fold(of, context, state, text)
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


def fitted(of: Any, view: Any, context: StepContext, excess: int) -> tuple[str, LeftOut]:
    """The prompt in a window for which it is `excess` tokens too long, and what it leaves out."""

    def render(prompt: Prompt) -> list[int]:
        return [0] * words(content(prompt))

    whole = len(render(of.render(view, context)))
    result = fit(of, view, replace(context, window=2 * (whole - excess)), render)
    assert result.fits
    return content(result.prompt), result.left_out


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
