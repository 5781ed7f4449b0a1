"""What the program makes of fixed replies and of the committed results, by sha256.

A change that is meant to change no behaviour leaves frozen.json as it is. Where one is meant to,
write it anew and say in the commit what changes:

    PYTHONPATH=scripts .venv/bin/python tests/test_frozen.py FOLDER

FOLDER receives the texts themselves: those of two commits, compared with `diff -r`, show what
changed. They do not depend on the machine, the place, the time, or the wording of the code:

- of run.json only what resuming compares is kept, without the engine's arguments;
- what the commands print has paths that begin above the results, numbers of nine digits, as the
  last ones depend on numpy and scipy, and no differences in `OF_PLACE`;
- of the exported parquet files the names of the columns and the rows are kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import runpy
import sys
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pyarrow.parquet as pq
import pytest

from helpers.fakes import Pick, ScriptedEngine, obliging, stable
from helpers.scripted import ALL, ROOT, run_script, run_study, write_problems
from kflow.types import Completion, EngineDied, Key, Request

FROZEN = Path(__file__).with_name("frozen.json")
WINDOW = ["--max_new_tokens", "2400"]  # the longer prompts have to be shortened to fit it
POPULATION = ["--rollouts_per_step", "4", "--aggregate", "2"]
ATTEMPTS = ["--attempts", "4"]
SIZES = {
    "rsa": POPULATION,
    "trt": ["--strategies", "3"],
    "rse": ATTEMPTS,
    "pacore": ["--rounds", "4,3,3,2"],
}
PROBLEMS = (
    ("first", "How many roads lead to the «first|question»?", 101),
    ("second", "How many birds sat on the «second|question»?", "0102"),
    ("third", "How many times was the «third|question» asked?", -4),
    ("vierte Ü", "How many of the «vierte Ü|question» are left?", 100),
)
EXPRESSIONS = (
    ("first", "Which share of the roads leads to the «first|question»?", r"\frac{1}{2}"),
    ("second", "How many birds in $x$ trees heard the «second|question»?", "2x+2"),
    ("third", "Where is the «third|question»?", "(1,2)"),
)
# What `fakes.answer_of` gives, 100 to 102, as expressions: of each problem two are the same.
SPELLED = {
    "first": ("0.5", r"\frac{2}{4}", "2"),
    "second": ("2(x+1)", "2+2x", "2x"),
    "third": ("(1, 2)", r"\left(1,2\right)", "(2,1)"),
}


class Case(NamedTuple):
    """A run of a script. flags: besides those that every run has."""

    script: str
    flags: list[str]
    problems: tuple[tuple[str, str, object], ...] = PROBLEMS


RUNS = {
    **{
        name: Case(name, ["--reflex_size", "5", *SIZES.get(name.split("_")[2], [])]) for name in ALL
    },
    "several_seeds": Case(
        "vllm_kflow_qwen", ["--reflex_size", "6", "--num_seeds", "2", "--stop_when_stable", "2"]
    ),
    "token_budget": Case(
        "vllm_oss_rsa", ["--reflex_size", "5", "--token_budget", "20000", *POPULATION]
    ),
    "expressions": Case(
        "vllm_oss_rsa",
        ["--reflex_size", "5", "--answer_type", "expression", *POPULATION],
        EXPRESSIONS,
    ),
    "study": Case("study_qwen", ["--rollouts", "12", *POPULATION, *ATTEMPTS]),
}
RESULTS = {
    "example": ("vllm_parallel_512_example", "vllm_512_example", "vllm_refine_512_example"),
    "five_tasks": tuple(
        f"vllm_{arm}2048_study"
        for arm in (
            "parallel_",
            "",
            "refine_",
            "regen_",
            "posK_",
            "markov_",
            "markov_tail_",
            "rse_",
            "trt_",
            "pacore_",
        )
    ),
}
READING = {
    "compared.json": ["--json"],
    "compared.csv": ["--csv"],
    "regraded.json": ["--json", "--regrade"],
}
# Of run.json, what a run must have in common with the one that it resumes.
IDENTITY = ("experiment", "model", "prompts", "answers", "sampling")
SETTINGS = (
    "max_new_tokens", "temperature", "top_p", "top_k", "seed", "token_budget", "force_sections",
    "stop_when_stable", "engine", "speculate",
)  # fmt: skip
# Settings that runs differ in: a hash over the code's own text, and what depends on the machine.
OF_PLACE = ("method_code", "engine.")
LEADS = {"first": 1, "third": -1}
KILLED = (3, 1 << 31)


def turn(key: Key) -> tuple[int, int]:
    """When a rollout finishes: chains go side by side, one a step ahead and one a step behind."""
    return key.step - LEADS.get(key.problem, 0), stable(key, "turn")


def in_turn(killed: bool) -> Pick:
    """One rollout after another. killed: the engine dies when the second problem's chain has
    finished step 2, amid the next steps: some of their rollouts are on record, some are not."""

    def pick(waiting: list[Key]) -> list[Key]:
        key = min(waiting, key=turn)
        if killed and turn(key) >= KILLED:
            raise EngineDied("It is gone")
        return [key]

    return pick


def reply(request: Request, prompt: str) -> Completion | str:
    """Whole replies of several lengths; among them some that are truncated, refused, without an
    answer, or with another one before the last."""
    key, kind = request.key, stable(request.key, "kind") % 16
    text = obliging(request, prompt)
    text = text.replace("says so.", "says so." + " So it is." * (stable(key, "length") % 40))
    text = text.replace("now.", "now." + " On it goes." * (stable(key, "thoughts") % 120))
    if kind == 0:
        return Completion(key, failure="It was refused")
    if kind == 1:
        return Completion(key, text[: len(text) // 3], 50, "length")
    if kind == 2:
        return re.sub(r"\\boxed{\d+}", "unknown", text)
    if kind == 3:
        return text.replace("</think>", r"\boxed{7}</think>")
    return text


def spelled(request: Request, prompt: str) -> Completion | str:
    """The same with expressions for numbers."""
    said, names = reply(request, prompt), SPELLED[request.key.problem]
    if isinstance(said, Completion):
        return said
    return re.sub(r"(?<=boxed{)10(\d)", lambda match: names[int(match[1])], said)


def frozen(name: str, home: Path) -> dict[str, bytes]:
    """The texts of a case by name. home: an empty folder."""
    if name in RESULTS:
        return read([ROOT / "results" / name for name in RESULTS[name]], ROOT, home)
    case, texts = RUNS[name], {}
    study = case.script.startswith("study")
    write_problems(home / "problems.jsonl", case.problems)
    script = spelled if case.problems is EXPRESSIONS else reply
    for moment, killed in (("killed", True), ("resumed", False)):
        engine = ScriptedEngine(script, pick=in_turn(killed), several_runs=study)
        ran = (run_study if study else run_script)(case.script, WINDOW + case.flags, home, engine)
        assert ran.code == int(killed), ran.err
        texts |= {f"{moment}/{file}": text for file, text in files(ran.results).items()}
    if study:
        texts |= read([home / "results"], home, home)
    return texts


def files(results: Path) -> dict[str, bytes]:
    """All files of runs, without the model's name; of run.json the run's identity."""
    texts = {}
    for path in sorted(results.rglob("*")):
        if path.is_file() and path.name != "status.json":
            name = str(path.relative_to(results)).replace("/model/", "/")
            texts[name] = identity(path) if path.name == "run.json" else path.read_bytes()
    return texts


def identity(path: Path) -> bytes:
    run = json.loads(path.read_bytes())
    kept = {name: run[name] for name in IDENTITY}
    kept["problems"] = {name: run["problems"][name] for name in ("number", "hash")}
    kept["settings"] = {name: run["settings"][name] for name in SETTINGS}
    return dumped(kept)


def read(folders: list[Path], above: Path, home: Path) -> dict[str, bytes]:
    """What the commands make of results, named from the folder above them."""
    texts = {
        name: normalised(program("compare_results", *folders, *flags), above)
        for name, flags in READING.items()
    }
    exported = home / "exported"
    program("export_results", *folders, "--to", "parquet", "--output", exported)
    tables = [pq.read_table(path) for path in sorted(exported.glob("data/*.parquet"))]
    rows = [dumped(row) for table in tables for row in table.to_pylist()]
    return texts | {"exported.jsonl": dumped(tables[0].column_names) + b"".join(rows)}


def program(name: str, *arguments: object) -> str:
    """What a command prints."""
    script = str(ROOT / "scripts" / f"{name}.py")
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True)
    with redirect_stdout(out), mock.patch.object(sys, "argv", [script, *map(str, arguments)]):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                raise
    return out.buffer.getvalue().decode()  # type: ignore[attr-defined]


def normalised(text: str, above: Path) -> bytes:
    """Of JSON and csv."""
    if text.startswith("{"):
        value = json.loads(text)
        for name in list(value["settings"]):
            if name.startswith(OF_PLACE):
                del value["settings"][name]
        text = json.dumps(value, indent=1, ensure_ascii=False)
    text = text.replace(f"{os.path.realpath(above)}/", "")
    return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda match: f"{float(match[0]):.9g}", text).encode()


def dumped(value: Any) -> bytes:
    """A line of JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def hashes(texts: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(text).hexdigest() for name, text in sorted(texts.items())}


@pytest.mark.parametrize("name", [*RUNS, *RESULTS])
def test_it_is_as_it_was(name: str, tmp_path: Path) -> None:
    before = json.loads(FROZEN.read_bytes())
    assert hashes(frozen(name, tmp_path)) == before[name]


def test_every_case_is_frozen() -> None:
    before = json.loads(FROZEN.read_bytes())
    assert before.keys() == {*RUNS, *RESULTS}


def write(folder: Path) -> None:
    """Write the texts into a new folder, and frozen.json."""
    now = {}
    for name in (*RUNS, *RESULTS):
        (folder / name).mkdir(parents=True)
        with tempfile.TemporaryDirectory() as home:
            texts = frozen(name, Path(home))
        now[name] = hashes(texts)
        for file, text in texts.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
    FROZEN.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
