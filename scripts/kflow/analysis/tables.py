"""The comparison for people: tables for a terminal. All text from files is shown, never obeyed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..terminal import printable
from .comparison import spelt
from .runs import Rollout, Run

# Characters that a run's column and the one before them take, and the blanks after each.
COLUMN, LABEL, BLANKS = 18, 30, 2


def text(value: object, style: str = "") -> Text:
    return Text(printable(str(value)), style)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def interval(value: dict[str, Any], sign: bool = False) -> str:
    """`[30.1, 55.0]`, percent; an end that the data cannot give is a question mark."""
    form = "{:+.1f}" if sign else "{:.1f}"
    low, high = (
        "?" if end is None else form.format(100 * end) for end in (value["low"], value["high"])
    )
    return f"[{low}, {high}]"


def show(
    console: Console,
    runs: Sequence[Run],
    described: Sequence[dict[str, Any]],
    against: Sequence[dict[str, Any]],
    settings: dict[str, list[str]],
    every: int | None,
) -> None:
    """All tables; side by side as many runs as the terminal is wide for."""
    at_once = max(1, (console.width - LABEL) // (COLUMN + BLANKS))
    parts = [slice(start, start + at_once) for start in range(0, len(runs), at_once)]
    widest = (console.width - LABEL) // min(at_once, len(runs)) - BLANKS
    for part in parts:
        console.print(accuracies(runs[part], described[part], every, widest), "")
        console.print(numbers(described[part], widest), "")
    if against:
        console.print(differences(against), "")
        for each in against:
            console.print(flips(each))
        if len(against) > 1:
            console.print(Text(f"p is not adjusted for {len(against)} comparisons.", "dim"))
    for part in parts if settings else []:
        rows = [[key, *values[part]] for key, values in settings.items()]
        console.print("", plain("Settings that differ", ["", *names(runs[part])], rows, widest))


def names(runs: Sequence[Run]) -> list[str]:
    return [run.name for run in runs]


def plain(
    title: str,
    head: Sequence[object],
    rows: Sequence[Sequence[object]],
    widest: int | None = None,
) -> Table:
    table = Table(title=text(title, "bold"), title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(head):
        side: Literal["left", "right"] = "left" if number == 0 else "right"
        width = LABEL if number == 0 else widest
        table.add_column(text(column), justify=side, overflow="fold", max_width=width)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    return table


def accuracies(
    runs: Sequence[Run], described: Sequence[dict[str, Any]], every: int | None, widest: int
) -> Table:
    """Right of total at the first, every n-th and the last step, with 95 % intervals."""
    steps = chosen(sorted(set().union(*(run.steps for run in runs))), every)
    by_step = [{value["step"]: value for value in each["accuracy"]} for each in described]
    rows: list[list[object]] = []
    for step in steps:
        cells = [values.get(step) for values in by_step]
        rows.append(
            [
                f"step {step}",
                *(
                    f"{v['right']}/{v['total']} {percent(v['accuracy'])}" if v else "-"
                    for v in cells
                ),
            ]
        )
        rows.append(["", *(text(interval(v), "dim") if v else "" for v in cells)])
    return plain("Accuracy by step, 95 % interval", ["", *names(runs)], rows, widest)


def chosen(steps: Sequence[int], every: int | None) -> list[int]:
    """The first, every n-th and the last step; by itself, about eight of them."""
    apart = every or max(1, -(-len(steps) // 8))
    return [s for s in steps if (s - steps[0]) % apart == 0 or s == steps[-1]]


def numbers(described: Sequence[dict[str, Any]], widest: int) -> Table:
    """One row per figure, one column per run; a row that no run has a value for is left out."""

    def row(label: str, show: Callable[[dict[str, Any]], str]) -> list[object]:
        return [label, *map(show, described)]

    def count(value: float | None, form: str = "{:,.0f}") -> str:
        return "-" if value is None else form.format(value)

    def vote(value: dict[str, Any]) -> str:
        ties = f", {value['ties']} tied" if value["ties"] else ""
        return f"{value['right']:.4g}/{value['total']}{ties}"

    rows = [
        row("steps, problems, seeds", lambda d: f"{d['steps']}, {d['problems']}, {d['seeds']}"),
        row(
            "best step (picked afterwards)",
            lambda d: f"{percent(d['best']['accuracy'])} at {d['best']['step']}",
        ),
        row("majority over steps", lambda d: vote(d["majority_over_steps"])),
        row("ever correct (an oracle)", lambda d: percent(d["ever_correct"])),
        row(
            "right to wrong, wrong to right",
            lambda d: f"{d['right_to_wrong']}, {d['wrong_to_right']}",
        ),
        row("reply tokens per rollout", lambda d: count(d["completion_tokens_per_rollout"])),
        row("reply tokens", lambda d: count(d["completion_tokens"])),
        row("a chain's tokens / window", lambda d: count(d["chain_tokens_to_window"], "{:.2f}x")),
        row("list entries, last step", lambda d: count(d["knowledge_entries"], "{:.1f}")),
        row("list characters, last step", lambda d: count(d["knowledge_characters"])),
        row("no answer", lambda d: percent(d["rates"]["no_answer"])),
        row("cut off", lambda d: percent(d["rates"]["cut_off"])),
        row("unparsed", lambda d: percent(d["rates"]["unparsed"])),
        row("failed", lambda d: percent(d["rates"]["failed"])),
    ]
    several = [d["several_seeds"] for d in described]
    if any(several):

        def seeds(label: str, show: Callable[[dict[str, Any]], str]) -> list[object]:
            return [label, *(show(each) if each else "-" for each in several)]

        last = [d["accuracy"][-1] for d in described]
        errors = [percent(v.get("standard_error")) for v in last]
        rows += [
            ["standard error over problems", *errors],
            seeds("avg@K", lambda s: f"{percent(s['average'])}, K={s['k']}"),
            seeds("maj@K", lambda s: vote(s["majority"])),
            *(
                seeds(f"pass@{k}", lambda s, k=k: percent(s["pass"].get(k)))  # type: ignore[misc]
                for k in sorted({k for s in several if s for k in s["pass"]}, key=int)
            ),
        ]
    title = "Over the run, votes and lists at its last step"
    return plain(title, ["", *(d["name"] for d in described)], rows, widest)


def differences(against: Sequence[dict[str, Any]]) -> Table:
    head = ["", "step", "difference", "95 % interval", "p", "test"]
    rows = [
        [
            each["run"],
            each["step"],
            f"{100 * each['difference']:+.1f}",
            interval(each, sign=True),
            f"{each['p']:.3g}",
            each["test"],
        ]
        for each in against
    ]
    return plain(f"Against {against[0]['baseline']}, in points of accuracy", head, rows)


def flips(each: dict[str, Any]) -> Text:
    """The verdict and the problems that moved, by id."""
    lines = [f"{each['run']}: {each['verdict']}."]
    for better, label in ((True, "better"), (False, "worse")):
        moved = [f for f in each["flipped"] if f["better"] is better]
        if moved:
            told = ", ".join(f"{f['problem']} ({f['baseline']} to {f['run']})" for f in moved)
            lines.append(f"  {label}: {told}")
    return Text("\n".join(map(printable, lines)))


def one_problem(runs: Sequence[Run], problem: str) -> Table:
    """One problem's answers across runs, step by step, the seeds of a run after one another."""
    place = runs[0].problems.index(problem)
    steps = sorted(set().union(*(run.steps for run in runs)))
    rows = [[f"step {step}", *(answers(run, step, place) for run in runs)] for step in steps]
    title = f"Problem {problem}, the right answer is {runs[0].golds[place]}"
    return plain(title, ["", *names(runs)], rows)


