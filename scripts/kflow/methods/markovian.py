"""Method 4, Markovian thinking: the baseline without a knowledge list (METHOD.md, section 4).

A chain is one long text. Each step sees the question and the text's tail, as an assistant's
message, and goes on from there. `State.reference` is the text so far, as far as it was carried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..types import Answer, Measure, Message, Prompt, Reply, State, Template

TAIL_FRACTION = 0.45
FIRST_FRACTION = 0.9
LATER_FRACTION = 0.5


@dataclass(frozen=True)
class Markovian:
    """What the two families' baselines differ in.

    nudge: what follows the tail, asking for more thought.
    appended: a later step's reply -> the part of it that joins the text.
    answer: the extraction rule, applied to the new text alone.
    """

    nudge: str
    appended: Callable[[str], str]
    answer: Callable[[str], Answer]

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        return {self.nudge: frozenset()}

    def fraction(self, state: State) -> float:
        return FIRST_FRACTION if state.reference is None else LATER_FRACTION

    def sections(self, state: State) -> tuple[str, ...]:
        return ()

    def carried(self, state: State, prompts: Mapping[str, Template], measure: Measure) -> str:
        if state.reference is None:
            return ""
        # Where the last sentence alone is over the budget the tail is empty: the step sees the
        # question and the nudge.
        tail = measure.last_sentences(state.reference, int(TAIL_FRACTION * measure.window))
        return f"{tail}\n{prompts[self.nudge].fill()}\n"

    def messages(self, state: State, prompts: Mapping[str, Template], measure: Measure) -> Prompt:
        question = Message("user", state.question)
        if state.reference is None:
            return Prompt((question,))
        return Prompt((question, Message("assistant", self.carried(state, prompts, measure))))

    def update(self, state: State, reply: Reply, measure: Measure) -> State:
        """Join the reply to the text; it is cut when it is next shown."""
        new = reply.text if state.reference is None else self.appended(reply.text)
        return replace(
            state,
            reference=reply.carried + new,
            answers=(*state.answers, self.answer(reply.text)),
            change={"appended_characters": len(new)},
        )


def before_final(text: str) -> str:
    """gpt-oss: only what precedes `assistantfinal`, the thinking."""
    return text.partition("assistantfinal")[0]


def everything(text: str) -> str:
    """Qwen: the whole reply."""
    return text
