"""Runs as their folders hold them, for whatever reads results: the tables, the page, exports and
trackers.

A run is read one record at a time; what is kept of it are its numbers, so that a run of 700 MB
takes a few megabytes. Texts are read again where they are asked for. A damaged file is named in the
run's notes and left out.
"""

from __future__ import annotations

import gc
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kflow.answers import AnswerType, Integer, by_name
from kflow.ground.price import Price, highest, price
from kflow.ground.terminal import counted, first_line
from kflow.results import rows
from kflow.results.find import WINDOW, find, find_places, label_runs, name_runs
from kflow.results.reading import Damaged, read_manifest
from kflow.results.recorded import IDENTITY, find_different, flatten, part, wording
from kflow.results.records import (
    At,
    Identity,
    ListSize,
    StepNumbers,
    list_remarks,
    list_slots,
    look_at,
    name_engines,
    read_records,
    read_step,
)
from kflow.results.rollout import Rollout
from kflow.types import Answer, UserError

if TYPE_CHECKING:
    import pandas


class OnlyBegun(UserError):
    """A run that is still at its first step."""


class Placed(NamedTuple):
    """A step's record, and the place of its problem among the run's."""

    seed: int
    step: int
    problem: int
    record: Rollout


@dataclass(frozen=True)
class SavedRun:
    """The complete steps of one run, without texts; `records` reads them again with texts."""

    name: str
    """short, and another one than those of the runs read with it"""
    folder: Path
    seeds: tuple[int, ...]
    problems: tuple[str, ...]
    """ids in data-set order, or positions from 0 where the records have none (`own_ids`)"""
    golds: tuple[Answer, ...]
    """the right answers, in the same order, as `answers` means them"""
    own_ids: bool
    """whether the records have ids"""
    answers: AnswerType
    steps: tuple[int, ...]
    """those that every seed has, ascending"""
    files: dict[At, Path]
    """of every step of every seed that could be read"""
    rollouts: dict[At, tuple[Rollout, ...]]
    """a record per problem, in the order of `problems`, without texts"""
    lists: dict[At, tuple[ListSize, ...]]
    """the same for the list in its prompt"""
    measured: bool
    """whether the records say their tokens, finish reasons and missing sections"""
    window: int | None
    """tokens, None where neither run.json nor the folder's name gives it"""
    manifest: dict[str, Any] | None
    """run.json, None for the published code's folders"""
    notes: tuple[str, ...]
    """what a reader has to know: a run in progress, damaged files"""
    damaged: tuple[str, ...] = ()
    """those notes that are on damaged files"""
    complete: bool = True
    """whether no step is still to come, by run.json"""
    read_at: dict[Path, tuple[int, int]] = field(default_factory=dict, repr=False)
    """the files' times and sizes when they were read"""
    label: str = ""
    """a word or two where `name` has no room, and another than those of the runs read with it"""

    @property
    def last(self) -> int:
        return self.steps[-1]

    @property
    def ahead(self) -> bool:
        """Whether no reply changed a prompt, so that all rollouts were in flight at once."""
        return part(self.manifest, "experiment", "ahead") is True

    @property
    def prefix(self) -> str | None:
        """Of its results folder, which says what was run; None where neither run.json nor the
        folder's name gives it."""
        stated = part(self.manifest, "experiment", "prefix")
        named = WINDOW.match(self.folder.parent.name)
        return stated if isinstance(stated, str) else named and named[0][: named.start(1) - 1]

    @cached_property
    def shows_list(self) -> bool:
        """Whether its prompts have a place for a list of entries: by run.json, else by whether any
        of them shows one."""
        shown = any(each.entries for row in self.lists.values() for each in row)
        return shown or part(self.manifest, "shows_list") is True

    @property
    def wording(self) -> str | None:
        """Whose prompt texts it has, None where run.json does not say. What it says of them in
        words is not relied on: the hashes decide."""
        hashes = part(self.manifest, "prompts")
        if not isinstance(hashes, dict):
            return None
        return wording(hashes, part(self.manifest, "settings", "prompt_dir"))

    @property
    def price(self) -> Price | None:
        """By the flags, else the highest of the servers' own at the last start."""
        settings = part(self.manifest, "settings")
        given = price(part(settings, "prompt_price"), part(settings, "reply_price"))
        servers = part(self.session, "engine", "servers")
        listed = [
            price(part(server, "price", "prompt"), part(server, "price", "reply"))
            for server in (servers if isinstance(servers, list) else [])
        ]
        return given or highest(listed)

    @cached_property
    def priced(self) -> bool:
        """Whether all of its rollouts' costs are known: a sum of some would pass for the whole."""
        if not self.measured or self.price is not None:
            return self.measured
        slots = list_slots(self.rollouts)
        asked = [slot for slot in slots if slot.prompt_tokens or slot.completion_tokens]
        return bool(asked) and all(slot.cost is not None for slot in asked)

    @property
    def model(self) -> str:
        """The model's name, the folder's where run.json does not say."""
        named = part(self.manifest, "model", "name")
        return named if isinstance(named, str) else self.folder.name

    @property
    def session(self) -> dict[str, Any]:
        """The entry of run.json for the last start."""
        sessions = part(self.manifest, "sessions")
        return sessions[-1] if sessions else {}

    @property
    def started(self) -> str:
        """When the run began, as ISO 8601; 1970 where run.json does not say."""
        sessions = part(self.manifest, "sessions") or [None]
        try:
            began = datetime.fromisoformat(part(sessions[0], "started"))
        except (TypeError, ValueError):
            began = datetime.fromtimestamp(0, timezone.utc)
        return began.isoformat(timespec="seconds")

    def only(self, problems: Sequence[int]) -> SavedRun:
        """The same run on some of its problems, by their positions."""
        return replace(
            self,
            problems=tuple(self.problems[i] for i in problems),
            golds=tuple(self.golds[i] for i in problems),
            rollouts={at: tuple(row[i] for i in problems) for at, row in self.rollouts.items()},
            lists={at: tuple(row[i] for i in problems) for at, row in self.lists.items()},
        )

    def records(
        self, steps: Collection[int] | None = None, seeds: Collection[int] | None = None
    ) -> Iterator[Placed]:
        """Records with their texts, one in memory at a time, seed by seed and step by step.

        steps: None for all, those too that not every seed has. seeds: None for all. Raises
        UserError where a file cannot be read a second time, or holds other problems by now.
        """
        places = {problem: place for place, problem in enumerate(self.problems)}
        for (seed, step), path in sorted(self.files.items()):
            if step not in (steps or (step,)) or seed not in (seeds or (seed,)):
                continue
            try:
                found = 0
                for number, record in enumerate(read_records(path)):
                    place = places.get(record.id if self.own_ids else str(number))
                    if place is not None:
                        found += 1
                        yield Placed(seed, step, place, record)
                if found != len(places):
                    raise Damaged("it holds other problems")
            except (Damaged, OSError) as error:
                raise UserError(
                    f"{path} changed while it was read ({first_line(error)}): run the same command "
                    "again."
                ) from error

    def to_frame(self, texts: bool = False) -> pandas.DataFrame:
        """A row per rollout of the complete steps, with the columns of rows.FRAME.

        texts: with prompts and replies too, which are read again, all of them into memory. Raises
        UserError without pandas, and where a file cannot be read a second time.
        """
        return rows.make_frame(self._rows(texts), texts)

    def _rows(self, texts: bool) -> Iterator[rows.Row]:
        """By column, answers in the data's own form. reply: pred_solution without what it goes on
        from. visible: the reply without its thinking. previous_correct: whether the chain's answer
        before was right, None where there was none or it was one of several at once."""
        kept = (
            Placed(seed, step, place, record)
            for seed in self.seeds
            for step in self.steps
            for place, record in enumerate(self.rollouts[seed, step])
        )
        before: dict[At, tuple[int, bool | None]] = {}  # by seed and problem: its step too
        given: defaultdict[At, set[Answer]] = defaultdict(set)
        for seed, step, place, record in self.records(self.steps) if texts else kept:
            chain, counted = (seed, place), record.new_slots if record.counted else ()
            answered = [slot for slot in counted if slot.asks_answer]
            last, right = before.get(chain, (step, None))
            previous = right if answered and not self.ahead and step <= last + 1 else None
            given[chain] |= {slot.predicted for slot in answered if slot.predicted is not None}
            if answered:
                right = answered[0].correct if len(answered) == 1 else None
            before[chain] = step, right if step <= last + 1 or answered else None
            for slot in record.new_slots:
                row = rows.make_row(self.name, seed, step, record, slot)
                yield {
                    **row,
                    "gold": self.golds[place],
                    "predicted": slot.predicted,
                    "verdict": record.verdict,
                    "list_entries": self.lists[seed, step][place].entries,
                    "previous_correct": previous,
                    "different_answers": len(given[chain]),
                    "reply": slot.reply,
                    "visible": slot.pred_solution[row["answer_start"] :],
                }