def answers(run: Run, step: int, place: int) -> Text:
    if step not in run.steps:
        return text(f"not among its {spelt(run.steps)}", "dim")
    rollouts = [run.rollouts[seed, step][place] for seed in run.seeds]
    style = "green" if all(rollout.correct for rollout in rollouts) else ""
    return text("; ".join(map(answer, rollouts)), style)


def answer(rollout: Rollout) -> str:
    """`204 right, list of 3`"""
    said = "" if rollout.predicted is None else f"{short(str(rollout.predicted))} "
    also = [
        word
        for word, holds in (
            ("cut off", rollout.cut_off and rollout.outcome != "cut off"),
            ("carried over", rollout.carried),
            (f"list of {rollout.entries}", rollout.entries is not None),
        )
        if holds
    ]
    return ", ".join([said + rollout.outcome, *also])


def short(number: str) -> str:
    """An integer as a table has room for it: a looping model can write thousands of digits."""
    return number if len(number) <= 20 else f"{number[:8]}... ({len(number)} digits)"


def console() -> Console:
    """Standard output; where it is no terminal, wide enough for four runs."""
    wide = Console(highlight=False, markup=False, emoji=False)
    if wide.is_terminal or "COLUMNS" in os.environ:
        return wide
    return Console(highlight=False, markup=False, emoji=False, width=LABEL + 4 * (COLUMN + BLANKS))
