"""One HTML page over runs: what goes into the template, and how large it may get.

The page holds the numbers of every rollout; its texts are compressed blocks that the page's script
unpacks when a rollout is opened (see excerpts.py). Whatever a model or a file says is escaped by
the template or shown by the script as text, never as markup; a Content-Security-Policy that allows
nothing but the page's own style and script stands behind that.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ..types import Record, UserError
from .curve import draw, readings
from .excerpts import blocks
from .runs import OUTCOMES, Run, differing_settings, flatten

LARGEST = 19_000_000  # bytes, of a page
BYTES_PER_CHARACTER = 0.5  # of compressed text in base64, to begin with
ATTEMPTS = 4
LONGEST_ANSWER = 24  # characters
MARK = "Knowledge Flow report"
TEMPLATE = Path(__file__).parent / "template"
SCRIPT = ("maths.js", "text.js", "rollout.js", "page.js")
CODES = dict(zip(OUTCOMES, "rwncf", strict=True))
TOLD = ("commit", "dirty", "versions", "machine", "processors", "gpus", "environment", "data")
SECTIONS = (
    "Summary", "Answer", "Error Report", "Why the reference solution is wrong?",
    "Things to Avoid", "Solution without EK", "Adding?", "Novel Knowledge to Add to the List",
    "Reason to make this addition", "Dropping?", "Least Useful to Drop",
    "Why that knowledge should be dropped?",
)  # fmt: skip


class Size(NamedTuple):
    """page, texts: bytes. allowance: characters of text per rollout, None where all are whole."""

    page: int
    texts: int
    allowance: int | None


def write(runs: Sequence[Run], file: BinaryIO, largest: int = LARGEST) -> Size:
    """Write the page of at most `largest` bytes, cutting texts as far as that takes.

    file: empty, and truncated for each attempt. Raises UserError where the numbers alone are too
    many and where a step's file cannot be read a second time.
    """
    runs = [shown_safely(run) for run in runs]
    total = sum(path.stat().st_size for run in runs for path in run.files.values())
    rollouts = sum(len(run.seeds) * len(run.steps) * len(run.problems) for run in runs)
    allowance = None
    if total * BYTES_PER_CHARACTER > largest:
        allowance = int(largest / BYTES_PER_CHARACTER / rollouts)
    for attempt in range(ATTEMPTS):
        if attempt == ATTEMPTS - 1:
            allowance = 0
        size = render(runs, file, allowance)
        if size.page <= largest:
            return size
        room = max(0, largest - (size.page - size.texts))
        before = total // rollouts if allowance is None else allowance
        allowance = int(before * 0.9 * room / max(1, size.texts))
    raise UserError(
        f"The page would take {size.page / 1e6:.1f} MB without any text: name fewer runs."
    )


def render(runs: Sequence[Run], file: BinaryIO, allowance: int | None) -> Size:
    """One attempt: allowance in characters per rollout, None for no limit."""
    file.seek(0)
    file.truncate()
    texts = 0

    def every() -> Iterator[tuple[str, str]]:
        nonlocal texts
        for r, run in enumerate(runs):
            for s, seed in enumerate(run.seeds):
                limit = sys.maxsize if allowance is None else allowance
                for p, block in enumerate(blocks(run, seed, limit)):
                    texts += len(block)
                    yield f"{r}-{s}-{p}", block

    for part in template().generate(**context(runs, allowance), blocks=every()):
        file.write(part.encode())
    return Size(file.tell(), texts, allowance)


def template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["safely"] = safely
    return environment.get_template("page.html.j2")


def context(runs: Sequence[Run], allowance: int | None) -> Record:
    style = (TEMPLATE / "page.css").read_text()
    script = "{\n" + "".join((TEMPLATE / name).read_text() for name in SCRIPT) + "}\n"
    names, every = [run.name for run in runs], [readings(run) for run in runs]
    steps = sorted({step for run in runs for step in run.steps})
    at = [{reading.step: reading for reading in each} for each in every]
    return {
        "mark": MARK,
        "style": style,
        "script": script,
        "style_hash": digest(style),
        "script_hash": digest(script),
        "runs": runs,
        "readings": every,
        "table": [(step, [each.get(step) for each in at]) for step in steps],
        "curves": [draw(names, every, 1180, 340), draw(names, every, 343, 260)],
        "notes": [note for run in runs for note in run.notes],
        "differing": differing(runs),
        "settings": [flatten(run.settings or {}) for run in runs],
        "sessions": [flatten(run.session or {}) for run in runs],
        "allowance": allowance,
        "data": in_script(
            {
                "runs": [numbers(run) for run in runs],
                "sections": SECTIONS,
                "outcomes": {code: outcome for outcome, code in CODES.items()},
            }
        ),
    }


def digest(text: str) -> str:
    """As a Content-Security-Policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def in_script(value: object) -> str:
    """JSON that can stand inside a script element: ASCII, without a `<` that could end it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def numbers(run: Run) -> Record:
    """What the script knows of a run without unpacking anything. Per seed and problem: a letter
    for each step's outcome, a capital where the record stands in for a chain at rest, and the
    answers."""
    chains = [
        [[run.rollouts[seed, step][p] for step in run.steps] for p in range(len(run.problems))]
        for seed in run.seeds
    ]
    return {
        "name": run.name,
        "seeds": run.seeds,
        "steps": run.steps,
        "problems": run.problems,
        "golds": run.golds,
        "own_ids": run.own_ids,
        "files": [place(run, seed) for seed in run.seeds],
        "outcomes": [
            [
                "".join(CODES[r.outcome].upper() if r.carried else CODES[r.outcome] for r in chain)
                for chain in seed
            ]
            for seed in chains
        ],
        "answers": [[[answer(r.predicted) for r in chain] for chain in seed] for seed in chains],
    }


def answer(predicted: int | None) -> str | None:
    text = None if predicted is None else str(predicted)
    return text if text is None or len(text) <= LONGEST_ANSWER else text[:LONGEST_ANSWER] + "…"


def place(run: Run, seed: int) -> str:
    """The folder of a seed's files, by its last parts: where it stood is nobody else's business."""
    folder = run.files[seed, run.steps[0]].parent
    parts = folder.parts[-3:] if len(run.seeds) > 1 else folder.parts[-2:]
    return safely("/".join(parts))


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Setting, version, commit, ... -> its value in each run, for those in which they differ."""
    sessions = [
        {name: (run.session or {}).get(name) for name in (*TOLD, "engine_arguments")}
        for run in runs
    ]
    told = [replace(run, settings=each) for run, each in zip(runs, sessions, strict=True)]
    return {**differing_settings(runs), **differing_settings(told)}


def shown_safely(run: Run) -> Run:
    """The same run with names that a page can show, and a browser tell apart and link to."""
    return replace(
        run,
        name=safely(run.name),
        problems=tuple(map(safely, run.problems)),
        golds=tuple(map(safely, run.golds)),
    )


def safely(text: str) -> str:
    """The text with characters that are invisible, or turn the text around them, spelt out."""
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c
        for c in text
    )
