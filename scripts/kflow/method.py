"""What a method is: pure rules that say what each rollout is asked and what replies teach.

A method owns its state and its views, which nothing else looks into (docs/method.md, "The four
methods" and "Rivals at equal budget").
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, cycle, islice
from typing import Any, Generic, Protocol, TypeVar

from kflow.answers.base import AnswerType, Rule
from kflow.types import Answer, Prompt, Reply
from kflow.types import LeftOut as LeftOut  # for a method, as StepNote: both are on record
from kflow.types import StepNote as StepNote

S = TypeVar("S")
V = TypeVar("V")

# A step's replies in slot order; None for a rollout that failed for good.
Replies = tuple[Reply | None, ...]


class Template(Protocol):
    """A prompt text with `slots`."""

    @property
    def slots(self) -> frozenset[str]: ...

    def fill(self, **slots: str) -> str:
        """The text with every slot replaced, in a single pass."""
        ...

    def fill_lines(self, entries: Iterable[tuple[int, str]]) -> str:
        """The text with its line that holds [[ENTRY]] once for each entry and its number."""
        ...


@dataclass(frozen=True)
class StepContext:
    """What a step of a chain may use besides its state.

    window: tokens. count: text -> tokens. last_sentences: the last whole sentences of a text within
    a number of tokens. answers: the data's answer type. same: sameness of answers within the chain,
    the earlier one first. templates: prompt name -> text. draw: slot -> a stable number for the
    step's random choices.
    """

    window: int
    count: Callable[[str], int]
    last_sentences: Callable[[str, int], str]
    answers: AnswerType
    same: Callable[[Answer, Answer], bool]
    templates: Mapping[str, Template]
    draw: Callable[[int], int] = lambda slot: slot


@dataclass(frozen=True)
class StepResult(Generic[S]):
    """What a step's replies make of a chain. verdict: what it would answer if it
    ended here."""

    state: S
    verdict: Answer | None = None
    note: StepNote = field(default_factory=StepNote)


class Method(Protocol[S, V]):
    """The rules of one experiment.

    rule: how an answer is extracted from a whole reply. ahead: no reply changes a prompt, so all
    steps may be asked at once. widths: how many rollouts the first steps have, and then again.
    prompts: name -> the slots that its text must have, no more and no fewer but for those that
    loop/prompts.py lets it leave out; read from `<name>.txt` in prompt_folder or in --prompt_dir.

    Two members are optional. `steps`: how many steps a chain has, of a method that comes to an end
    by itself. `within(rollouts, kept) -> (method, steps)`: the method for at most so many rollouts
    per chain, its fields but for those named in `kept` set for them, and as many steps; 0 where
    there is no such thing. Without it, it is as many whole steps as fit.
    """

    @property
    def rule(self) -> Rule: ...

    @property
    def ahead(self) -> bool: ...

    @property
    def widths(self) -> tuple[int, ...]: ...

    @property
    def prompts(self) -> Mapping[str, frozenset[str]]: ...

    @property
    def prompt_folder(self) -> str: ...

    def start(self, question: str) -> S:
        """The state before the first step."""
        ...

    def ask(self, state: S, context: StepContext) -> tuple[V, ...]:
        """The views that a step's rollouts are asked with, one per slot; never empty."""
        ...

    def render(self, view: V, context: StepContext) -> Prompt:
        """A view as a prompt."""
        ...

    def shrink(self, view: V, excess: int, context: StepContext) -> tuple[V, LeftOut] | None:
        """A smaller view, for a prompt that is `excess` tokens too long, and what it leaves out;
        None where nothing more can go. Called again while the prompt is still too long."""
        ...

    def update(self, state: S, replies: Replies, context: StepContext) -> StepResult[S]:
        """Fold a step's replies into the state."""
        ...


def rollouts_of(method: Method[Any, Any], steps: int, done: int = 0) -> int:
    """How many rollouts a chain takes for its steps, after those that are done."""
    return sum(islice(cycle(method.widths), done, steps))


def within(
    method: Method[Any, Any], rollouts: int, kept: Collection[str] = ()
) -> tuple[Method[Any, Any], int]:
    """The method for at most so many rollouts per chain, and the number of its steps. kept: the
    fields that stay as they are."""
    own = getattr(method, "within", None)
    if own is not None:
        fitted: tuple[Method[Any, Any], int] = own(rollouts, kept)
        return fitted
    rounds, left = divmod(rollouts, sum(method.widths))
    rest = sum(total <= left for total in accumulate(method.widths))
    return method, rounds * len(method.widths) + rest


def at_once(method: Method[Any, Any], steps: int, done: int = 0) -> int:
    """How many of these rollouts a chain has in flight at a time, at most."""
    if method.ahead:
        return rollouts_of(method, steps, done)
    return max(islice(cycle(method.widths), done, steps), default=0)
