"""report.py: from its flags to its page."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from ..terminal import brief, counted, printable
from . import page
from .command import Parser, check_output, run, write_output
from .runs import read_all


def main(description: str | None, argv: list[str] | None = None) -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    parser = Parser(description)
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
    run(lambda: report(options.results, options.output))


def report(arguments: list[str], path: Path) -> None:
    """Read the runs, print what a reader has to know about them, and write the page."""
    check_output(path, "-o", page.MARK.encode())
    runs = read_all(arguments)
    for each in runs:
        for note in each.notes:
            print(brief(note), file=sys.stderr)
    file = io.BytesIO()
    size = page.write(runs, file)
    write_output(path, "-o", file.getvalue())
    cut = ""
    if size.allowance is not None:
        cut = f", texts cut to {size.allowance:,} characters per rollout"
    if size.seeds is not None:
        cut += f", those of {counted(size.seeds, 'seed')} only"
    print(printable(f"Page: {path.resolve().as_uri()} ({size.page / 1e6:.1f} MB{cut})"))
