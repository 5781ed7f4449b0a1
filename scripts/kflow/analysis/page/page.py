"""One HTML page over runs: what goes into the template, and how large it may get.

The page holds the numbers of every rollout; its texts are compressed blocks that the page's script
unpacks when a rollout is opened (see excerpts.py). Text from models and files is escaped by the
template or shown by the script as text, never as markup; a Content-Security-Policy that allows
nothing but the page's own style and script stands behind that.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from kflow.analysis import conclusion
from kflow.analysis.align import align, list_common
from kflow.analysis.chains import OUTCOMES, find_outcome
from kflow.analysis.comparison import Comparison, compare_runs
from kflow.analysis.conclusion import (
    count,
    label_by_name,
    p_value,
    percent,
    spell_budget,
    sum_up,
)
from kflow.analysis.page.excerpts import Json, pack_texts
from kflow.analysis.run_statistics import RunStatistics, Share, build_timeline, describe
from kflow.ground.price import money
from kflow.ground.terminal import counted, safely
from kflow.results.recorded import find_different, flatten, part
from kflow.results.rollout import Rollout
from kflow.results.rows import as_text
from kflow.results.runs import SavedRun, find_differing_settings, list_settings
from kflow.types import Answer, UserError

LARGEST_NUMBERS = 19_000_000  # bytes of JSON
MOST_TEXT = 38_000_000  # characters, of all texts together: a page of about 15 MB
LEAST = 1000  # characters of text per rollout, below which fewer seeds have any
LONGEST_ANSWER = 24  # characters
MARK = "Knowledge Flow report"
TEMPLATE = Path(__file__).parents[1] / "template"
SCRIPTS = (
    "text.js", "maths.js", "rollout.js", "curve.js", "address.js", "map.js", "story.js", "page.js",
)  # fmt: skip
WEB_FONT = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)
CODES = dict(zip(OUTCOMES, "rwntfa", strict=True))
MARKS = {
    "e": "early-stopped: repeats the chain's last step",
    "b": "reached the token budget",
    "x": "not counted: after the chain had ended",
    "v": "gave the step's verdict",
}
SESSION = (
    "commit", "dirty", "versions", "machine", "processors", "gpus", "environment", "data",
    "engine_arguments",
)  # fmt: skip


class Size(NamedTuple):
    """Of a page."""

    page: int
    """bytes"""
    allowance: int | None
    """characters of text per rollout, None where all are whole"""
    seeds: int | None
    """how many of each run's have their texts in the page, None where all do"""


def write(runs: Sequence[SavedRun], file: BinaryIO, head: str = "") -> Size:
    """Write the page, in one pass. head: markup for its head. Raises UserError where the numbers
    alone are too many and where a step's file cannot be read a second time."""
    allowance, seeds = allot(runs)
    values = context([make_safe(run) for run in runs])
    if len(values["data"]) > LARGEST_NUMBERS:
        size = f"{len(values['data']) / 1e6:.1f} MB"
        raise UserError(f"The page would take {size} without any text: name fewer runs.")

    def pack_all() -> Iterator[tuple[str, str]]:
        for r, run in enumerate(runs):
            for s, seed in enumerate(run.seeds[:seeds]):
                most = sys.maxsize if allowance is None else allowance
                for p, block in enumerate(pack_texts(run, seed, most)):
                    yield f"{r}-{s}-{p}", block

    cut = {"allowance": allowance, "text_seeds": seeds, "blocks": pack_all(), "head": Markup(head)}
    for piece in template().generate(**values, **cut):
        file.write(piece.encode())
    return Size(file.tell(), allowance, seeds)


def allot(runs: Sequence[SavedRun]) -> tuple[int | None, int | None]:
    """What each rollout's texts may take, in characters, and how many seeds of each run have their
    texts in the page (None: all). Where all would get scraps, fewer get more."""
    if sum(path.stat().st_size for run in runs for path in run.files.values()) <= MOST_TEXT:
        return None, None
    most = max(len(run.seeds) for run in runs)
    rollouts = [count_rollouts(runs, seeds) for seeds in range(most + 1)]
    seeds = max(1, sum(LEAST * number <= MOST_TEXT for number in rollouts[1:]))
    return MOST_TEXT // rollouts[seeds], None if seeds == most else seeds


