"""report.py: from its flags to its page."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from ..files import READ, open_regular, write_whole
from ..flags import Parser
from ..terminal import first_line, printable
from ..types import UserError
from . import command, page
from .runs import read_all

BEGINNING = 2000  # bytes of a page in which its mark stands
CHUNK = 1 << 20


def main(description: str | None, argv: list[str] | None = None) -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    parser = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("results", nargs="+", metavar="RESULTS")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page; an older report there is replaced, anything else is not (%(default)s)",
    )
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    command.run(lambda: report(options.results, options.output))


def report(arguments: list[str], path: Path) -> None:
    """Read the runs, print what a reader has to know about them, and write the page."""
    check(path)
    runs = read_all(arguments)
    for run in runs:
        for note in run.notes:
            print(printable(note), file=sys.stderr)
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent) as file:
            size = page.write(runs, file)
            file.seek(0)
            write_whole(path, iter(lambda: file.read(CHUNK), b""))
    except OSError as error:
        raise UserError(f"Cannot write {path} ({first_line(error)}).") from error
    cut = ""
    if size.allowance is not None:
        cut = f", texts cut to {size.allowance:,} characters per rollout"
    print(printable(f"Page: {path.resolve().as_uri()} ({size.page / 1e6:.1f} MB{cut})"))


def check(path: Path) -> None:
    """Raises UserError for a place where no report can go."""
    if path.is_dir() or not path.name:
        raise UserError(f"{path} is a folder: give -o the name of a file in it.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path.parent} is no folder: make it, or give -o another name.")
    if os.path.lexists(path) and not is_report(path):
        raise UserError(f"{path} is not a report and is left alone: give -o another name.")


def is_report(path: Path) -> bool:
    try:
        with open(open_regular(path, READ | os.O_NOFOLLOW), "rb") as file:
            return page.MARK.encode() in file.read(BEGINNING)
    except OSError:
        return False
