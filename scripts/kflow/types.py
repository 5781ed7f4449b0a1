"""The small frozen values that travel between the parts.

None of them carries a gold answer except `Problem`, and no `Problem` reaches a method: a method
sees a question, replies and a `StepContext`, nothing else (docs/method.md, "The loop").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

# An answer in the data's own form: an integer, or text (an expression, a choice). Only its
# AnswerType knows when two of them are the same.
Answer = int | str


class UserError(Exception):
    """A mistake the user can correct: one sentence with the remedy; exit code 2."""


class Unreachable(UserError):
    """Something that is not on this machine, and may be on the one that the run is for: the hub
    behind a closed network, a vLLM. A dry run goes on without it."""


class RunEnded(Exception):
    """The run cannot go on for now: one sentence; the program ends with code 1, and running the
    same command again resumes it."""


class RunFailed(RunEnded):
    """Too many rollouts failed for good, or all that the run may cost is spent: one sentence with
    the remedy; the program ends with code 1, and running the same command again is a UserError."""


class EngineDied(RunEnded):
    """The engine is gone for good."""


class Key(NamedTuple):
    """Names one rollout. run: the experiment, where several share an engine. seed: the number of
    the chain among a problem's independent ones (0..num_seeds-1). slot: which of the step's
    rollouts (0..width-1)."""

    run: str
    problem: str
    seed: int
    step: int
    slot: int = 0


@dataclass(frozen=True)
class Problem:
    """One row of a data set. `gold` is the data set's own value, `answer` what it means."""

    id: str
    question: str
    gold: object
    answer: Answer


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; role is `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Entry:
    """One item of a knowledge list and the answer it is filed under."""

    text: str
    answer: Answer | None = None


@dataclass(frozen=True)
class LeftOut:
    """What a prompt does not show for lack of room: entries of the knowledge list, and tokens of
    the texts it would have shown. True where there is any."""

    entries: int = 0
    tokens: int = 0

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.entries + other.entries, self.tokens + other.tokens)

    def __bool__(self) -> bool:
        return self.entries > 0 or self.tokens > 0


@dataclass(frozen=True)
class StepNote:
    """What a step did to a chain's state; on record as its `note`.

    added: entries that joined the list; with `replaced` they took the place of all that was there.
    dropped: entries that left it. skipped: why nothing was added. truncated: sections that a reply
    left unfinished or empty. selected: the candidate that was chosen, where a step chooses.
    """

    added: tuple[Entry, ...] = ()
    dropped: tuple[Entry, ...] = ()
    replaced: bool = False
    skipped: str = ""
    truncated: tuple[str, ...] = ()
    selected: int | None = None


@dataclass(frozen=True)
class Prompt:
    """What a rollout is asked.

    fraction: the share of the window that its reply may take. prefill: text with which the
    assistant's turn begins. continues: text that the reply goes on from, prepended to it on record,
    "" for none. nudge: what of that is not carried over. sections: the headers the reply is asked
    for, in order. forms: section -> a regular expression, for a section that is not free text,
    beside the answer's. asks_answer: False for a step without an answer of its own. shown: the
    knowledge list as the prompt shows it, in that order.
    """

    messages: tuple[Message, ...]
    fraction: float
    prefill: str = ""
    continues: str = ""
    nudge: str = ""
    sections: tuple[str, ...] = ()
    forms: Mapping[str, str] = field(default_factory=dict)
    asks_answer: bool = True
    shown: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What came back. text: the whole reply. visible: the part after the model's thinking.
    continues: the text it goes on from (`Prompt.continues`). answer: its own answer by the method's
    rule, canonical within the chain."""

    text: str
    visible: str
    continues: str = ""
    answer: Answer | None = None


@dataclass(frozen=True)
class Request:
    """One rollout as the engine gets it; lengths in tokens.

    pattern: a regular expression that the whole reply must match, or None. messages: the prompt
    before it was rendered, for a server that renders prompts itself.
    """

    key: Key
    prompt_ids: tuple[int, ...]
    max_tokens: int
    seed: int
    pattern: str | None = None
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Completion:
    """One finished rollout as the engine gives it back; `tokens` counts the reply's.

    prompt_tokens: the server's count, where the prompt was rendered there. estimated: which of the
    record's counts are estimates, by its names for them. cost, provider: as `Rollout` has them.

    finish_reason is the engine's own word: `stop`, `length` (truncated at the budget), ...
    failure: why this request can never be answered; final, and put on record. unanswered: why the
    engine stopped asking for now; nothing is put on record, and the next start asks again.
    preemptions, lost_context: as `Rollout` has them. max_tokens: the budget that the request was
    answered with, where a server has left less of it than was asked for.
    """

    key: Key
    text: str = ""
    tokens: int = 0
    finish_reason: str | None = None
    failure: str | None = None
    unanswered: str | None = None
    preemptions: int = 0
    lost_context: bool = False
    prompt_tokens: int | None = None
    estimated: tuple[str, ...] = ()
    max_tokens: int | None = None
    cost: float | None = None
    provider: str | None = None


class EngineState(NamedTuple):
    """What an engine says of itself. running, waiting: rollouts. tokens: those in flight have so
    far. kv_usage: the share of the KV cache that is taken, 0 to 1. preemptions: since the engine
    started. waits: what it waits for and why, where it does not answer. None: not known."""

    running: int
    waiting: int
    tokens: int | None
    kv_usage: float | None = None
    preemptions: int | None = None
    waits: str | None = None


@dataclass(frozen=True)
class KvCache:
    """tokens: as many as fit, of all rollouts together. at_once: rollouts decoded at a time, at
    most."""

    tokens: int
    at_once: int


class Chat(Protocol):
    """A model family's format: prompt -> token ids, reply's token ids -> text."""

    stop_token_ids: tuple[int, ...]

    def render(self, prompt: Prompt) -> list[int]: ...

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str: ...

    def count(self, text: str) -> int: ...


class Engine(Protocol):
    """Submit requests, then take completions as they finish, in any order.

    An engine may also have `progress() -> EngineState`, which is called from another thread, and
    `kv_cache`, a KvCache or None.
    """

    def submit(self, request: Request) -> None: ...

    def completions(self) -> list[Completion]: ...

    def close(self) -> None: ...
