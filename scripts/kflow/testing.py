"""What the tests of a method need, inside this repository and outside: a chat format, an engine and
replies without a model, a method's context without a run, and a whole run on problems of one's own.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kflow import experiment as experiments
from kflow.answers import AnswerType, Integer, Sameness
from kflow.experiment import Experiment
from kflow.loop import prompts
from kflow.loop.sentences import TokenMeasure
from kflow.method import StepContext
from kflow.running.settings import Settings
from kflow.types import Chat, Completion, EngineDied, Key, Prompt, Reply, Request

PIECE = re.compile(r"\S+|\s+")

# A method by itself.


def words(text: str) -> int:
    return len(text.split())


def context(
    of: Any,
    window: int = 10_000,
    count: Callable[[str], int] = words,
    answers: AnswerType | None = None,
    draw: Callable[[int], int] = lambda slot: slot,
    folder: Path | None = None,
    prefix: str = "",
) -> StepContext:
    """A context with the method's own prompts, or those of --prompt_dir, in which a token is a
    word."""
    answers = answers or Integer()
    optional = prompts.ABOUT_ANSWERS if folder else frozenset[str]()
    templates = prompts.load(folder or Path(of.prompt_folder), of.prompts, prefix, optional)
    measure = TokenMeasure(window, count)
    same = Sameness(answers)
    return StepContext(window, count, measure.last_sentences, answers, same, templates, draw)


def reply(
    of: Any, context: StepContext, text: str, shown: str | None = None, continues: str = ""
) -> Reply:
    """A reply as the flow hands it to the method; shown: its visible answer, else all of it."""
    own = context.answers.extract(text, of.rule)
    return Reply(text, text if shown is None else shown, continues, own)


# A model's part.


class ScriptedChat:
    """A Chat whose tokens are words and stretches of blanks, numbered as they turn up."""

    stop_token_ids: tuple[int, ...] = ()

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._pieces: list[str] = []

    def encode(self, text: str) -> list[int]:
        text.encode()  # a real tokenizer refuses lone surrogates too
        for piece in PIECE.findall(text):
            if piece not in self._ids:
                self._ids[piece] = len(self._pieces)
                self._pieces.append(piece)
        return [self._ids[piece] for piece in PIECE.findall(text)]

    def render(self, prompt: Prompt) -> list[int]:
        turns = "".join(f"<{turn.role}>\n{turn.content}\n" for turn in prompt.messages)
        return self.encode(f"{turns}<assistant>\n{prompt.prefill}")

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(self._pieces[number] for number in ids)

    def count(self, text: str) -> int:
        return len(PIECE.findall(text))


def stable(key: Key, salt: str = "") -> int:
    slot = f"/{key.slot}" if key.slot else ""
    digest = hashlib.sha256(f"{salt}/{key.problem}/{key.seed}/{key.step}{slot}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def answer_of(key: Key) -> int:
    """What `reply_for` answers: one of three numbers, so that chains change their mind often."""
    return 100 + stable(key) % 3


def mark(key: Key, section: str) -> str:
    """A word that only the text of this section of this reply contains."""
    return f"«{key.problem}|{key.seed}|{key.step}|{section}»"


def reply_for(sections: tuple[str, ...], key: Key, sentences: int = 2) -> str:
    """A whole reply, some thinking first; without sections, thinking and the answer alone."""
    filler = " It follows from the givens." * (sentences - 1)
    boxed = rf"\boxed{{{answer_of(key)}}}"
    # An entry is dropped only where one is added, so that a list never becomes empty again.
    adds = stable(key, "add") % 4 > 0
    drops = adds and stable(key, "drop") % 3 == 0
    fixed = {
        "Answer": boxed,
        "Adding?": "Yes" if adds else "No",
        "Dropping?": "Yes" if drops else "No",
        "Least Useful to Drop": "Dropping Experimental Knowledge 1" if drops else "N/A",
    }
    written = [
        f"[{name}]: {fixed[name] if name in fixed else f'The {mark(key, name)} says so.{filler}'}"
        for name in sections
    ]
    thoughts = f"Thinking of {mark(key, 'thoughts')} now.{filler}"
    return f"{thoughts}\n</think>\n\n" + ("\n\n".join(written) or f"It is {boxed}.")


def sections_asked(prompt: str) -> tuple[str, ...]:
    """The headers that a prompt's instructions ask for, none where it asks for none."""
    _, separator, instructions = prompt.rpartition("sections below")
    return tuple(re.findall(r"^\[(.+?)\]:", instructions, re.MULTILINE)) if separator else ()