def count_rollouts(runs: Sequence[SavedRun], seeds: int) -> int:
    """How many rollouts each run's first seeds have, all runs together."""
    rows = [run.rollouts[s, t] for run in runs for s in run.seeds[:seeds] for t in run.steps]
    return sum(len(record.slots) for row in rows for record in row)


def template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in (safely, breakable, points, count, typeset, p_value, spell_budget, money):
        environment.filters[each.__name__] = each
    environment.filters["percent"] = lambda share: percent(share).replace(" ", "\u00a0")
    return environment.get_template("page.html.j2")


def load(name: str) -> str:
    """A file of the template; Temml 0.13.5 is as `npm pack temml` gives it."""
    return (TEMPLATE / name).read_text("utf-8")


def context(runs: Sequence[SavedRun]) -> dict[str, Any]:
    """What the template gets, but for the texts: the style and script that it holds, by their
    hashes too, what it says in words and tables, and the numbers for the script."""
    # The font that Temml's style names is not in the page, which loads nothing.
    style = WEB_FONT.sub("", load("temml/Temml-Local.css")) + load("page.css")
    own = "".join(map(load, SCRIPTS))
    temml = f"/* Temml:\n{load('temml/LICENSE')}*/\n{load('temml/temml.min.js')}"
    script = f"{temml}\n{{\n{own}}}\n"
    statistics, compared = compare(runs)
    steps = sorted({step for run in runs for step in run.steps})
    return {
        "mark": MARK,
        "style": style,
        "script": script,
        "style_hash": digest(style),
        "script_hash": digest(script),
        "runs": runs,
        "about": list_common(runs),
        "sizes": list(map(describe_size, runs)),
        "summary": sum_up(statistics, compared),
        "statistics": statistics,
        "labels": label_by_name(statistics),
        "compared": compared,
        "by_id": all(run.own_ids for run in runs),
        "table": [(step, [spell_step(run, step) for run in statistics]) for step in steps],
        "notes": [note for run in runs for note in run.notes],
        "differing": find_differing(runs),
        "settings": [list_settings(run) for run in runs],
        "sessions": [flatten(run.session) for run in runs],
        "data": in_script(
            {
                "runs": [numbers(run) for run in runs],
                "curves": list(map(draw_curve, statistics)),
                "outcomes": {code: words for words, code in CODES.items()},
                "marks": MARKS,
            }
        ),
    }


def compare(runs: Sequence[SavedRun]) -> tuple[Sequence[RunStatistics], Comparison | None]:
    """The figures of each run, and how they compare: None for runs that cannot be compared."""
    try:
        compared = compare_runs(align(runs, common=False))
    except UserError:
        return [describe(build_timeline(run)) for run in runs], None
    return compared.runs, compared


def draw_curve(run: RunStatistics) -> Json:
    """The points of a run's curves, which begin where it asks for answers; an axis is None where
    the records do not say it."""
    steps = run.by_step
    tokens = {
        "total": [at.tokens for at in steps],
        "sequential": [at.sequential_tokens for at in steps],
    }
    return {
        "name": run.name,
        "axes": {
            "step": [at.step for at in steps],
            "rollouts": [at.rollouts for at in steps],
            **{
                name: None if None in values else [round(value or 0) for value in values]
                for name, values in tokens.items()
            },
        },
        "own": [at.own and asdict(at.own) for at in steps],
        "majority": [at.rolling_majority and asdict(at.rolling_majority) for at in steps],
    }


def spell_step(run: RunStatistics, step: int) -> str:
    """`3/4, 75 % (30–95 %); majority 2.5/4, ...`; a dash for a step that the run lacks."""
    at = next((at for at in run.by_step if at.step == step), None)
    if at is None:
        return "–"
    if at.rolling_majority is None:
        return "no answer asked for"
    return f"{spell_reading(at.own)}; majority {spell_reading(at.rolling_majority)}"


