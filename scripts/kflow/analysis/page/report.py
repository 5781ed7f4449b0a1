"""report.py: from its flags to its page, once or again and again while the runs go on."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from markupsafe import escape

from kflow.analysis.align import put_first
from kflow.analysis.command import check_output, print_notes, run, write_output
from kflow.analysis.page import page
from kflow.analysis.page.page import Size
from kflow.ground.program import Parser
from kflow.ground.terminal import brief, counted, first_line, printable, safely
from kflow.results import status
from kflow.results.find import find, match_paths
from kflow.results.runs import SavedRun, read_all
from kflow.types import UserError

OUTPUT = Path("report.html")
EVERY = 15.0  # seconds from one look at the runs to the next
SILENT = 60.0  # seconds after which a running program should have written its status
LONGEST_LINE = 300  # characters
REFRESH = f'<meta http-equiv="refresh" content="{EVERY:.0f}">\n'
HEAD = f'<meta charset="utf-8">\n<meta name="generator" content="{page.MARK}">\n{REFRESH}'
WAITING = """<!DOCTYPE html>
<html lang="en"><head>{head}<title>Knowledge Flow</title></head>
<body>
<p>{reason}</p>
</body></html>
"""


def main(description: str | None, argv: list[str] | None = None) -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    parser = Parser(description)
    parser.add_argument("results", nargs="+", metavar="RESULTS")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="rewrite the page whenever a step is complete, until all runs are complete; an open "
        "browser tab reloads it by itself",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=OUTPUT,
        metavar="FILE",
        help=f"the page; replaces an older report, never another file ({OUTPUT})",
    )
    options = parser.parse_args(argv)
    work = watch if options.watch else report
    run(lambda: work(options.results, options.output))


def report(arguments: list[str], path: Path) -> None:
    """Read the runs, print what a reader has to know about them, and write the page."""
    check_output(path, "-o", page.MARK.encode())
    runs = put_first(read_all(arguments))
    print_notes(runs)
    file = io.BytesIO()
    size = page.write(runs, file)
    write_output(path, "-o", file.getvalue())
    announce(path, size)


def announce(path: Path, size: Size) -> None:
    cut = ""
    if size.allowance is not None:
        cut = f", texts cut to {size.allowance:,} characters per rollout"
    if size.seeds is not None:
        cut += f", those of {counted(size.seeds, 'seed')} only"
    print(printable(f"Page: {path.resolve().as_uri()} ({size.page / 1e6:.1f} MB{cut})"))


def watch(arguments: list[str], path: Path) -> None:
    """Keep the page up to date until every run is complete, or Ctrl-C: with the runs' state from
    their status.json at every look, with their results whenever a step's file is new. Raises
    UserError where an argument names nothing."""
    check_output(path, "-o", page.MARK.encode())
    for argument in arguments:
        if not match_paths(argument):
            raise UserError(f"{argument} does not exist: name a run's folder.")
    runs: list[SavedRun] = []
    content, done = b"", False
    while not done:
        before = [each.read_at for each in runs]
        try:
            runs = put_first(read_all(arguments, runs))
            done = len(runs) == len(find(arguments).folders) and all(map(is_complete, runs))
            if done or [each.read_at for each in runs] != before:
                file = io.BytesIO()
                size = page.write(runs, file, "" if done else REFRESH)
                content = file.getvalue()
                if done or not before:
                    announce(path, size)
        except (UserError, OSError) as error:  # nothing complete yet; the next look may find it
            runs, reason = [], escape(safely(brief(str(error))))
            content = WAITING.format(head=HEAD, reason=reason).encode()
        folders = [each.folder for each in runs] or find_begun(arguments)
        states = "".join(f"<p>{escape(safely(describe_state(folder)))}</p>\n" for folder in folders)
        write_output(path, "-o", content.replace(b"<body>\n", f"<body>\n{states}".encode(), 1))
        if not done:
            time.sleep(EVERY)


def find_begun(arguments: Sequence[str]) -> list[Path]:
    """The folders named that have a status, before there is any complete step."""
    paths = [path for argument in arguments for path in match_paths(argument)]
    return [path for path in paths if (path / "status.json").exists()]


def is_complete(run: SavedRun) -> bool:
    try:
        return status.read(run.folder).state == "complete"
    except (OSError, ValueError):
        return run.complete


def describe_state(folder: Path) -> str:
    """Where a run is, in one line."""
    name = "/".join(folder.parts[-2:])
    try:
        now = status.read(folder)
        age = datetime.now(timezone.utc) - datetime.fromisoformat(now.updated)
    except FileNotFoundError:
        return f"{name}: no status.json"
    except (OSError, ValueError, TypeError) as error:
        return f"{name}: status.json cannot be read ({first_line(error)})"
    sentence = f"{now.state[:LONGEST_LINE]}, {status.line([now], LONGEST_LINE)}"
    if now.state == "running" and age.total_seconds() > SILENT:
        sentence += f", but nothing written since {now.updated}: it may have been killed"
    return f"{name}: {sentence}"
