"""compare_results.py: from its flags to what it prints."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from kflow.analysis import command, printing, regrade, stopping
from kflow.analysis.align import UNITS, EqualBudget, align, list_common, put_first
from kflow.analysis.comparison import Comparison, compare_runs
from kflow.analysis.conclusion import sum_up
from kflow.analysis.plot import AXES, check, draw
from kflow.analysis.run_statistics import MEASURES, RunStatistics, Share, build_timeline
from kflow.analysis.stopping import StoppingRule
from kflow.ground.program import Parser
from kflow.ground.terminal import brief, printable
from kflow.results.find import find
from kflow.results.runs import SavedRun, read_all, read_one
from kflow.types import UserError


def main(description: str | None, argv: Sequence[str] | None = None) -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    options = parse(description, argv)
    command.run(lambda: compare(options))


def parse(description: str | None, argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags; two that do not go together, or one whose other is missing, end the program with
    code 2. form: `text`, `json` or `csv`."""
    parser = Parser(description)
    parser.add_argument("results", nargs="+", metavar="RESULTS")
    parser.add_argument(
        "--baseline",
        metavar="RESULTS",
        help="the run that the others are compared with (parallel thinking, else the first)",
    )
    parser.add_argument(
        "--common", action="store_true", help="only the problems common to all runs"
    )
    parser.add_argument(
        "--details", action="store_true", help="also print every table and step, below the answer"
    )
    parser.add_argument(
        "--settings", action="store_true", help="the settings that differ, below the answer"
    )
    equal = parser.add_mutually_exclusive_group()
    equal.add_argument(
        "--step",
        type=at_least(0),
        metavar="STEP",
        help="compare with the baseline at this step (default: at the largest equal budget of "
        "rollouts, and of tokens, that all runs reach)",
    )
    equal.add_argument(
        "--at_rollouts",
        type=at_least(1),
        metavar="N",
        help="compare each run at its last step within N rollouts per problem",
    )
    equal.add_argument(
        "--at_tokens",
        type=at_least(1),
        metavar="N",
        help="compare each run at the step whose prompt and reply tokens per problem, on average, "
        "are nearest to N, and at most 5 %% above it",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="accuracy, as .png or .svg")
    parser.add_argument(
        "--plot_by",
        choices=AXES,
        help="x axis of --plot, per problem (rollouts)",
    )
    parser.add_argument(
        "--stop",
        action="append",
        type=stopping_rule,
        default=[],
        metavar="RULE",
        help="show where this rule would have stopped the recorded chains, and what that would "
        "have saved and cost: stable:N (the last N answers agree), majority:S,M (after M answers, "
        "the leading one has a share of S) or first:N; may be repeated",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--problem", metavar="ID", help="one problem across runs, step by step")
    output.add_argument(
        "--regrade",
        action="store_true",
        help="grade the saved replies again with math-verify: where it disagrees and which "
        "accuracy would change; changes no file",
    )
    form = parser.add_mutually_exclusive_group()
    for name, text in (
        ("json", "print JSON instead of text"),
        ("csv", "print one line per run and step"),
    ):
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=text)
    options = parser.parse_args(argv)
    given = {name for name, value in vars(options).items() if value} | {options.form}
    for flag, others in (
        ("problem", ("json", "csv")),
        ("regrade", ("csv",)),
        ("stop", ("csv", "problem", "regrade")),
        ("details", ("json", "csv", "problem", "regrade")),
        ("settings", ("json", "csv", "problem", "regrade")),
    ):
        for other in others:
            if {flag, other} <= given:
                parser.error(f"--{flag} cannot be combined with --{other}")
    if "plot_by" in given and "plot" not in given:
        parser.error("--plot_by needs --plot")
    return options


