"""Compare runs: accuracy by step with intervals, costs, and each run against a baseline.

    python scripts/compare_results.py RESULTS [RESULTS ...]

RESULTS is a run's folder, a folder above several, or a glob; folders of the published code too.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kflow.analysis import command, regrade, tables
from kflow.analysis.comparison import align, describe, versus
from kflow.analysis.plot import draw
from kflow.analysis.runs import Run, differing_settings, find, read_all
from kflow.flags import Parser, between
from kflow.terminal import printable
from kflow.types import UserError


def main(argv: list[str] | None = None) -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    options = parse(argv)
    command.run(lambda: compare(options))


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("results", nargs="+", metavar="RESULTS")
    parser.add_argument(
        "--baseline", metavar="RESULTS", help="the run the others are held against (the first)"
    )
    parser.add_argument(
        "--common", action="store_true", help="only the problems that all runs have"
    )
    parser.add_argument(
        "--every", type=between(int, 1), metavar="N", help="show every N-th step (about eight)"
    )
    parser.add_argument(
        "--step",
        type=between(int, 0),
        metavar="STEP",
        help="compare with the baseline at this step (the last both have)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="accuracy by step, .png or .svg")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--problem", metavar="ID", help="one problem across runs, step by step")
    output.add_argument(
        "--regrade",
        action="store_true",
        help="grade the saved replies again, by the run's rule, from the visible answer alone and "
        "with math-verify, and say where they disagree; changes nothing",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of tables")
    form.add_argument("--csv", action="store_true", help="print one line per run and step")
    return parser.parse_args(sys.argv[1:] if argv is None else argv)


def compare(options: argparse.Namespace) -> None:
    runs, baseline = chosen(options.results, options.baseline)
    for run in runs:
        for note in run.notes:
            print(printable(note), file=sys.stderr)
    runs = align(runs, options.common)
    if options.problem is not None and options.problem not in runs[0].problems:
        raise UserError(
            f"No problem {options.problem} in {runs[0].name}: its problems are "
            f"{', '.join(runs[0].problems[:8])}{', ...' if len(runs[0].problems) > 8 else ''}."
        )
    described = [describe(run) for run in runs]
    against = [
        versus(run, runs[baseline], options.step)
        for number, run in enumerate(runs)
        if number != baseline
    ]
    settings = differing_settings(runs)
    if options.plot is not None:
        draw(options.plot, described)
    graded = [regrade.regrade(run) for run in runs] if options.regrade else []
    if options.json:
        values: dict[str, Any] = {"runs": described, "against": against, "settings": settings}
        print(json.dumps(values | ({"regraded": graded} if graded else {}), indent=2))
    elif options.csv:
        write_csv(described)
    else:
        console = tables.console()
        if options.problem is not None:
            console.print(tables.one_problem(runs, options.problem))
        elif graded:
            print("\n".join(line for each in graded for line in regrade.told(each)))
        else:
            tables.show(console, runs, described, against, settings, options.every)
    if options.plot is not None:
        print(printable(f"Plot: {options.plot}"), file=sys.stderr)


def chosen(results: Sequence[str], baseline: str | None) -> tuple[list[Run], int]:
    """The runs, and which of them is the baseline, which is put first if it is not among them."""
    if baseline is None:
        return read_all(results), 0
    folders = find([baseline])
    if len(folders) > 1:
        raise UserError(f"--baseline {baseline} holds {len(folders)} runs: name one of them.")
    among = find(results)
    runs = read_all(list(map(str, among if folders[0] in among else [*folders, *among])))
    places = [number for number, run in enumerate(runs) if run.folder == folders[0]]
    if not places:
        raise UserError(f"--baseline {baseline} cannot be read: {runs[0].notes[0]}")
    return runs, places[0]


def write_csv(described: Sequence[dict[str, Any]]) -> None:
    """Tidy: one line per run and step; lengths in tokens, an empty field is not known."""
    fields = ("step", "right", "total", "accuracy", "low", "high", "standard_error")
    writer = csv.writer(sys.stdout)
    writer.writerow(["run", "folder", *fields])
    for run in described:
        for value in run["accuracy"]:
            cells = [value.get(field) for field in fields]
            writer.writerow([run["name"], run["folder"], *("" if c is None else c for c in cells)])


if __name__ == "__main__":
    main()
