"""The runs that a command reads: every record without its texts.

A run is read one record at a time; what is kept of it are its numbers, so that a run of 700 MB
takes a few megabytes. A damaged file is named in the run's notes and left out.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kflow.analysis.frame import Placed, frame
from kflow.analysis.remarks import engines, estimates, lost_context, progress
from kflow.answers import AnswerType, Integer, by_name
from kflow.ground.price import Price, price
from kflow.ground.terminal import first_line
from kflow.results import reading
from kflow.results.find import WINDOW, find, names, places
from kflow.results.published import measured
from kflow.results.reading import Damaged
from kflow.results.recorded import different, flatten, part
from kflow.results.rollout import Rollout
from kflow.running.settings import IDENTITY
from kflow.types import Answer, UserError

if TYPE_CHECKING:
    import pandas

OUTCOMES = ("right", "wrong", "no answer", "truncated", "failed", "not asked")
DROPPED: dict[str, Any] = {
    "question": "", "pred_solution": "", "reply_start": 0, "knowledge": (), "note": None,
    "sections": (), "gold": None,
}  # fmt: skip


class List(NamedTuple):
    """The knowledge list in a prompt. tokens: by its share of the prompt's characters, None where
    the record does not say how many tokens the prompt had."""

    entries: int
    characters: int
    tokens: int | None


@dataclass(frozen=True)
class Run:
    """The complete steps of one run.

    problems: ids in data-set order, or positions from 0 where the records have none (`own_ids`).
    golds: the right answers, in the same order, as `answers` means them.
    steps: those that every seed has, ascending. files: (seed, step) -> the file read.
    rollouts: (seed, step) -> one record per problem, in the order of `problems`, without texts.
    lists: the same for the list in its prompt.
    measured: whether the records say their tokens, finish reasons and missing sections.
    window: tokens, None where neither run.json nor the folder's name gives it.
    manifest: run.json, None for the published code's folders.
    notes: what a reader has to know: a run in progress, damaged files.
    """

    name: str
    folder: Path
    seeds: tuple[int, ...]
    problems: tuple[str, ...]
    golds: tuple[Answer, ...]
    own_ids: bool
    answers: AnswerType
    steps: tuple[int, ...]
    files: dict[tuple[int, int], Path]
    rollouts: dict[tuple[int, int], tuple[Rollout, ...]]
    lists: dict[tuple[int, int], tuple[List, ...]]
    measured: bool
    window: int | None
    manifest: dict[str, Any] | None
    notes: tuple[str, ...]

    @property
    def last(self) -> int:
        return self.steps[-1]

    @property
    def ahead(self) -> bool:
        """Whether no reply changed a prompt, so that all rollouts were in flight at once."""
        return part(self.manifest, "experiment", "ahead") is True

    @property
    def price(self) -> Price | None:
        settings = part(self.manifest, "settings")
        return price(part(settings, "prompt_price"), part(settings, "reply_price"))

    @property
    def session(self) -> dict[str, Any]:
        """The entry of run.json for the last start."""
        sessions = part(self.manifest, "sessions")
        last = sessions[-1] if isinstance(sessions, list) and sessions else None
        return last if isinstance(last, dict) else {}

    def only(self, problems: Sequence[int]) -> Run:
        """The same run on some of its problems, by their positions."""
        return replace(
            self,
            problems=tuple(self.problems[i] for i in problems),
            golds=tuple(self.golds[i] for i in problems),
            rollouts={at: tuple(row[i] for i in problems) for at, row in self.rollouts.items()},
            lists={at: tuple(row[i] for i in problems) for at, row in self.lists.items()},
        )

    def to_frame(self, texts: bool = False) -> pandas.DataFrame:
        """A row per rollout of the complete steps, with the columns of frame.COLUMNS.

        texts: with prompts and replies too, which are read again, all of them into memory. Raises
        UserError without pandas, and where a file cannot be read a second time.
        """
        return frame(self.name, self._placed(texts), texts)

    def _placed(self, texts: bool) -> Iterator[Placed]:
        positions = {problem: i for i, problem in enumerate(self.problems)}
        for seed in self.seeds:
            for step in self.steps:
                records: Iterable[Rollout] = self.rollouts[seed, step]
                if texts:
                    records = again(self.files[seed, step])
                for record in records:
                    i = positions.get(record.id)
                    if i is not None:
                        entries = self.lists[seed, step][i].entries
                        yield Placed(seed, step, self.golds[i], entries, record)


def outcome(record: Rollout) -> str:
    """What a picture shows of a record, one of OUTCOMES."""
    if record.failure is not None:
        return "failed"
    if not any(slot.asks_answer for slot in record.slots):
        return "not asked"
    if record.correct:
        return "right"
    if record.finish_reason == "length":
        return "truncated"
    return "no answer" if record.predicted is None else "wrong"


def read_all(arguments: Sequence[str]) -> list[Run]:
    """The runs that folders, parents of runs and globs name, in that order, each once.

    A run without a readable step is left out, which the first run's notes say. Raises UserError
    where an argument names no run, where none can be read, and for an argument that names a single
    run which cannot: what was asked for would not be what is shown.
    """
    named, runs = find(arguments), []
    notes, alone = list(named.notes), [find([argument]).folders for argument in arguments]
    gc.disable()  # records hold no cycles, and looking for them takes as long as reading
    try:
        for folder, name in zip(named.folders, names(named.folders), strict=True):
            try:
                runs.append(read(folder, name))
            except UserError as error:
                if (folder,) in alone:
                    raise
                notes.append(str(error))
    finally:
        gc.enable()
    if not runs:
        raise UserError(" ".join(notes))
    return [replace(runs[0], notes=(*notes, *runs[0].notes)), *runs[1:]]


def read_one(folder: str | os.PathLike[str]) -> Run:
    """The run in a folder, as the commands read it: its numbers, without texts; what a reader has
    to know of it is in its notes. Raises UserError where there is no run or several."""
    folders = find([os.fspath(folder)]).folders
    if len(folders) > 1:
        raise UserError(f"{folder} holds {len(folders)} runs: name one, such as {folders[0]}.")
    return read_all([os.fspath(folder)])[0]


def again(path: Path) -> Iterator[Rollout]:
    """The records of a file that was read before, with their texts. Raises UserError."""
    try:
        yield from reading.records(path)
    except (Damaged, OSError) as error:
        raise UserError(
            f"{path} could be read at first but not again ({first_line(error)}): run the same "
            "command again."
        ) from error


class Identity(NamedTuple):
    """What two files must share to be of the same run."""

    problems: tuple[str, ...]
    golds: tuple[Answer, ...]
    measured: bool


class Step(NamedTuple):
    """What is kept of a step's file."""

    identity: Identity
    rollouts: tuple[Rollout, ...]
    lists: tuple[List, ...]


