"""Which runs a command's arguments name. Only real folders below an argument are entered: a link
could lead anywhere, and back."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kflow.ground.terminal import first_line
from kflow.results.reading import COMPRESSED
from kflow.types import UserError

NUMBER = r"(0|[1-9]\d{0,5})"
FILE = re.compile(rf"predictions_{NUMBER}\.json(\{COMPRESSED})?")
JOURNAL = re.compile(rf"rollouts_{NUMBER}\.jsonl")
SEED = re.compile(rf"seed_{NUMBER}")
ODD = re.compile(rf"predictions_.*\.json(\{COMPRESSED})?|rollouts_.*\.jsonl|seed_\d+")
MOVED_ASIDE = re.compile(r".+\.old-\d+")
WINDOW = re.compile(r".+?_(\d{2,9})(?:_|\Z)")
METHODS = {  # for prefixes that do not spell the method
    "vllm": "mistakes", "vllm24": "mistakes", "vllm_rsa": "RSA", "vllm_rse": "RSE",
    "vllm_pacore": "PaCoRe", "vllm_trt": "TRT", "vllm_markov": "Markovian",
    "vllm_markov_tail": "whole tail",
}  # fmt: skip
LONGEST_LABEL = 12  # characters of what tells runs of one method apart


class Found(NamedTuple):
    """folders: of runs, resolved, each once. notes: what was not entered, and why."""

    folders: tuple[Path, ...]
    notes: tuple[str, ...]


class Place(NamedTuple):
    """The files of one seed: step -> path."""

    predictions: dict[int, Path]
    journals: dict[int, Path]


def find(arguments: Sequence[str]) -> Found:
    """The folders of runs that folders, parents of runs and globs name, in that order. What
    --overwrite moved aside counts only where it is named itself. Raises UserError."""
    named: dict[Path, None] = {}
    notes: list[str] = []
    for argument in arguments:
        paths = match_paths(argument)
        runs = [folder for path in paths for folder in find_runs(path, notes)]
        if not runs:
            nothing = f"There is nothing at {argument or repr(argument)}"
            raise UserError(
                f"{f'{argument} contains no results' if paths else nothing}: give a folder that "
                "contains predictions_<step>.json, a folder above it, or a glob."
            )
        named |= dict.fromkeys(runs)
    return Found(tuple(named), tuple(dict.fromkeys(notes)))


def match_paths(argument: str) -> list[Path]:
    """An argument's paths, resolved: itself, else what it matches as a glob."""
    if not argument:
        return []
    try:
        path = Path(argument)
        paths = [path] if path.exists() else sorted(map(Path, glob.glob(argument)))
        return [path.resolve() for path in paths]
    except (OSError, ValueError, RuntimeError):  # a name too long, a null byte, a loop of links
        return []


def find_runs(path: Path, notes: list[str]) -> list[Path]:
    """The runs in a folder: itself, or those under it."""
    if path.is_file() and (FILE.fullmatch(path.name) or JOURNAL.fullmatch(path.name)):
        path = path.parent
    if not path.is_dir():
        return []
    if is_run(path):
        return [path.parent if SEED.fullmatch(path.name) and is_run(path.parent) else path]
    runs, waiting = [], [path]
    while waiting:
        folder = waiting.pop()
        if is_run(folder):
            runs.append(folder)
        else:
            waiting += reversed(list_folders(folder, notes))
    return runs


def list_folders(folder: Path, notes: list[str]) -> list[Path]:
    """The folders in a folder, but for links and what was moved aside."""
    try:
        entries = list_entries(folder)
    except OSError as error:
        notes.append(f"{folder} is left out: {first_line(error)}")
        return []
    for entry in entries:
        if entry.is_symlink() and Path(entry.path).is_dir():
            notes.append(f"{entry.path} is left out: it is a link; name the folder it leads to")
    real = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    return [Path(entry.path) for entry in real if not MOVED_ASIDE.fullmatch(entry.name)]


def list_entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def is_run(folder: Path) -> bool:
    return any(place.predictions or place.journals for place in find_places(folder, []).values())


def find_places(folder: Path, notes: list[str]) -> dict[int, Place]:
    """The files of a run by seed: those in its seed folders, or its own as seed 0. Notes names that
    look like a step's or a seed's and are none."""
    try:
        seeds = {
            int(number[1]): Path(entry.path)
            for entry in list_entries(folder)
            if (number := SEED.fullmatch(entry.name)) and entry.is_dir(follow_symlinks=False)
        }
        inner = {seed: list_files(place, notes) for seed, place in sorted(seeds.items())}
        here = list_files(folder, notes)
    except OSError as error:
        notes.append(f"{folder} is left out: {first_line(error)}")
        return {}
    if here.predictions or not inner:  # a run of one seed, whose files move where more are added
        moved = inner.pop(0, Place({}, {}))
        inner = {0: Place(*(a | b for a, b in zip(here, moved, strict=True))), **inner}
    return inner


def list_files(folder: Path, notes: list[str]) -> Place:
    place = Place({}, {})
    for entry in list_entries(folder):
        predictions, journal = FILE.fullmatch(entry.name), JOURNAL.fullmatch(entry.name)
        if (predictions or journal) and entry.is_symlink():
            notes.append(f"{entry.path} is left out: it is a link")
        elif predictions and int(predictions[1]) in place.predictions:
            notes.append(f"{entry.path} is left out: the same step is beside it, not compressed")
        elif predictions:
            place.predictions[int(predictions[1])] = Path(entry.path)
        elif journal:
            place.journals[int(journal[1])] = Path(entry.path)
        elif ODD.fullmatch(entry.name) and not SEED.fullmatch(entry.name):
            notes.append(f"{entry.path} is left out: its name is not that of a step or a seed")
    return place


def name_runs(folders: Sequence[Path]) -> list[str]:
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


def label_runs(prefixes: Sequence[str | None], names: Sequence[str]) -> list[str]:
    """A word or two for each run, where a name has no room: what it ran, by its results prefix
    (None: not known, and its name is taken). Runs that share it are told apart by what their names
    do not share, or by numbers where that is long."""
    kinds = [
        name if prefix is None else METHODS.get(prefix, prefix.removeprefix("vllm_"))
        for prefix, name in zip(prefixes, names, strict=True)
    ]
    labels = []
    for kind, name in zip(kinds, names, strict=True):
        alike = [other for other, its in zip(names, kinds, strict=True) if its == kind]
        part = tell_apart(alike)[alike.index(name)] if len(alike) > 1 else ""
        labels.append(f"{kind} {part}".strip())
    return labels


def tell_apart(names: Sequence[str]) -> list[str]:
    parts = [re.split(r"[_/]", name) for name in names]
    shared = set.intersection(*map(set, parts))
    labels = [" ".join(part for part in words if part not in shared) for words in parts]
    short = len(set(labels)) == len(labels) and all(len(words) <= LONGEST_LABEL for words in labels)
    return labels if short else [str(number) for number in range(1, len(names) + 1)]
