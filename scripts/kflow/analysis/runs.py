"""Reading results folders, of this project and of the published code, without the texts.

A run is read one step's file at a time; what is kept of a rollout are its numbers, so that a run
of 700 MB takes a few megabytes. A damaged file is named in the run's notes and left out.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..terminal import first_line
from ..types import Answer, Record, UserError
from .knowledge import shown

FILE = re.compile(r"predictions_(\d+)\.json")
SEED = re.compile(r"seed_(\d+)")
MOVED_ASIDE = re.compile(r".+\.old-\d+")
HASH = re.compile(r"[0-9a-f]{64}")
WINDOW = re.compile(r".+?_(\d{2,})(?:_|\Z)")


class Rollout(NamedTuple):
    """One record without its texts; None where a folder of the published code does not say.

    entries, characters: of the knowledge list in the prompt, None where the prompt has none.
    carried: the record stands in for a rollout that a resting chain did not make.
    """

    predicted: Answer
    correct: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    cut_off: bool | None
    unparsed: bool | None
    failed: bool
    carried: bool
    entries: int | None
    characters: int | None

    @property
    def no_answer(self) -> bool:
        return self.predicted is None and not self.failed

    @property
    def outcome(self) -> str:
        """What a picture shows of it, one of OUTCOMES."""
        if self.failed:
            return "failed"
        if self.correct:
            return "right"
        if self.cut_off:
            return "cut off"
        return "no answer" if self.no_answer else "wrong"


OUTCOMES = ("right", "wrong", "no answer", "cut off", "failed")


@dataclass(frozen=True)
class Run:
    """The complete steps of one run.

    problems: ids in data-set order, or positions from 0 where the records have none (`own_ids`).
    golds: the right answers, normalised, in the same order.
    steps: those that every seed has, ascending. files: (seed, step) -> the file read.
    rollouts: (seed, step) -> one per problem, in the order of `problems`.
    window: tokens, None where neither run.json nor the folder's name gives it.
    settings, session: of run.json, session the last one; None for the published code's folders.
    notes: what a reader has to know: a run in progress, damaged files.
    """

    name: str
    folder: Path
    seeds: tuple[int, ...]
    problems: tuple[str, ...]
    golds: tuple[str, ...]
    own_ids: bool
    steps: tuple[int, ...]
    files: dict[tuple[int, int], Path]
    rollouts: dict[tuple[int, int], tuple[Rollout, ...]]
    window: int | None
    settings: Record | None
    session: Record | None
    notes: tuple[str, ...]

    @property
    def last(self) -> int:
        return self.steps[-1]

    def only(self, problems: Sequence[int]) -> Run:
        """The same run on some of its problems, by their positions."""
        return replace(
            self,
            problems=tuple(self.problems[i] for i in problems),
            golds=tuple(self.golds[i] for i in problems),
            rollouts={at: tuple(row[i] for i in problems) for at, row in self.rollouts.items()},
        )


class Damaged(Exception):
    """A file that cannot be read as a step's predictions; its text says why."""


def read_all(arguments: Sequence[str]) -> list[Run]:
    """The runs that folders, parents of runs and globs name, in that order, each once.

    A run without a readable step is left out, which the first run's notes say. Raises UserError
    where an argument names no run and where none can be read.
    """
    folders, runs, unread = find(arguments), [], []
    for folder, name in zip(folders, names(folders), strict=True):
        try:
            runs.append(read(folder, name))
        except UserError as error:
            unread.append(str(error))
    if not runs:
        raise UserError(" ".join(unread))
    return [replace(runs[0], notes=(*unread, *runs[0].notes)), *runs[1:]]


def find(arguments: Sequence[str]) -> list[Path]:
    """The folders of runs. What --overwrite moved aside counts only where it is named itself."""
    found: dict[Path, None] = {}
    for argument in arguments:
        paths = (
            [Path(argument)] if Path(argument).exists() else sorted(map(Path, glob.glob(argument)))
        )
        runs = [folder for path in paths for folder in below(path)]
        if not runs:
            raise UserError(
                f"{argument} holds no results: name a folder with predictions_<step>.json in it, "
                "a folder above it, or a glob."
            )
        found |= dict.fromkeys(folder.resolve() for folder in runs)
    return list(found)


def below(path: Path) -> list[Path]:
    """The runs in a folder: itself, or those under it."""
    if path.is_file():
        path = path.parent
    if not path.is_dir():
        return []
    if is_run(path):
        return [path.parent if SEED.fullmatch(path.name) and is_run(path.parent) else path]
    inner = sorted(child for child in path.iterdir() if child.is_dir())
    return [run for child in inner if not MOVED_ASIDE.fullmatch(child.name) for run in below(child)]