def at_least(low: int) -> Callable[[str], int]:
    """A whole number, as a flag's type."""

    def parse(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1
        if number < low:
            raise argparse.ArgumentTypeError(f"must be a whole number, at least {low}")
        return number

    return parse


def stopping_rule(text: str) -> StoppingRule:
    """A rule, as a flag's type."""
    try:
        return stopping.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{brief(text)} {error}") from error


def compare(options: argparse.Namespace) -> None:
    """Read the runs, print what a reader has to know about them, and the answer."""
    if options.plot is not None:
        check(options.plot)
    runs = choose(options.results, options.baseline)
    command.print_notes(runs)
    runs = align(runs, options.common)
    problems = runs[0].problems
    if options.problem is not None and options.problem not in problems:
        raise UserError(
            f"No problem {options.problem} in {runs[0].name}: its problems are "
            f"{', '.join(problems[:8])}{', ...' if len(problems) > 8 else ''}."
        )
    budget = EqualBudget(options.at_rollouts, options.at_tokens)
    at_both = budget.size is None and options.step is None
    compared = compare_runs(runs, None if at_both else budget, options.step)
    held = {versus.budget.unit for versus, *_ in compared.against if versus.budget.size}
    for unit in UNITS if at_both and compared.against else ():
        if unit not in held:
            print(f"No comparison at equal {unit}: the runs share no such budget.", file=sys.stderr)
    timelines = map(build_timeline, runs if options.stop else ())
    stopped = [stopping.replay(each, rule) for each in timelines for rule in options.stop]
    graded = [regrade.regrade(run) for run in runs] if options.regrade else []
    if options.plot is not None:
        draw(options.plot, compared.runs, options.plot_by or AXES[0])
    if options.form == "json":
        regraded = {"regraded": list(map(asdict, graded))} if graded else {}
        cut = {"stopped": list(map(asdict, stopped))} if stopped else {}
        print(json.dumps({**flatten(compared), **regraded, **cut}, indent=2))
    elif options.form == "csv":
        write_csv(compared.runs)
    elif options.problem is not None:
        printing.console().print(printing.one_problem(runs, options.problem))
    elif graded:
        for each in graded:
            for line in regrade.spell_out(each):
                print(printable(line))
    else:
        terminal = printing.console()
        printing.show_answer(terminal, compared, list_common(runs))
        if options.details:
            printing.show_details(terminal, compared)
        if stopped:
            printing.show_stops(terminal, stopped, compared.runs)
        if options.settings:
            printing.show_settings(terminal, compared.settings, compared.runs)
    if options.plot is not None:
        print(printable(f"Plot: {options.plot}"), file=sys.stderr)


def choose(results: Sequence[str], baseline: str | None) -> list[SavedRun]:
    """The runs, the baseline first."""
    if baseline is None:
        return put_first(read_all(results))
    folders = find([baseline]).folders
    if len(folders) > 1:
        raise UserError(f"--baseline {baseline} holds {len(folders)} runs: name one of them.")
    among = folders[0] in find(results).folders
    runs = read_all(results if among else [baseline, *results])
    named = next((run for run in runs if run.folder == folders[0]), None)
    return put_first(runs, named or read_one(baseline))  # which raises why


def flatten(compared: Comparison) -> dict[str, Any]:
    """What --json prints; shares from 0 to 1, lengths in tokens, null where it is not on record."""
    return {
        "conclusion": sum_up(compared.runs, compared),
        **asdict(compared),
        "against": [asdict(versus) for at_budget in compared.against for versus in at_budget],
    }


def write_csv(runs: Sequence[RunStatistics]) -> None:
    """Tidy: one line per run and step; an empty field is not known."""
    shares = [field.name for field in fields(Share)]
    writer = csv.writer(sys.stdout)
    majority = [f"majority_{name}" for name in shares]
    writer.writerow(["run", "folder", "step", *shares, *majority, *MEASURES])
    for run in runs:
        for step in run.by_step:
            own = [getattr(step.own, name, None) for name in shares]
            votes = [getattr(step.rolling_majority, name, None) for name in shares]
            cells = [*own, *votes, *(getattr(step, name) for name in MEASURES)]
            names = [printable(run.name), printable(run.folder), step.step]
            writer.writerow([*names, *("" if cell is None else cell for cell in cells)])
