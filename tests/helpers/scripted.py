"""The real scripts without a model: a chat format, an engine and replies for the tests."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from helpers.fakes import ScriptedChat, ScriptedEngine, contents
from kflow import experiment as experiments
from kflow import study as studies
from kflow.engines.vllm_engine import arguments as engine_arguments
from kflow.running import provenance
from kflow.running.work import MakeEngine
from kflow.types import Chat

ROOT = Path(__file__).resolve().parents[2]
RIVAL = re.compile(
    r"vllm_(oss|qwen)_(parallel_thinking|refine|rsa|trt|rse|pacore|markovian_whole_tail)"
)
ALL = tuple(sorted(path.stem for path in (ROOT / "scripts").glob("vllm_*.py")))
RIVALS = tuple(name for name in ALL if RIVAL.fullmatch(name))
SCRIPTS = tuple(name for name in ALL if name not in RIVALS)

# The same for every run of a test session, and slow to find out.
CODE, VERSIONS = cache(provenance.code), cache(provenance.versions)


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
        reports = r"(seed \d+ )?step \d+ complete\b|First failed rollout: |Empty replies: "
        progress = re.compile(rf"(\w+ )?({reports}|Prompts without room: )")
        return [line for line in self.err.splitlines() if not progress.match(line)]

    def step(self, number: int) -> list[dict[str, Any]]:
        """The parsed predictions_<number>.json: the summary, then the records."""
        return list(json.loads((self.folder / f"predictions_{number}.json").read_bytes()))

    def run(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "run.json").read_bytes()))

    def predictions(self) -> dict[str, bytes]:
        return contents(self.folder, "predictions_*.json")


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
    scripted = importlib.import_module(name).EXPERIMENT
    chat = served or ScriptedChat()
    scripted = replace(scripted, family=replace(scripted.family, chat=lambda *_, **__: chat))

    def main(flags: list[str], make_engine: MakeEngine) -> None:
        experiments.main(scripted, flags, None if served else make_engine)

    return ended(tmp_path, argv, engine, main, name, fsync)


def run_study(name: str, argv: list[str], home: Path, engine: ScriptedEngine | None) -> Ran:
    """Run scripts/<name>.py on three problems; without `engine` none must be made."""
    whole: studies.Study = importlib.import_module(name).STUDY
    chat = ScriptedChat()
    arms = tuple(
        replace(arm, family=replace(arm.family, chat=lambda *_, **__: chat)) for arm in whole.arms
    )
    smaller = replace(whole, arms=arms)
    return ended(home, argv, engine, lambda flags, make: studies.main(smaller, flags, make))


def takes_all(arguments: Mapping[str, object]) -> None:
    """What vLLM says of an engine's arguments, without importing it."""


def ended(
    home: Path,
    argv: list[str],
    engine: ScriptedEngine | None,
    main: Callable[[list[str], MakeEngine], None],
    name: str = "study",
    fsync: Callable[[int], None] = lambda descriptor: None,
) -> Ran:
    """What became of a program: `main` with a model, problems and a results folder in `home`."""
    model, problems = home / "model", home / "problems.jsonl"
    model.mkdir(parents=True, exist_ok=True)
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(bytes(9))
    if not problems.exists():
        write_problems(problems, QUESTIONS)
    results = home / "results"
    places = [
        "--model_name",
        str(model),
        "--dataset",
        str(problems),
        "--results_dir",
        str(results),
    ]

    def make_engine(*arguments: object) -> ScriptedEngine:
        assert engine is not None, "an engine is made where none is needed"
        return engine.start(*arguments)  # type: ignore[arg-type]

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    argv = [*places, *argv]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.object(sys, "argv", [f"scripts/{name}.py", *argv]),
            mock.patch.object(os, "fsync", fsync),
            mock.patch.dict(os.environ, HF_HUB_OFFLINE="1"),
            mock.patch.multiple(provenance, code=CODE, versions=VERSIONS),
            mock.patch.object(engine_arguments, "build", takes_all),
        ):
            main(argv, make_engine)
        code: object = None
    except SystemExit as exit:
        code = exit.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    printed, complained = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Ran(code, printed, complained, results)


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