def read_all(arguments: Sequence[str], before: Sequence[SavedRun] = ()) -> list[SavedRun]:
    """The runs that folders, parents of runs and globs name, in that order, each once.

    A run without a readable step is left out, which the first run's notes say. before: the same
    runs as they were read earlier, whose files are not read again unless they have changed. Raises
    UserError where an argument names no run, where none can be read, and for an argument that names
    a single run which cannot, unless it has only begun: what was asked for would not be what is
    shown.
    """
    named, runs = find(arguments), []
    notes, alone = list(named.notes), [find([argument]).folders for argument in arguments]
    earlier = {run.folder: run for run in before}
    gc.disable()  # records hold no cycles, and looking for them takes as long as reading
    try:
        for folder, name in zip(named.folders, name_runs(named.folders), strict=True):
            try:
                runs.append(read(folder, name, earlier.get(folder)))
            except UserError as error:
                if (folder,) in alone and not isinstance(error, OnlyBegun):
                    raise
                notes.append(str(error))
    finally:
        gc.enable()
    if not runs:
        raise UserError(" ".join(notes))
    labels = label_runs([run.prefix for run in runs], [run.name for run in runs])
    runs = [replace(run, label=label) for run, label in zip(runs, labels, strict=True)]
    return [replace(runs[0], notes=(*notes, *runs[0].notes)), *runs[1:]]