def obliging(request: Request, prompt: str) -> str:
    return reply_for(sections_asked(prompt), request.key)


Script = Callable[[Request, str], Completion | str]
Pick = Callable[[list[Key]], list[Key]]


class ScriptedEngine:
    """Answers by `script`, one to three rollouts at a time, in an order seeded by `order`.

    stop_after: completions after which `stop_with` is raised. pick: the keys in flight -> those
    that finish next, instead of random ones. Keys are without the name of their run, unless
    `several_runs`.
    """

    def __init__(
        self,
        script: Script = obliging,
        order: int = 0,
        *,
        stop_after: int | None = None,
        stop_with: BaseException | None = None,
        pick: Pick | None = None,
        several_runs: bool = False,
    ) -> None:
        self._several_runs = several_runs
        self._script, self._random = script, random.Random(order)
        self._stop_after, self._stop_with = stop_after, stop_with or EngineDied("It is gone")
        self._pick = pick or self._any
        self._in_flight: dict[Key, Request] = {}
        self._sent: dict[Key, Key] = {}
        self.requests: list[Request] = []
        self.prompts: dict[Key, str] = {}
        self.delivered: list[Key] = []
        self.arguments: dict[str, object] = {}
        self.sampling: dict[str, object] = {}
        self.started = self.closed = 0

    def start(
        self, arguments: Mapping[str, object], sampling: Mapping[str, object], chat: Chat
    ) -> ScriptedEngine:
        self.arguments, self.sampling, self._chat = dict(arguments), dict(sampling), chat
        self.started += 1
        return self

    def _any(self, waiting: list[Key]) -> list[Key]:
        return self._random.sample(waiting, min(self._random.randint(1, 3), len(waiting)))

    def submit(self, request: Request) -> None:
        sent = request.key
        if not self._several_runs:
            request = replace(request, key=request.key._replace(run=""))
        assert request.key not in self.prompts, f"{request.key} was submitted twice"
        assert not self.closed
        self._sent[request.key] = sent
        self.requests.append(request)
        self.prompts[request.key] = self._chat.decode(list(request.prompt_ids), False)
        self._in_flight[request.key] = request

    def completions(self) -> list[Completion]:
        assert self._in_flight, "nothing is in flight"
        left = None if self._stop_after is None else self._stop_after - len(self.delivered)
        if left == 0:
            raise self._stop_with
        keys = self._pick(list(self._in_flight))[:left]
        self.delivered += keys
        return [self._completion(self._in_flight.pop(key)) for key in keys]

    def _completion(self, request: Request) -> Completion:
        reply, key = self._script(request, self.prompts[request.key]), self._sent[request.key]
        if isinstance(reply, Completion):
            return replace(reply, key=key)
        return Completion(key, reply, self._chat.count(reply), "stop")

    def close(self) -> None:
        self.closed += 1


# A whole run.


def run(
    experiment: Experiment,
    problems: Iterable[tuple[str, object]],
    home: Path,
    engine: ScriptedEngine,
    **settings: Any,
) -> Path:
    """Work an experiment on (problem, answer) pairs with a scripted engine, in a folder of one's
    own; called again, it resumes. Gives the folder of its results. settings: as for
    `kflow.Settings`. Raises what `kflow.run` does."""
    model, rows, chat = home / "model", home / "problems.jsonl", ScriptedChat()
    model.mkdir(parents=True, exist_ok=True)
    (model / "config.json").write_text("{}")
    lines = [json.dumps({"problem": problem, "answer": answer}) for problem, answer in problems]
    rows.write_text("".join(f"{line}\n" for line in lines))
    given = {"model_name": str(model), "dataset": str(rows), "results_dir": str(home / "results")}
    family = replace(experiment.family, chat=lambda *_, **__: chat)
    worked = replace(experiment, family=family)
    return experiments.run(worked, Settings(**{**given, **settings}), engine.start)