def is_run(folder: Path) -> bool:
    inner = [child for child in folder.iterdir() if SEED.fullmatch(child.name) and child.is_dir()]
    return any(FILE.fullmatch(p.name) for each in (folder, *inner) for p in each.iterdir())


def names(folders: Sequence[Path]) -> list[str]:
    """Short and distinct: the parts of the paths in which they differ; the run's for a single one.

    A part that is the same in all of them tells nothing; where what is left is not distinct, the
    whole path is the name.
    """
    if len(folders) == 1:
        folder = folders[0]
        return [folder.parent.name if WINDOW.match(folder.parent.name) else folder.name]
    parts = [folder.parts for folder in folders]
    while parts and all(len(p) > 1 for p in parts) and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    while all(len(p) > 1 for p in parts) and len({p[-1] for p in parts}) == 1:
        parts = [p[:-1] for p in parts]
    short = ["/".join(p) for p in parts]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def read(folder: Path, name: str) -> Run:
    """One run, every step's file read once. Raises UserError where no step can be read."""
    notes: list[str] = []
    described = read_description(folder, notes)
    seeds = {0: folder}
    inner = [child for child in folder.iterdir() if SEED.fullmatch(child.name) and child.is_dir()]
    if inner:
        seeds = {int(child.name[len("seed_") :]): child for child in inner}
    files: dict[tuple[int, int], Path] = {}
    rollouts: dict[tuple[int, int], tuple[Rollout, ...]] = {}
    identity: Identity | None = None
    for seed, place in sorted(seeds.items()):
        found = {int(m[1]): p for p in place.iterdir() if (m := FILE.fullmatch(p.name))}
        for step, path in sorted(found.items()):
            try:
                records = read_records(path)
                own = identify(records)
                if identity is not None and own != identity:
                    raise Damaged(
                        f"it differs from the files before it: {difference(identity, own)}"
                    )
                identity = own
                rollouts[seed, step] = tuple(map(rollout, records))
                files[seed, step] = path
            except (Damaged, OSError) as error:
                notes.append(f"{path} is left out: {first_line(error)}")
    steps = sorted(set.intersection(*({t for s, t in files if s == seed} for seed in seeds)))
    if identity is None or not steps:
        raise UserError(
            f"{folder} has no step that can be read for every seed: "
            + ("; ".join(notes) or "it is still at its first step")
            + "."
        )
    settings, session = described
    notes += progress(folder, seeds.values(), steps, session)
    return Run(
        name,
        folder,
        tuple(sorted(seeds)),
        identity.problems,
        identity.golds,
        identity.own_ids,
        tuple(steps),
        files,
        rollouts,
        window(folder, settings),
        settings,
        session,
        tuple(notes),
    )


def progress(
    folder: Path, places: Iterable[Path], steps: Sequence[int], session: Record | None
) -> list[str]:
    """Notes on steps that are not there: still to come, or missing in between."""
    flags = (session or {}).get("flags")
    wanted = flags.get("reflex_size") if isinstance(flags, dict) else None
    notes = []
    lacking = sorted(set(range(steps[-1])) - set(steps))
    if lacking:
        notes.append(f"{folder} lacks step {', '.join(map(str, lacking))}")
    if isinstance(wanted, int) and steps[-1] + 1 < wanted:
        notes.append(f"{folder} is in progress: {steps[-1] + 1} of {wanted} steps are complete")
    elif any(next(place.glob("rollouts_*.jsonl"), None) for place in places):
        notes.append(f"{folder} is in progress: {steps[-1] + 1} steps are complete")
    return notes


def read_description(folder: Path, notes: list[str]) -> tuple[Record | None, Record | None]:
    """run.json's settings and last session; a damaged one is noted."""
    path = folder / "run.json"
    if not path.exists():
        return None, None
    try:
        run = json.loads(path.read_bytes())
        settings, sessions = run["settings"], run["sessions"]
        if not isinstance(settings, dict) or not isinstance(sessions[-1], dict):
            raise ValueError("its settings or sessions are not objects")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        notes.append(f"{path} is left out: {first_line(error)}")
        return None, None
    return settings, sessions[-1]


def window(folder: Path, settings: Record | None) -> int | None:
    """Tokens: as run.json says, or as the folder's name does (METHOD.md, "Output")."""
    told = (settings or {}).get("max_new_tokens")
    if isinstance(told, int):
        return told
    named = WINDOW.match(folder.parent.name)
    return int(named[1]) if named else None


