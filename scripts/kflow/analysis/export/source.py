"""The runs that an export reads: every record with its texts, one in memory at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from kflow.analysis.runs import read_manifest
from kflow.ground.terminal import counted, first_line
from kflow.results import reading, status
from kflow.results.find import find, names, places
from kflow.results.reading import Damaged
from kflow.results.recorded import part
from kflow.results.rollout import Rollout
from kflow.types import UserError

SAFE = re.compile(r"[\w@+ -][\w.@+ -]{0,99}")


class StepRecord(NamedTuple):
    """A step's record, and the place of its problem in the file."""

    seed: int
    step: int
    place: int
    record: Rollout


@dataclass(frozen=True)
class Source:
    """A run's complete steps. files: (seed, step) -> path, in that order. manifest: run.json, None
    where there is none. complete: whether no step is still to come, by run.json."""

    name: str
    folder: Path
    files: dict[tuple[int, int], Path]
    manifest: dict[str, Any] | None
    complete: bool

    @property
    def ahead(self) -> bool:
        """As of a Run."""
        return part(self.manifest, "experiment", "ahead") is True

    @property
    def model(self) -> str:
        named = part(self.manifest, "model", "name")
        return encodable(named) if isinstance(named, str) else self.folder.name

    @property
    def started(self) -> str:
        """When the run began, as ISO 8601; 1970 where run.json does not say."""
        sessions = part(self.manifest, "sessions") or [None]
        try:
            began = datetime.fromisoformat(part(sessions[0], "started"))
        except (TypeError, ValueError):
            began = datetime.fromtimestamp(0, timezone.utc)
        return began.isoformat(timespec="seconds")

    @property
    def ended(self) -> str:
        """When the program was last seen at work, as ISO 8601; the start where status.json does
        not say."""
        try:
            return datetime.fromisoformat(status.read(self.folder).updated).isoformat()
        except (OSError, ValueError):
            return self.started

    def records(self) -> Iterator[StepRecord]:
        """Every record, seed by seed and step by step. Raises UserError for a damaged file: an
        export that lacks a part of a run would look like a whole one."""
        for (seed, step), path in self.files.items():
            try:
                for place, record in enumerate(reading.records(path)):
                    yield StepRecord(seed, step, place, record)
            except (Damaged, OSError) as error:
                raise UserError(
                    f"{path} cannot be read ({first_line(error)}): move it away to export the "
                    "rest of the run."
                ) from error


def sources(arguments: Sequence[str]) -> tuple[list[Source], list[str]]:
    """The runs that folders, parents of runs and globs name, each once, and what a reader has to
    know about them. Raises UserError where they name no complete step."""
    named = find(arguments)
    notes = list(named.notes)
    read = [source(*each, notes) for each in zip(named.folders, names(named.folders), strict=True)]
    runs = [each for each in read if each.files]
    if not runs:
        raise UserError("There is no complete step to export yet: wait for the first.")
    return runs, list(dict.fromkeys(notes))


def source(folder: Path, name: str, notes: list[str]) -> Source:
    manifest = read_manifest(folder, notes)
    seeds = places(folder, notes)
    files = {
        (seed, step): path
        for seed, place in sorted(seeds.items())
        for step, path in sorted(place.predictions.items())
    }
    waiting = sum(len(place.journals) for place in seeds.values())
    if waiting:
        notes.append(f"{folder} is in progress: {counted(waiting, 'incomplete step')} left out")
    elif not files:
        notes.append(f"{folder} is left out: it has no complete step")
    most = part(manifest, "settings", "reflex_size")
    steps = min((len(place.predictions) for place in seeds.values()), default=0)
    return Source(name, folder, files, manifest, not waiting and most in (None, steps))


def encodable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 lacks, spelt as `\\ud800`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def file_name(text: str, number: int) -> str:
    """A text as a file's name, or `~` and a number, which no such text is."""
    return text if SAFE.fullmatch(text) else f"~{number}"


def file_names(sources: Sequence[Source]) -> list[str]:
    """A file's name for each run, all different."""
    flat = [source.name.replace("/", "_") for source in sources]
    return [
        file_name(name if flat.count(name) == 1 else "", number) for number, name in enumerate(flat)
    ]
