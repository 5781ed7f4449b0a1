"""The real scripts without a model: a chat format, an engine and replies made up for the tests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import io
import json
import os
import random
import re
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from kflow import experiment as experiments
from kflow import provenance
from kflow.types import Chat, Completion, EngineDied, Key, Prompt, Request

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = tuple(sorted(path.stem for path in (ROOT / "scripts").glob("vllm_*.py")))
PIECE = re.compile(r"\S+|\s+")
MARK = re.compile("«([^»]*)»")

# The same for every run of a test session, and slow to find out.
CODE, VERSIONS = cache(provenance.code), cache(provenance.versions)


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
        return self.encode(f"{turns}<assistant>\n{prompt.opening}")

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(self._pieces[number] for number in ids)

    def count(self, text: str) -> int:
        return len(PIECE.findall(text))

    def visible(self, text: str) -> str:
        return text.rpartition("</think>")[2]


def stable(key: Key, salt: str = "") -> int:
    digest = hashlib.sha256(f"{salt}/{key.problem}/{key.seed}/{key.step}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def answer_of(key: Key) -> int:
    """What `reply_for` answers: one of three numbers, so that chains change their mind often."""
    return 100 + stable(key) % 3


def mark(key: Key, section: str) -> str:
    """A word that only the text of this section of this reply contains."""
    return f"«{key.problem}|{key.seed}|{key.step}|{section}»"


def marks(text: str) -> set[str]:
    return {f"«{found}»" for found in MARK.findall(text)}


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
    _, found, instructions = prompt.rpartition("sections below")
    return tuple(re.findall(r"^\[(.+?)\]:", instructions, re.MULTILINE)) if found else ()


def obliging(request: Request, prompt: str) -> str:
    return reply_for(sections_asked(prompt), request.key)


def brief(request: Request, prompt: str) -> str:
    return "«é»"


Script = Callable[[Request, str], Completion | str]
Pick = Callable[[list[Key]], list[Key]]


class ScriptedEngine:
    """Answers by `script`, one to three rollouts at a time, in an order seeded by `order`.

    stop_after: completions after which `stop_with` is raised. pick: the keys in flight -> those
    that finish next, instead of random ones.
    """

    def __init__(
        self,
        script: Script = obliging,
        order: int = 0,
        *,
        stop_after: int | None = None,
        stop_with: BaseException | None = None,
        pick: Pick | None = None,
    ) -> None:
        self._script, self._random = script, random.Random(order)
        self._stop_after, self._stop_with = stop_after, stop_with or EngineDied("It is gone")
        self._pick = pick or self._any
        self._in_flight: dict[Key, Request] = {}
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
        assert request.key not in self.prompts, f"{request.key} was submitted twice"
        assert not self.closed
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
        said = self._script(request, self.prompts[request.key])
        if isinstance(said, Completion):
            return said
        return Completion(request.key, said, self._chat.count(said), "stop")

    def close(self) -> None:
        self.closed += 1


@dataclass(frozen=True)
class Ran:
    """How a script ended, and the folder its results folders are in."""

    code: object
    out: str
    err: str
    results: Path

    @property
    def folder(self) -> Path:
        """The one results folder, apart from those that were moved aside."""
        (folder,) = (p for p in self.results.glob("*/*") if ".old-" not in p.name)
        return folder

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr, without the progress report's."""
        return [line for line in self.err.splitlines() if not line.startswith("step ")]

    def step(self, number: int) -> list[dict[str, Any]]:
        """The parsed predictions_<number>.json: the summary, then the records."""
        return list(json.loads((self.folder / f"predictions_{number}.json").read_bytes()))

    def run(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "run.json").read_bytes()))

    def predictions(self) -> dict[str, bytes]:
        return contents(self.folder, "predictions_*.json")


def contents(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }


def write_problems(path: Path, rows: Iterable[tuple[str, str, object]]) -> Path:
    """A .jsonl data set of (id, problem, answer)."""
    lines = [json.dumps({"id": i, "problem": p, "answer": a}) for i, p, a in rows]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


QUESTIONS = (
    ("first", "How many roads lead to the «first|question»?", 101),
    ("second", "How many birds sat on the «second|question»?", "0102"),
    ("third", "How many times was the «third|question» asked?", -4),
)


def run_script(
    name: str,
    argv: list[str],
    tmp_path: Path,
    engine: ScriptedEngine | None = None,
    fsync: Callable[[int], None] = lambda descriptor: None,
    served: Chat | None = None,
) -> Ran:
    """Run scripts/<name>.py as its command line would, on three problems unless argv says so.

    Without `engine` none must be made. An exception that a user would see as a traceback is
    raised. fsync: instead of the real one, which costs most of a run's time. served: the chat
    format of a scripted server, asked by the engine that the flags name.
    """
    model, problems = tmp_path / "model", tmp_path / "problems.jsonl"
    model.mkdir(parents=True, exist_ok=True)
    (model / "config.json").write_text("{}")
    if not problems.exists():
        write_problems(problems, QUESTIONS)
    results = tmp_path / "results"
    given = ["--model_name", str(model), "--dataset", str(problems), "--results_dir", str(results)]
    scripted = importlib.import_module(name).EXPERIMENT
    scripted = replace(
        scripted, family=replace(scripted.family, chat=lambda *_: served or ScriptedChat())
    )

    def make_engine(*arguments: object) -> ScriptedEngine:
        assert engine is not None, "an engine is made where none is needed"
        return engine.start(*arguments)  # type: ignore[arg-type]

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    argv = [*given, *argv]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "argv", [f"scripts/{name}.py", *argv]),
            mock.patch.object(os, "fsync", fsync),
            mock.patch.dict(os.environ, HF_HUB_OFFLINE="1"),
            mock.patch.multiple(provenance, code=CODE, versions=VERSIONS),
        ):
            experiments.main(scripted, argv, None if served else make_engine)
        code: object = None
    except SystemExit as ended:
        code = ended.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    told, complained = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Ran(code, told, complained, results)


class HalfWritten(io.FileIO):
    """A file on a disk that is full in the middle of what is written: an unbuffered file (mode
    `ab` here) says how much there was room for, a buffered one raises."""

    def write(self, content: Any) -> int:
        written = super().write(content[: len(content) // 2])
        if self.mode == "wb":
            raise OSError(errno.ENOSPC, "No space left on device")
        return written


def refused(ran: Ran, *words: str) -> None:
    """The user's mistake is told in one line with these words in it, and ends with code 2."""
    assert ran.code == 2, ran
    (sentence,) = ran.complaints
    assert sentence.isprintable()
    for word in words:
        assert word in sentence