def read_records(path: Path) -> list[Record]:
    """The records of a step's file, texts and all. Raises Damaged, OSError."""
    try:
        # Not orjson, which makes a floating-point number of an integer over 64 bits.
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"it is not JSON ({first_line(error)})") from error
    if not isinstance(content, list) or len(content) < 2:
        raise Damaged("it is not a list of a summary and records")
    if not isinstance(content[0], dict) or "accuracy" not in content[0]:
        raise Damaged("its first element is not a summary")
    records: list[Record] = content[1:]
    for number, record in enumerate(records):
        check(record, number)
    return records


def check(record: Record, number: int) -> None:
    """Raises Damaged for a record without what every system writes (METHOD.md, "Output")."""
    if not isinstance(record, dict):
        raise Damaged(f"record {number} is not an object")
    for field in ("question", "gold", "predicted", "pred_solution"):
        if field not in record:
            raise Damaged(f"record {number} has no {field!r}")
    for field in ("question", "pred_solution"):
        if not isinstance(record[field], str):
            raise Damaged(f"record {number}: {field!r} is not a text")
    predicted = record["predicted"]
    if isinstance(predicted, bool) or not isinstance(predicted, (int, type(None))):
        raise Damaged(f"record {number}: 'predicted' is neither an integer nor null")


class Identity(NamedTuple):
    """What two files must share to be of the same run."""

    problems: tuple[str, ...]
    golds: tuple[str, ...]
    own_ids: bool


def identify(records: Sequence[Record]) -> Identity:
    ids = [record.get("id") for record in records]
    own_ids = all(i is not None for i in ids)
    problems = tuple(map(str, ids if own_ids else range(len(ids))))
    if len(set(problems)) < len(problems):
        raise Damaged("two records have the same id")
    return Identity(problems, tuple(gold(record["gold"]) for record in records), own_ids)


def gold(value: object) -> str:
    """A right answer, so that 25, "25" and "025" are the same."""
    text = str(value).strip()
    try:
        return str(int(text))
    except ValueError:
        return text


def difference(one: Identity, other: Identity) -> str | None:
    """The first thing in which two sets of problems differ, None where they agree."""
    if len(one.problems) != len(other.problems):
        return f"{len(one.problems)} problems against {len(other.problems)}"
    for number, (a, b) in enumerate(zip(one.problems, other.problems, strict=True)):
        if a != b:
            return f"problem {number} is {a} against {b}"
        if one.golds[number] != other.golds[number]:
            return f"the gold answer of {a} is {one.golds[number]} against {other.golds[number]}"
    return None if one.own_ids == other.own_ids else "one has problem ids, the other none"


def rollout(record: Record) -> Rollout:
    predicted, update = record["predicted"], record.get("update")
    knowledge = shown(str(record["question"]))
    reason = record.get("finish_reason")
    return Rollout(
        predicted=predicted,  # type: ignore[arg-type]
        correct=predicted is not None and str(predicted) == gold(record["gold"]),
        prompt_tokens=number(record.get("prompt_tokens")),
        completion_tokens=number(record.get("completion_tokens")),
        cut_off=reason == "length" if "finish_reason" in record else None,
        unparsed="missing_sections" in update if isinstance(update, dict) else None,
        failed=record.get("failure") is not None,
        carried="carried_from" in record,
        entries=None if knowledge is None else len(knowledge),
        characters=None if knowledge is None else sum(map(len, knowledge)),
    )


def number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Setting -> its value in each run, for those in which the runs differ; `-` where a run has
    no such setting. What only one method has, or only one prompt file, follows from the method
    and is not told."""
    flat = [flatten(run.settings) if run.settings is not None else {} for run in runs]
    differing = {}
    for key in sorted(set().union(*flat)):
        stated = {each[key] for each in flat if key in each}
        everywhere = all(key in each for each in flat)
        implied = not everywhere and key.startswith(("experiment.", "prompts."))
        if len(stated) > 1 or (not everywhere and not implied):
            differing[key] = [each.get(key, "-") for each in flat]
    return differing


def flatten(settings: object, name: str = "") -> dict[str, str]:
    """`outer.inner` -> its value: a text as it is, a hash by its beginning, the rest as JSON."""
    if isinstance(settings, str):
        return {name: settings[:12] if HASH.fullmatch(settings) else settings}
    if not isinstance(settings, dict) or not settings:
        return {name: json.dumps(settings, ensure_ascii=False)}
    return {
        key: text
        for inner, value in settings.items()
        for key, text in flatten(value, f"{name}.{inner}".lstrip(".")).items()
    }