def read_one(folder: str | os.PathLike[str]) -> SavedRun:
    """The run in a folder, as the commands read it: its numbers, without texts; what a reader has
    to know of it is in its notes. Raises UserError where there is no run or several."""
    folders = find([os.fspath(folder)]).folders
    if len(folders) > 1:
        raise UserError(f"{folder} holds {len(folders)} runs: name one, such as {folders[0]}.")
    return read_all([os.fspath(folder)])[0]


def read(folder: Path, name: str, before: SavedRun | None = None) -> SavedRun:
    """One run, every step's file read once. before: the run as it was read earlier. Raises
    UserError where no step can be read, OnlyBegun where none is complete yet."""
    notes: list[str] = []
    damaged: list[str] = []
    manifest = find_manifest(folder, notes)
    answers = find_answer_type(folder, manifest)
    places = find_places(folder, notes)
    seeds = {seed: place for seed, place in places.items() if place.predictions} or places
    steps: dict[At, StepNumbers] = {}
    files: dict[At, Path] = {}
    first: StepNumbers | None = None
    for seed, place in seeds.items():
        for step, path in sorted(place.predictions.items()):
            try:
                now = keep_step(before, (seed, step), path) or read_step(path, answers)
                first = first or now
                if now.identity != first.identity:
                    raise Damaged(
                        "it belongs to a different run than the files before it: its problems, "
                        "their answers or the program that wrote it differ"
                    )
                steps[seed, step], files[seed, step] = now, path
            except (Damaged, OSError, MemoryError) as error:
                damaged.append(f"{path} is left out: {first_line(error)}")
    notes += damaged
    shared = sorted(set.intersection(*({t for s, t in steps if s == seed} for seed in seeds)))
    if first is None or not shared:
        if not notes:
            raise OnlyBegun(f"{folder} is still at its first step: nothing of it is shown yet.")
        more = f"; and {len(notes) - 2} more" if len(notes) > 2 else ""
        why = "; ".join(notes[:2])
        raise UserError(f"{folder} has no step that can be read for every seed: {why}{more}.")
    identity, most = first.identity, part(manifest, "settings", "reflex_size")
    if identity.measured and not (folder / "run.json").exists():
        notes.append(f"{folder} has no run.json: what was run, and with which settings, is unknown")
    promised = part(manifest, "settings", "num_seeds")  # a lost folder would not be missed
    wanted = {*places, *range(min(promised, 10_000) if isinstance(promised, int) else 0)}
    waiting = sorted(wanted - seeds.keys())
    if waiting:
        of = f"{len(waiting):,} of its {counted(len(wanted), 'seed')}"
        notes.append(f"{folder} has no complete step of {of}, such as seed {waiting[0]}")
    in_progress = bool(waiting) or any(place.journals for place in seeds.values())
    rollouts = {at: step.rollouts for at, step in steps.items()}
    notes += list_remarks(folder, seeds.values(), shared, manifest, rollouts)
    return SavedRun(
        name=name,
        folder=folder,
        seeds=tuple(sorted(seeds)),
        problems=identity.problems,
        golds=identity.golds,
        own_ids=identity.problems != tuple(map(str, range(len(identity.problems)))),
        answers=answers,
        steps=tuple(shared),
        files=files,
        rollouts=rollouts,
        lists={at: step.lists for at, step in steps.items()},
        measured=identity.measured,
        window=find_window(folder, manifest),
        manifest=manifest,
        notes=tuple(notes),
        damaged=tuple(damaged),
        complete=not in_progress and most in (None, len(shared)),
        read_at={files[at]: step.read_at for at, step in steps.items()},
    )


