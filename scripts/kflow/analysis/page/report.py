"""report.py: from its flags to its page."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from kflow.analysis.command import Parser, at_least, check_output, run, write_output
from kflow.analysis.page import page
from kflow.analysis.page.watch import watch
from kflow.analysis.runs import read_all
from kflow.ground.terminal import brief, counted, printable

OUTPUT = Path("report.html")
LARGEST_PORT = 65535


def main(description: str | None, argv: list[str] | None = None) -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    parser = Parser(description)
    parser.add_argument("results", nargs="+", metavar="RESULTS")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="serve the page on this machine and update it as steps complete, "
        "instead of writing it; stop with Ctrl-C",
    )
    parser.add_argument("--port", type=port, metavar="N", help="for --watch (any free port)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"the page; replaces an older report, never another file ({OUTPUT})",
    )
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if options.watch and options.output is not None:
        parser.error("argument -o/--output: writes a page, and --watch serves one")
    if options.port is not None and not options.watch:
        parser.error("argument --port: belongs to --watch")
    if options.watch:
        run(lambda: watch(options.results, options.port or 0))
    else:
        run(lambda: report(options.results, options.output or OUTPUT))


def port(text: str) -> int:
    number = at_least(1)(text)
    if number > LARGEST_PORT:
        raise argparse.ArgumentTypeError(f"must be at most {LARGEST_PORT}")
    return number


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
