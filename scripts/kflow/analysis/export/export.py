"""export_results.py: from its flags to a new folder in another program's format.

One record is in memory at a time, and the folder appears whole or not at all.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kflow.analysis import command
from kflow.analysis.export import inspect_log, tabular, traces
from kflow.analysis.export.source import Source, sources
from kflow.ground.files import SUFFIX
from kflow.ground.terminal import brief, counted, first_line, printable
from kflow.types import UserError

Write = Callable[[Sequence[Source], Path, bool], int]
FORMS: dict[str, Write] = {
    "parquet": tabular.write_parquet,
    "inspect": inspect_log.write,
    "traces": traces.write,
    "csv": tabular.write_csv,
}


def main(description: str | None, argv: Sequence[str] | None = None) -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    parser = command.Parser(description)
    parser.add_argument("results", nargs="+", metavar="RESULTS")
    parser.add_argument(
        "--to",
        required=True,
        choices=FORMS,
        help="parquet: a data set with a card, a row per rollout; inspect: a log per run for "
        "inspect_ai; traces: a session per chain, as the hub's trace viewer shows them; csv: a row "
        "per rollout",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="a new folder; an existing one is left alone (exported_<format>)",
    )
    parser.add_argument(
        "--without_texts",
        action="store_true",
        help="leave out prompts, replies and knowledge lists (parquet and csv)",
    )
    options = parser.parse_args(argv)
    if options.without_texts and options.to not in ("parquet", "csv"):
        parser.error("argument --without_texts: belongs to --to parquet or csv")
    output = options.output or Path(f"exported_{options.to}")
    command.run(lambda: export(options.results, options.to, output, not options.without_texts))


def export(arguments: Sequence[str], form: str, output: Path, texts: bool) -> None:
    """Write the runs and print what a reader has to know. Raises UserError."""
    runs, notes = sources(arguments)
    for note in notes:
        print(brief(note), file=sys.stderr)
    with new_folder(output) as folder:
        rollouts = FORMS[form](runs, folder, texts)
    what = f"{counted(rollouts, 'rollout')} of {counted(len(runs), 'run')}"
    print(printable(f"Exported {what}: {output.resolve()}"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that takes its name only when all is in it. Raises UserError where
    anything has that name, or it cannot be written."""
    refusal = f"{path} already exists and is left alone: move it away, or give another --output."
    if not path.name or os.path.lexists(path):
        raise UserError(refusal)
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path.parent} is not a folder: create it, or give another --output.")
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}{SUFFIX}")
    try:
        part.mkdir()
    except OSError as error:
        raise UserError(f"Cannot write --output {path} ({first_line(error)}).") from error
    try:
        yield part
        try:
            os.rename(part, path)  # fails on a file, and on a folder that holds anything
        except OSError as error:
            if os.path.lexists(path):
                raise UserError(refusal) from error
            raise UserError(f"Cannot write --output {path} ({first_line(error)}).") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