def find_manifest(folder: Path, notes: list[str]) -> dict[str, Any] | None:
    """run.json; a damaged one is noted."""
    path = folder / "run.json"
    try:
        return read_manifest(path)
    except FileNotFoundError:
        return None
    except (Damaged, OSError) as error:
        notes.append(f"{path} is left out: {first_line(error)}")
        return None


def find_answer_type(folder: Path, manifest: dict[str, Any] | None) -> AnswerType:
    name = part(manifest, "answers")
    try:
        return Integer() if name is None else by_name(str(name))
    except ValueError as error:
        raise UserError(f"{folder} is left out: in its run.json, {error}.") from error


def keep_step(before: SavedRun | None, at: At, path: Path) -> StepNumbers | None:
    """A step as it was read earlier, None where its file was not read or has changed since."""
    if before is None or before.read_at.get(path) != look_at(path):
        return None
    identity = Identity(before.problems, before.golds, before.measured)
    return StepNumbers(identity, before.rollouts[at], before.lists[at], before.read_at[path])


def find_differing_settings(runs: Sequence[SavedRun]) -> dict[str, list[str]]:
    """Setting -> its value in each run, for those in which the runs differ; `-` where a run has
    no such setting. What only one method or family has, or only one prompt file, follows from
    those and is not shown."""
    return find_different([list_settings(run) for run in runs])


def list_settings(run: SavedRun) -> dict[str, str]:
    """All that decides a run's results, flat; the settings themselves without a prefix."""
    whole = run.manifest or {}
    parts = {k: v for k, v in whole.items() if k not in ("sessions", "settings")}
    settings = part(whole, "settings") or {}
    compared = {k: v for k, v in settings.items() if k in IDENTITY}
    words = {"wording": run.wording or "", "other engines": name_engines(run.rollouts)}
    seen = {name: value for name, value in words.items() if value}
    return flatten(compared) | flatten(parts) | seen


def find_window(folder: Path, manifest: dict[str, Any] | None) -> int | None:
    """Tokens: as run.json says, or as the folder's name does (docs/method.md, "Output")."""
    stated = part(manifest, "settings", "max_new_tokens")
    if isinstance(stated, int) and 0 < stated < 1 << 40:
        return stated
    named = WINDOW.match(folder.parent.name)
    return int(named[1]) or None if named else None