def read(folder: Path, name: str) -> Run:
    """One run, every step's file read once. Raises UserError where no step can be read."""
    notes: list[str] = []
    manifest = read_manifest(folder, notes)
    answers = answer_type(folder, manifest)
    seeds = places(folder, notes)
    steps: dict[tuple[int, int], Step] = {}
    files: dict[tuple[int, int], Path] = {}
    first: Step | None = None
    for seed, place in seeds.items():
        for step, path in sorted(place.predictions.items()):
            try:
                now = read_step(path, answers)
                first = first or now
                if difference := differing(first.identity, now.identity):
                    raise Damaged(f"it differs from the files before it: {difference}")
                steps[seed, step], files[seed, step] = now, path
            except (Damaged, OSError, MemoryError) as error:
                notes.append(f"{path} is left out: {first_line(error)}")
    shared = sorted(set.intersection(*({t for s, t in steps if s == seed} for seed in seeds)))
    if first is None or not shared:
        raise UserError(
            f"{folder} has no step that can be read for every seed: "
            + ("; ".join(notes[:2]) or "it is still at its first step")
            + (f"; and {len(notes) - 2} more" if len(notes) > 2 else "")
            + "."
        )
    notes += estimates(folder, [r for each in steps.values() for r in each.rollouts])
    notes += progress(folder, seeds.values(), shared, manifest)
    notes += lost_context(folder, [record for each in steps.values() for record in each.rollouts])
    if changed := engines({at: step.rollouts for at, step in steps.items()}):
        notes.append(f"{folder} was resumed with another engine: {changed}")
    return Run(
        name,
        folder,
        tuple(sorted(seeds)),
        first.identity.problems,
        first.identity.golds,
        first.identity.problems != tuple(map(str, range(len(first.rollouts)))),
        answers,
        tuple(shared),
        files,
        {at: step.rollouts for at, step in steps.items()},
        {at: step.lists for at, step in steps.items()},
        first.identity.measured,
        window(folder, manifest),
        manifest,
        tuple(notes),
    )


