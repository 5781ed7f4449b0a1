"""What the folders of all exports have in common: they appear whole or not at all, under names that
are safe, with a card."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kflow.ground.files import SUFFIX
from kflow.ground.terminal import first_line, printable, safely
from kflow.ground.version import TITLE
from kflow.results.recorded import part
from kflow.results.rows import TEXTS, Row
from kflow.results.runs import SavedRun
from kflow.types import UserError

SAFE = re.compile(r"[\w@+ -][\w.@+ -]{0,99}")
FACTS = (
    ("model", ("model", "name")),
    ("method", ("experiment", "method")),
    ("window", ("settings", "max_new_tokens")),
    ("temperature", ("settings", "temperature")),
    ("seeds", ("settings", "num_seeds")),
    ("problems", ("problems", "source")),
)


@contextmanager
def make_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that takes its name only when all is in it. Raises UserError where
    anything has that name, or it cannot be written."""
    refusal = f"{path} already exists and is left alone: move it away, or give another --output."
    if not path.name or os.path.lexists(path):
        raise UserError(refusal)
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path.parent} is not a folder: create it, or give another --output.")
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}{SUFFIX}")
    try:
        part.mkdir()
    except OSError as error:
        raise UserError(f"Cannot write --output {path} ({first_line(error)}).") from error
    try:
        yield part
        try:
            os.rename(part, path)  # fails on a file, and on a folder that holds anything
        except OSError as error:
            if os.path.lexists(path):
                raise UserError(refusal) from error
            raise UserError(f"Cannot write --output {path} ({first_line(error)}).") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def name_file(text: str, number: int) -> str:
    """A text as a file's name, or `~` and a number, which no such text is."""
    return text if SAFE.fullmatch(text) else f"~{number}"


def name_files(runs: Sequence[SavedRun]) -> list[str]:
    """A file's name for each run, all different."""
    flat = [run.name.replace("/", "_") for run in runs]
    return [
        name_file(name if flat.count(name) == 1 else "", number) for number, name in enumerate(flat)
    ]


def write_card(
    folder: Path, runs: Sequence[SavedRun], metadata: Mapping[str, object], about: str
) -> None:
    """README.md, which the hub and `datasets` read as a data set's card. metadata: for its head,
    which is YAML; JSON is YAML too."""
    head = {"pretty_name": "Knowledge Flow rollouts", "tags": ["knowledge-flow"], **metadata}
    text = [
        "---",
        *(f"{name}: {json.dumps(value)}" for name, value in head.items()),
        "---",
        "",
        "# Knowledge Flow rollouts",
        "",
        f"{about} Written by {TITLE}.",
        "",
        "The texts hold the data set's questions and gold answers: check its licence, and whether "
        "it may be published, before you share this.",
        "",
        *map(describe, runs),
    ]
    (folder / "README.md").write_text("\n".join(text) + "\n", "utf-8")


def describe(run: SavedRun) -> str:
    stated = {name: part(run.manifest, *names) for name, names in FACTS}
    facts = [f"{name} {as_code(value)}" for name, value in stated.items() if value is not None]
    return f"- {as_code(run.name)}" + (f": {', '.join(facts)}" if facts else "")


def as_code(value: object) -> str:
    """A value as code, in which Markdown marks nothing up."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{safely(printable(text)).replace('`', chr(39))}`"


def encodable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 lacks, spelt as `\\ud800`."""
    return text.encode("utf-8", "backslashreplace").decode()


def list_facts(row: Row) -> Row:
    """What of a row is no text of a model or a prompt, and says something."""
    return {k: v for k, v in row.items() if k not in TEXTS and v is not None and v != ()}
