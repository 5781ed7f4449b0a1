"""export_results.py: from its flags to a new folder in another program's format, or to a tracker.

One record is in memory at a time, but for inspect_ai's logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kflow.analysis import command
from kflow.analysis.export.folder import make_folder
from kflow.ground.program import Parser
from kflow.ground.terminal import counted, printable
from kflow.results.runs import read_all
from kflow.types import UserError

FORMATS = ("parquet", "inspect", "traces")
TRACKERS = ("trackio", "wandb")
PROJECT = "knowledge-flow"


def main(description: str | None, argv: Sequence[str] | None = None) -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    parser = Parser(description)
    parser.add_argument("results", nargs="+", metavar="RESULTS")
    parser.add_argument(
        "--to",
        required=True,
        choices=(*FORMATS, *TRACKERS),
        help="parquet: a data set with a card, a row per rollout; inspect: a log per run for "
        "inspect_ai; traces: a session per chain, as the hub's trace viewer shows them; trackio, "
        "wandb: every step in that experiment tracker",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="a new folder; an existing one is left alone (exported_<format>)",
    )
    parser.add_argument(
        "--without_texts",
        action="store_true",
        help="leave out prompts, replies and knowledge lists (parquet)",
    )
    parser.add_argument("--project", metavar="NAME", help=f"the tracker's project ({PROJECT})")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="log further steps as they are completed, until the runs end (trackio, wandb)",
    )
    options = parser.parse_args(argv)
    tracker = options.to in TRACKERS
    for flag, belongs in (
        ("output", not tracker),
        ("without_texts", options.to == "parquet"),
        ("project", tracker),
        ("follow", tracker),
    ):
        if getattr(options, flag) and not belongs:
            parser.error(f"--{flag} cannot be combined with --to {options.to}")
    project = options.project or PROJECT
    output = options.output or Path(f"exported_{options.to}")

    def work() -> None:
        if tracker:
            from kflow.analysis.export import tracked

            tracked.track(options.results, options.to, project, options.follow)
        else:
            export(options.results, options.to, output, not options.without_texts)

    command.run(work)


def export(arguments: Sequence[str], form: str, output: Path, texts: bool) -> None:
    """Write the runs and print what a reader has to know. Raises UserError, for a damaged file too:
    an export that lacks a part of a run would look like a whole one."""
    runs = read_all(arguments)
    for run in runs:
        for damaged in run.damaged:
            raise UserError(f"{damaged}: move it away to export the rest of the run.")
    command.print_notes(runs)
    # Each format needs other packages, which its environment may be alone to have.
    with make_folder(output) as folder:
        if form == "parquet":
            from kflow.analysis.export import tabular

            rollouts = tabular.write_parquet(runs, folder, texts)
        elif form == "inspect":
            from kflow.analysis.export import inspect_log

            rollouts = inspect_log.write_logs(runs, folder)
        else:
            from kflow.analysis.export import traces

            rollouts = traces.write_traces(runs, folder)
    what = f"{counted(rollouts, 'rollout')} of {counted(len(runs), 'run')}"
    print(printable(f"Exported {what}: {output.resolve()}"))
