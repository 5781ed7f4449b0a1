"""The small frozen values that travel between the parts.

None of them carries a gold answer except `Problem`, and no `Problem` reaches a method: a method
sees a `State` and a `Reply`, nothing else (METHOD.md, "The loop").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Answer = int | None
Record = dict[str, object]


class UserError(Exception):
    """A mistake the user can mend: one sentence with the remedy; the program ends with code 2."""


class RunEnded(Exception):
    """The run cannot go on (the engine is gone, too much fails): one sentence; the program ends
    with code 1, and the same command continues."""


class EngineDied(RunEnded):
    """The engine is gone for good."""


class Key(NamedTuple):
    """Names one rollout: which problem, which independent chain (0..num_seeds-1), which step."""

    problem: str
    seed: int
    step: int


@dataclass(frozen=True)
class Problem:
    """One row of a data set. `gold` is the data set's own value, `answer` its integer."""

    id: str
    question: str
    gold: object
    answer: int


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; role is `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """What a rollout is asked. `opening` is text the assistant's turn already begins with."""

    messages: tuple[Message, ...]
    opening: str = ""


@dataclass(frozen=True)
class Reply:
    """What came back: the whole text, the part of it after the model's thinking, and the text it
    goes on from (`Method.carried`)."""

    text: str
    visible: str
    carried: str = ""


@dataclass(frozen=True)
class Entry:
    """One item of a knowledge list and the answer it is filed under."""

    text: str
    answer: Answer = None


@dataclass(frozen=True)
class State:
    """All that one rollout hands to the next; the fold of `update` over the replies so far.

    knowledge: oldest first. reference: the last reply's summary, None before the first reply.
    answers: the chain's predictions so far. left_out: how many of the oldest entries a prompt
    does not show for lack of room. change: what the last update did, for the record.
    """

    question: str
    knowledge: tuple[Entry, ...] = ()
    reference: str | None = None
    answers: tuple[Answer, ...] = ()
    left_out: int = 0
    change: Record = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One rollout as the engine gets it; lengths in tokens.

    pattern: a regular expression the whole reply must match, or None.
    """

    key: Key
    prompt_ids: tuple[int, ...]
    max_tokens: int
    seed: int
    pattern: str | None = None


@dataclass(frozen=True)
class Completion:
    """One finished rollout as the engine gives it back.

    finish_reason is the engine's own word: `stop`, `length` (cut off at the budget), ...
    failure says why this very request can never be answered, unanswered why it was not this
    time: nothing is on record then, and the next start of the run asks it again.
    """

    key: Key
    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    failure: str | None = None
    unanswered: str | None = None


class Measure(Protocol):
    """Text in tokens: how long it is, and its last whole sentences within a budget."""

    window: int

    def count(self, text: str) -> int: ...

    def last_sentences(self, text: str, tokens: int) -> str: ...


class Template(Protocol):
    """A prompt text; `fill` puts every slot in, in a single pass."""

    def fill(self, **slots: str) -> str: ...


class Method(Protocol):
    """An experiment's rules, pure: `messages` asks, `update` learns (METHOD.md, "The four
    methods").

    prompts: file name -> the slots that file must have, no more and no fewer.
    answer: the extraction rule, whole reply -> prediction.
    fraction: the share of the window that one reply may take.
    sections: the headers a reply is asked for, in order.
    carried: the text that the next reply continues, "" where a reply stands on its own.
    """

    @property
    def prompts(self) -> dict[str, frozenset[str]]: ...

    @property
    def answer(self) -> Callable[[str], Answer]: ...

    def fraction(self, state: State) -> float: ...

    def sections(self, state: State) -> tuple[str, ...]: ...

    def carried(self, state: State, prompts: Mapping[str, Template], measure: Measure) -> str: ...

    def messages(
        self, state: State, prompts: Mapping[str, Template], measure: Measure
    ) -> Prompt: ...

    def update(self, state: State, reply: Reply, measure: Measure) -> State: ...


class Chat(Protocol):
    """A model family's format: messages -> token ids, reply -> visible answer."""

    stop_token_ids: tuple[int, ...]

    def render(self, prompt: Prompt) -> list[int]: ...

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str: ...

    def count(self, text: str) -> int: ...

    def visible(self, text: str) -> str: ...


class Engine(Protocol):
    """Submit requests, then take completions as they finish, in any order."""

    def submit(self, request: Request) -> None: ...

    def completions(self) -> list[Completion]: ...

    def close(self) -> None: ...