def read_manifest(folder: Path, notes: list[str]) -> dict[str, Any] | None:
    """run.json; a damaged one is noted."""
    path = folder / "run.json"
    try:
        return reading.manifest(path)
    except FileNotFoundError:
        return None
    except (Damaged, OSError, ValueError) as error:
        notes.append(f"{path} is left out: {first_line(error)}")
        return None


def answer_type(folder: Path, manifest: dict[str, Any] | None) -> AnswerType:
    name = part(manifest, "answers")
    try:
        return Integer() if name is None else by_name(str(name))
    except ValueError as error:
        raise UserError(f"{folder} is left out: {error}, which its run.json names.") from error


def read_step(path: Path, answers: AnswerType) -> Step:
    """Raises Damaged, OSError."""
    rollouts, golds, lists = [], [], []
    for record in reading.records(path):
        try:
            golds.append(answers.gold(record.gold))
        except (ValueError, RecursionError) as error:
            raise Damaged(f"the gold answer of {record.id} is {first_line(error)}") from error
        lists.append(list_of(record))
        rollouts.append(slim(record))
    if not rollouts:
        raise Damaged("it is not a list of a summary and records")
    problems = tuple(record.id for record in rollouts)
    if len(set(problems)) < len(problems):
        raise Damaged("two records have the same id")
    identity = Identity(problems, tuple(golds), all(map(measured, rollouts)))
    return Step(identity, tuple(rollouts), tuple(lists))


def slim(record: Rollout) -> Rollout:
    """The record itself, without its texts, those of its list and of what changed in it among them.

    It has just been read and nothing else holds it: to copy each of 200,000 records takes longer
    than to read them.
    """
    for slot in record.rollouts:
        slim(slot)
    for name, nothing in DROPPED.items():
        object.__setattr__(record, name, nothing)
    return record


def list_of(record: Rollout) -> List:
    """The longest list that a prompt of the step shows."""
    return max(map(list_in, record.slots), key=lambda each: each.characters)


def list_in(slot: Rollout) -> List:
    characters = sum([len(entry.text) for entry in slot.knowledge])
    share = characters / max(1, len(slot.question))
    sent = measured(slot) and slot.prompt_tokens > 0  # else it was refused
    tokens = round(slot.prompt_tokens * share) if sent else None
    return List(len(slot.knowledge), characters, tokens)


def differing(one: Identity, other: Identity) -> str | None:
    """The first thing in which two sets of problems differ, None where they agree."""
    if len(one.problems) != len(other.problems):
        return f"{len(one.problems)} problems against {len(other.problems)}"
    for number, (a, b) in enumerate(zip(one.problems, other.problems, strict=True)):
        if a != b:
            return f"problem {number} is {a} against {b}"
        if one.golds[number] != other.golds[number]:
            return f"the gold answer of {a} is {one.golds[number]} against {other.golds[number]}"
    return None if one.measured == other.measured else "another program wrote it"


def window(folder: Path, manifest: dict[str, Any] | None) -> int | None:
    """Tokens: as run.json says, or as the folder's name does (docs/method.md, "Output")."""
    stated = part(manifest, "settings", "max_new_tokens")
    if isinstance(stated, int) and 0 < stated < 1 << 40:
        return stated
    named = WINDOW.match(folder.parent.name)
    return int(named[1]) or None if named else None


def differing_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Setting -> its value in each run, for those in which the runs differ; `-` where a run has
    no such setting. What only one method or family has, or only one prompt file, follows from
    those and is not shown."""
    return different([settings(run) for run in runs])


def settings(run: Run) -> dict[str, str]:
    """All that decides a run's results, flat; the settings themselves without a prefix."""
    whole = run.manifest or {}
    parts = {k: v for k, v in whole.items() if k not in ("sessions", "settings")}
    own = part(whole, "settings")
    own = own if isinstance(own, dict) else {}
    compared = {k: v for k, v in own.items() if k in (*IDENTITY, "several_seeds")}
    changed = engines(run.rollouts)
    return flatten(compared) | flatten(parts) | ({"other engines": changed} if changed else {})
