"""How the commands that read results begin and end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from kflow.ground.files import read_regular, write_whole
from kflow.ground.program import finish
from kflow.ground.terminal import brief, first_line
from kflow.results.runs import SavedRun
from kflow.types import UserError

BEGINNING = 4096  # bytes of a file in which the mark of the program that wrote it stands
LARGEST_OUTPUT = 1 << 30


def run(work: Callable[[], None]) -> None:
    """Do the work of a command, and end the program where it fails; a reader that stops early,
    `head` say, is no failure."""

    def read() -> None:
        try:
            work()
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    if code := finish(read):
        sys.exit(code)


def print_notes(runs: Iterable[SavedRun]) -> None:
    """What a reader of the runs has to know, on stderr."""
    for run in runs:
        for note in run.notes:
            print(brief(note), file=sys.stderr)


def check_output(path: Path, flag: str, mark: bytes) -> None:
    """Raises UserError where a file cannot go: another program's is never replaced. mark: what
    stands at the beginning of one that may be."""
    if path.is_dir() or not path.name:
        raise UserError(f"{path} is a folder: give {flag} the name of a file in it.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path.parent} is not a folder: create it, or give {flag} another name.")
    try:
        ours = mark in read_regular(path, LARGEST_OUTPUT)[:BEGINNING]
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({first_line(error)}) and is left alone: give {flag} another "
            "name."
        ) from error
    if not ours:
        raise UserError(
            f"{path} was not made by this program and is left alone: give {flag} another name."
        )


def write_output(path: Path, flag: str, content: bytes) -> None:
    """Raises UserError where it cannot be written."""
    try:
        write_whole(path, [content], sync=False)
    except OSError as error:
        raise UserError(f"Cannot write {flag} {path} ({first_line(error)}).") from error
