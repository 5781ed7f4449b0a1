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
import operator
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from kflow.analysis.align import align
from kflow.analysis.figures import Course, course
from kflow.analysis.page.budgets import Equal, at_equal, moved
from kflow.analysis.page.curve import curves
from kflow.analysis.page.excerpts import Json, blocks
from kflow.analysis.runs import OUTCOMES, Run, differing_settings, outcome, settings
from kflow.analysis.tables import count, percent
from kflow.ground.terminal import counted
from kflow.results.recorded import different, flatten, part
from kflow.results.rollout import Rollout
from kflow.results.rows import answer_text
from kflow.types import Answer, UserError

LARGEST = 19_000_000  # bytes, of a page
BYTES_PER_CHARACTER = 0.5  # of compressed text in base64, to begin with
ATTEMPTS = 4
LEAST = 1000  # characters of text per rollout, below which fewer seeds have any
LONGEST_ANSWER = 24  # characters
MARK = "Knowledge Flow report"
TEMPLATE = Path(__file__).parents[1] / "template"
SCRIPTS = (
    "text.js", "maths.js", "rollout.js", "curve.js", "address.js", "map.js", "story.js", "page.js",
)  # fmt: skip
# Temml 0.13.5, as `npm pack temml` gives it.
TEMML = {
    "LICENSE": "12b4e5592a12baaf50637881f2cb9d66667b26b8d51a73cd8f0d6bcefe176ab6",
    "temml.min.js": "1ab19148afe0dbc836b7a74f344071b3f3a70a7a8259ae4049e76894fcdf8d95",
    "Temml-Local.css": "544f4e3fee4c36f4568e4f145fa626dc9573c5f4c96c523aadcc433c3989a239",
}
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
    """page, texts: bytes. allowance: characters of text per rollout, None where all are whole.
    seeds: how many of each run's have their texts in the page, None where all do."""

    page: int
    texts: int
    allowance: int | None
    seeds: int | None


def write(runs: Sequence[Run], file: BinaryIO, largest: int = LARGEST) -> Size:
    """Write the page of at most `largest` bytes, cutting texts as far as that takes.

    file: empty, and truncated for each attempt. Raises UserError where the numbers alone are too
    many and where a step's file cannot be read a second time.
    """
    runs = [shown_safely(run) for run in runs]
    total = sum(path.stat().st_size for run in runs for path in run.files.values())
    rollouts = [rollouts_of(runs, n) for n in range(max(len(run.seeds) for run in runs) + 1)]
    seeds = allowance = None
    if total * BYTES_PER_CHARACTER > largest:
        seeds, allowance = shares(rollouts, int(largest / BYTES_PER_CHARACTER))
    values = context(runs)
    for attempt in range(ATTEMPTS):
        if attempt == ATTEMPTS - 1:
            allowance = 0
        size = render(runs, values, file, allowance, seeds)
        if size.page <= largest:
            return size
        room = max(0, largest - (size.page - size.texts))
        before = (
            total if allowance is None else allowance * rollouts[-1 if seeds is None else seeds]
        )
        seeds, allowance = shares(rollouts, int(before * 0.9 * room / max(1, size.texts)))
    raise UserError(
        f"The page would take {size.page / 1e6:.1f} MB without any text: name fewer runs."
    )


def shares(rollouts: Sequence[int], characters: int) -> tuple[int | None, int]:
    """How many seeds have their texts in the page (None: all), and what each rollout of them gets.
    rollouts: of the first 0, 1, 2, ... seeds. Where all would get scraps, fewer get more."""
    enough = sum(characters >= LEAST * number for number in rollouts[1:])
    seeds = max(1, enough)
    return None if seeds == len(rollouts) - 1 else seeds, characters // rollouts[seeds]


def rollouts_of(runs: Sequence[Run], seeds: int) -> int:
    """How many rollouts each run's first seeds have, all runs together."""
    rows = [run.rollouts[s, t] for run in runs for s in run.seeds[:seeds] for t in run.steps]
    return sum(len(record.slots) for row in rows for record in row)


def render(
    runs: Sequence[Run], values: Json, file: BinaryIO, allowance: int | None, seeds: int | None
) -> Size:
    """One attempt. values: what the template gets besides the texts. allowance: characters per
    rollout, None for no limit. seeds: how many have their texts in the page, None for all."""
    file.seek(0)
    file.truncate()
    texts = 0

    def every() -> Iterator[tuple[str, str]]:
        nonlocal texts
        for r, run in enumerate(runs):
            for s, seed in enumerate(run.seeds[:seeds]):
                limit = sys.maxsize if allowance is None else allowance
                for p, block in enumerate(blocks(run, seed, limit)):
                    texts += len(block)
                    yield f"{r}-{s}-{p}", block

    cut = {"allowance": allowance, "text_seeds": seeds, "blocks": every()}
    for piece in template().generate(**values, **cut):
        file.write(piece.encode())
    return Size(file.tell(), texts, allowance, seeds)


def template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in (safely, breakable, points, count, sentence):
        environment.filters[each.__name__] = each
    environment.filters["percent"] = lambda share: percent(share).replace(" ", "\u00a0")
    return environment.get_template("page.html.j2")