def spell_reading(share: Share | None) -> str:
    if share is None:
        return "no answer asked for"
    interval = ""
    if share.low is not None and share.high is not None:
        interval = f" ({100 * share.low:.0f}–{100 * share.high:.0f} %)"
    right = f"{share.right:.2f}".rstrip("0").rstrip(".")
    return f"{right}/{share.total}, {100 * share.accuracy:.0f} %{interval}"


def describe_size(run: SavedRun) -> str:
    """`5 of 16 steps, 4 seeds`"""
    most = part(run.manifest, "settings", "reflex_size")
    done = counted(len(run.steps), "step")
    if isinstance(most, int) and most > len(run.steps):
        done = f"{len(run.steps):,} of {counted(most, 'step')}"
    return f"{done}, {counted(len(run.seeds), 'seed')}" if len(run.seeds) > 1 else done


def points(share: float) -> str:
    """A difference in percentage points: `+3.3`, `−10.0`, `0.0`."""
    return typeset(conclusion.points(share))


def typeset(text: str) -> str:
    """Words of ours with minus signs before numbers."""
    return re.sub(r"(?<![\w-])-(?=\d)", "−", text)


def breakable(text: str) -> Markup:
    """A name, escaped, that may be broken after its underscores."""
    return Markup(str(escape(text)).replace("_", "_<wbr>"))


def digest(text: str) -> str:
    """As a Content-Security-Policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def in_script(value: object) -> str:
    """JSON that can stand inside a script element: ASCII, without a `<` that could end it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def numbers(run: SavedRun) -> Json:
    """What the script knows of a run without unpacking anything: per seed and problem the outcome,
    the mark and the answer of each step, and for steps of several slots those of the slots."""
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
        "ahead": run.ahead,
        "latex": run.answers.latex,
        "files": [[place(run, seed, step) for step in run.steps] for seed in run.seeds],
        "outcomes": [["".join(map(code, chain)) for chain in seed] for seed in chains],
        "marks": [["".join(map(mark, chain)) for chain in seed] for seed in chains],
        "answers": [[[answer(r.predicted) for r in chain] for chain in seed] for seed in chains],
        "slots": [[[slots(record) for record in chain] for chain in seed] for seed in chains],
    }


def code(record: Rollout) -> str:
    return CODES[find_outcome(record)]


def mark(record: Rollout) -> str:
    """One of MARKS, or a blank."""
    if record.repeats_step is not None:
        return "e"
    if not record.counted:
        return "x"
    return "b" if record.over_budget else " "


def slots(record: Rollout) -> list[object] | None:
    """Outcomes, marks and answers by slot; None for a step of one slot."""
    if not record.rollouts:
        return None
    marks = [
        "v" if slot.predicted is not None and slot.predicted == record.verdict else " "
        for slot in record.slots
    ]
    answers = [answer(slot.predicted) for slot in record.slots]
    return ["".join(map(code, record.slots)), "".join(marks), answers]


def answer(predicted: Answer | None) -> str | None:
    text = as_text(predicted)
    return text if text is None or len(text) <= LONGEST_ANSWER else text[:LONGEST_ANSWER] + "…"


def place(run: SavedRun, seed: int, step: int) -> str:
    """The file of a step, by the last parts of its path only."""
    parts = run.files[seed, step].parts
    return safely("/".join(parts[-4:] if len(run.seeds) > 1 else parts[-3:]))


def find_differing(runs: Sequence[SavedRun]) -> dict[str, list[str]]:
    """Setting, version, commit, ... -> its value in each run, for those in which they differ."""
    sessions = [flatten({name: run.session.get(name) for name in SESSION}) for run in runs]
    return {**find_differing_settings(runs), **find_different(sessions)}


def make_safe(run: SavedRun) -> SavedRun:
    """The same run with names that a page can show, and a browser tell apart and link to."""
    return replace(
        run,
        name=safely(run.name),
        label=safely(run.label),
        problems=tuple(map(safely, run.problems)),
        golds=tuple(safely(str(gold)) for gold in run.golds),
    )
