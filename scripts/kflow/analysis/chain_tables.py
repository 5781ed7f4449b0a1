"""What happens inside the chains, for a terminal: what their prompts lacked, whether what they
carry helps, and where stopping rules would have ended them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kflow.analysis.carried import Carried, Contrast
from kflow.analysis.run_statistics import RunStatistics
from kflow.analysis.stopping import Cut, EarlyStop
from kflow.analysis.tables import count, interval, percent, plain, text
from kflow.ground.terminal import printable

MANY = 0.1  # of later prompts: a run above it has tried its method with part of it hidden
CARRIED = (
    "The share of a chain's answers that are right after a wrong, a right or any answer of it, "
    "less the share of {parallel}'s attempts at the same problems, problem by problem. Above 0 "
    "what is carried helps, below 0 it drags. broken: wrong after a right one. stationary: the "
    "accuracy at which as many answers are repaired as are broken."
)


def warn(console: Console, runs: Sequence[RunStatistics]) -> None:
    """Which runs have tried their method with part of it hidden."""
    for run in runs:
        cut = run.left_out
        if cut is None or cut.share <= MANY:
            continue
        entries = ""
        if cut.entries_held:
            entries = f"; {cut.entries_shown} of {cut.entries_held} list entries were shown"
        console.print(
            text(
                f"{run.name}: {cut.incomplete} of {cut.prompts} prompts after step 0 lacked list "
                f"entries or parts of what they carry, for lack of room{entries}."
            )
        )


def show(console: Console, carried: Sequence[Carried], stopped: Sequence[EarlyStop]) -> None:
    """Nothing where there is nothing of either."""
    if carried:
        rows = [row for each in carried for row in list_contrasts(each)]
        head = ["", "answers", "right", "parallel", "difference", "95 % interval"]
        console.print("", plain("What is carried", head, rows), "")
        console.print(text(CARRIED.format(parallel=carried[0].parallel), "dim"))
    if stopped:
        console.print("", tabulate_stops(stopped))


def list_contrasts(carried: Carried) -> list[list[object]]:
    """The rows of one run."""
    rows: list[list[object]] = [[text(carried.run, "bold"), "", "", "", "", ""]]
    contrasts = (
        ("repaired", carried.repaired),
        ("kept", carried.kept),
        ("net", carried.net),
    )
    rows += [[name, *spell_out(contrast)] for name, contrast in contrasts]
    broken = None if carried.kept is None else 1 - carried.kept.share
    rows.append(["broken", "", percent(broken), "", "", ""])
    rows.append(["stationary accuracy", "", percent(carried.stationary), "", "", ""])
    return rows


def spell_out(contrast: Contrast | None) -> list[str]:
    if contrast is None:
        return ["0", "-", "-", "-", "-"]
    return [
        f"{contrast.answers:,}",
        percent(contrast.share),
        percent(contrast.alone),
        f"{100 * contrast.difference:+.1f}",
        interval(contrast.low, contrast.high, sign=True),
    ]


def tabulate_stops(stopped: Sequence[EarlyStop]) -> Table:
    head = ["", "stopped", "rolling majority", "last answer", "rollouts", "tokens"]
    rows: list[list[object]] = []
    for each in stopped:
        cells = [
            f"{each.stopped_early}/{each.chains}",
            against_whole(each.rolling_majority),
            against_whole(each.last_answer),
            f"{count(each.rollouts)} of {count(each.whole_rollouts)}",
            f"{count(each.tokens)} of {count(each.whole_tokens)}",
        ]
        rows.append([Text(f"{printable(each.run)}\n{printable(each.rule)}"), *cells])
    title = "Stopping rules, replayed: against the whole run, per problem"
    return plain(title, head, rows)


def against_whole(cut: Cut) -> Text:
    """`45.8 %`, and below it `-4.2 [-12.0, +3.1]`."""
    ends = interval(cut.low, cut.high, sign=True)
    return Text(f"{percent(cut.stopped)}\n{100 * cut.difference:+.1f} {ends}")