def context(runs: Sequence[Run]) -> Json:
    # The font that Temml's style names is not in the page, which loads nothing.
    style = WEB_FONT.sub("", bundled("Temml-Local.css")) + (TEMPLATE / "page.css").read_text()
    own = "".join((TEMPLATE / name).read_text() for name in SCRIPTS)
    temml = f"/* Temml:\n{bundled('LICENSE')}*/\n{bundled('temml.min.js')}"
    script = f"{temml}\n{{\n{own}}}\n"
    courses = [course(run) for run in runs]
    every = curves(courses)
    compared = equal_budgets(courses)
    steps = sorted({step for run in runs for step in run.steps})
    return {
        "mark": MARK,
        "style": style,
        "script": script,
        "style_hash": digest(style),
        "script_hash": digest(script),
        "runs": runs,
        "about": about(runs),
        "sizes": list(map(size_of, runs)),
        "moved": moved(courses[0]) if len(runs) == 1 else None,
        "equal": compared,
        "by_id": all(run.own_ids for run in runs),
        "curves": every,
        "table": [(step, [curve.at(step) for curve in every]) for step in steps],
        "notes": [note for run in runs for note in run.notes],
        "differing": differing(runs),
        "settings": [settings(run) for run in runs],
        "sessions": [flatten(run.session) for run in runs],
        "data": in_script(
            {
                "runs": [numbers(run) for run in runs],
                "curves": [curve.numbers() for curve in every],
                "outcomes": {code: words for words, code in CODES.items()},
                "marks": MARKS,
            }
        ),
    }


def equal_budgets(courses: Sequence[Course]) -> list[Equal] | None:
    """At equal rollouts and at equal tokens, where there are such; None for runs that cannot be
    compared."""
    try:
        runs = align([each.run for each in courses], common=False)
    except UserError:
        return None
    aligned = list(map(on_problems_of, runs, courses))
    return [each for unit in ("rollouts", "tokens") if (each := at_equal(aligned, unit))]


def on_problems_of(run: Run, known: Course) -> Course:
    """An aligned run's course: the known one, but where its problems come in another order."""
    at = run.seeds[0], run.last
    same = all(map(operator.is_, run.rollouts[at], known.run.rollouts[at]))
    return replace(known, run=run) if same else course(run)


def about(runs: Sequence[Run]) -> list[str]:
    """What the runs have in common: model, data, problems, window, prompts."""
    every = [
        [
            run.folder.name,
            "/".join(str(part(run.session, "data", "dataset") or "").split("/")[-2:]),
            counted(len(run.problems), "problem"),
            f"window {run.window:,} tokens" if run.window else "",
            f"prompts: {run.wording}" if run.wording else "",
        ]
        for run in runs
    ]
    return [each[0] for each in zip(*every, strict=True) if each[0] and len(set(each)) == 1]


def size_of(run: Run) -> str:
    """`5 of 16 steps, 4 seeds`"""
    most = part(run.manifest, "settings", "reflex_size")
    done = counted(len(run.steps), "step")
    if isinstance(most, int) and most > len(run.steps):
        done = f"{len(run.steps):,} of {counted(most, 'step')}"
    return f"{done}, {counted(len(run.seeds), 'seed')}" if len(run.seeds) > 1 else done


def points(share: float) -> str:
    """A difference in percentage points: `+3.3`, `−10.0`, `0.0`."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def breakable(text: str) -> Markup:
    """A name, escaped, that may be broken after its underscores."""
    return Markup(str(escape(text)).replace("_", "_<wbr>"))


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def bundled(name: str) -> str:
    """A file of Temml's, as it was published. Raises UserError for another one."""
    content = (TEMPLATE / "temml" / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != TEMML[name]:
        raise UserError(f"{TEMPLATE / 'temml' / name} was changed: install Knowledge Flow again.")
    return content.decode()


def digest(text: str) -> str:
    """As a Content-Security-Policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def in_script(value: object) -> str:
    """JSON that can stand inside a script element: ASCII, without a `<` that could end it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def numbers(run: Run) -> Json:
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
        "files": [place(run, seed) for seed in run.seeds],
        "outcomes": [["".join(map(code, chain)) for chain in seed] for seed in chains],
        "marks": [["".join(map(mark, chain)) for chain in seed] for seed in chains],
        "answers": [[[answer(r.predicted) for r in chain] for chain in seed] for seed in chains],
        "slots": [[[slots(record) for record in chain] for chain in seed] for seed in chains],
    }


def code(record: Rollout) -> str:
    return CODES[outcome(record)]


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
    text = answer_text(predicted)
    return text if text is None or len(text) <= LONGEST_ANSWER else text[:LONGEST_ANSWER] + "…"


def place(run: Run, seed: int) -> str:
    """The folder of a seed's files, by its last parts only."""
    folder = run.files[seed, run.steps[0]].parent
    parts = folder.parts[-3:] if len(run.seeds) > 1 else folder.parts[-2:]
    return safely("/".join(parts))


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Setting, version, commit, ... -> its value in each run, for those in which they differ."""
    sessions = [flatten({name: run.session.get(name) for name in SESSION}) for run in runs]
    return {**differing_settings(runs), **different(sessions)}


def shown_safely(run: Run) -> Run:
    """The same run with names that a page can show, and a browser tell apart and link to."""
    return replace(
        run,
        name=safely(run.name),
        problems=tuple(map(safely, run.problems)),
        golds=tuple(safely(str(gold)) for gold in run.golds),
    )


def safely(text: str) -> str:
    """The text with characters that are invisible, or turn the text around them, spelt out."""
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c
        for c in text
    )
