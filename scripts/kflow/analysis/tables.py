"""The comparison for people: tables for a terminal. Text from files is never read as markup."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kflow.analysis.chains import find_outcome
from kflow.analysis.comparison import Comparison, Coverage, Versus
from kflow.analysis.equal_budgets import spell
from kflow.analysis.run_statistics import AtStep, RunStatistics, Seeds, Share, Votes
from kflow.ground.price import money
from kflow.ground.terminal import printable
from kflow.results.rollout import Rollout
from kflow.results.runs import ListSize, SavedRun

# Characters that a run's column and the one before them take, and the blanks after each.
COLUMN, LABEL, BLANKS = 18, 30, 2
WIDE = 110  # columns that the comparison takes with two blanks between its own
UNREAD = (
    "Some replies have a box in which the run's rule finds no answer: --regrade says whether "
    "that would change an accuracy."
)
FOOTNOTE = (
    "answer: the step's own prediction, or the verdict where that is a vote. Holm: p adjusted "
    "for the number of runs; the verdicts follow it, the intervals are not adjusted. detectable: "
    "the smallest gain, in points, detected four times in five, with as many losses as here, at "
    "the level that Holm asks of the first run; -: no gain would be, or the differences are too "
    "few or too alike to tell."
)


def text(value: object, style: str = "") -> Text:
    return Text(printable(str(value)), style)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def interval(low: float | None, high: float | None, sign: bool = False) -> str:
    """`[30.1, 55.0]`, percent; an end that the data cannot give is a question mark."""
    form = "{:+.1f}" if sign else "{:.1f}"
    ends = ("?" if end is None else form.format(100 * end) for end in (low, high))
    return f"[{', '.join(ends)}]"


def show(console: Console, compared: Comparison, every: int | None) -> None:
    """All tables; side by side as many runs as the terminal is wide for."""
    runs = compared.runs
    at_once = max(1, (console.width - LABEL) // (COLUMN + BLANKS))
    parts = [slice(start, start + at_once) for start in range(0, len(runs), at_once)]
    widest = (console.width - LABEL) // min(at_once, len(runs)) - BLANKS
    for part in parts:
        for table in steps(runs[part], every, widest):
            console.print(table, "")
        console.print(numbers(runs[part], widest), "")
        for run in runs[part]:
            if run.known_score is not None:
                console.print(text(f"{run.name}: {run.known_score.sentence}."), "")
    if any(run.rates.unreadable_box for run in runs):
        console.print(text(UNREAD, "dim"), "")
    for against in compared.against:
        console.print(differences(against, console.width), "")
        console.print(costs(against), "")
        for versus in against:
            console.print(notes(versus))
        console.print()
    if compared.against:
        console.print(text(FOOTNOTE, "dim"))
    if compared.pass_at_k and compared.against:
        console.print("", pass_at_k(compared.pass_at_k, compared.against[0], widest))
    for part in parts if compared.settings else []:
        rows = [[key, *values[part]] for key, values in compared.settings.items()]
        head = ["", *(run.name for run in runs[part])]
        console.print("", plain("Settings that differ", head, rows, widest))


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


def steps(runs: Sequence[RunStatistics], every: int | None, widest: int) -> list[Table]:
    """A table for each figure that goes by step: at the first, every n-th and the last one. One
    that no run has a value for is left out."""
    numbers = sorted({step.step for run in runs for step in run.by_step})
    by_step = [{step.step: step for step in run.by_step} for run in runs]
    tables: list[tuple[str, Callable[[AtStep], Sequence[str]]]] = [
        ("Accuracy by step, 95 % interval", lambda s: shares(s.own)),
        ("Rolling majority by step, 95 % interval", lambda s: shares(s.rolling_majority)),
        ("Accuracy of a step's single rollouts", lambda s: if_known(s.slots, percent)),
        ("Ever correct (an oracle)", lambda s: if_known(s.ever_correct, percent)),
        ("Rollouts, tokens, sequential tokens per problem", spent),
        ("Knowledge list, share of the window", lambda s: if_known(s.list_share, percent)),
        ("Cost per problem", lambda s: if_known(s.cost, money)),
    ]
    drawn = []
    for title, cells in tables:
        rows: list[list[object]] = []
        values = [{number: cells(step) for number, step in at.items()} for at in by_step]
        known_at = [number for number in numbers if any(at.get(number) for at in values)]
        for number in chosen(known_at, every):
            columns = [at.get(number, ()) for at in values]
            for line in range(max(map(len, columns))):
                label = f"step {number}" if line == 0 else ""
                style = "dim" if line else ""
                texts = [column[line] if line < len(column) else "" for column in columns]
                texts = [each or ("-" if line == 0 else "") for each in texts]
                rows.append([label, *(text(each, style) for each in texts)])
        if rows:
            drawn.append(plain(title, ["", *(run.name for run in runs)], rows, widest))
    return drawn


def best(run: RunStatistics) -> str:
    own = None if run.best is None else run.best.own
    return "-" if own is None or run.best is None else f"{percent(own.accuracy)} at {run.best.step}"


def shares(share: Share | None) -> Sequence[str]:
    if share is None:
        return ()
    return (
        f"{share.right:.4g}/{share.total} {percent(share.accuracy)}",
        interval(share.low, share.high),
    )


def if_known(value: float | None, form: Callable[[float], str]) -> Sequence[str]:
    return () if value is None else (form(value),)


def spent(step: AtStep) -> Sequence[str]:
    counts = [count(value) for value in (step.rollouts, step.tokens, step.sequential_tokens)]
    return (", ".join(counts),)


def chosen(steps: Sequence[int], every: int | None) -> list[int]:
    """The first, every n-th and the last step; by itself, about eight of them."""
    apart = every or max(1, -(-len(steps) // 8))
    return [step for n, step in enumerate(steps) if n % apart == 0 or step == steps[-1]]


def count(value: float | None) -> str:
    """`64`, `12.5`, `3,456`, `120k`, `4.07M`"""
    if value is None:
        return "-"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    if value >= 1e4:
        return f"{value / 1e3:.0f}k"
    return f"{value:,.1f}" if value % 1 and value < 100 else f"{value:,.0f}"


def whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def numbers(runs: Sequence[RunStatistics], widest: int) -> Table:
    """One row per figure, one column per run."""

    def row(label: str, show: Callable[[RunStatistics], str]) -> list[object]:
        return [label, *map(show, runs)]

    def vote(value: Votes) -> str:
        ties = f", {value.ties} tied" if value.ties else ""
        return f"{value.right:.4g}/{value.total}{ties}"

    def windows(run: RunStatistics) -> str:
        filled = run.tokens_in_windows
        return "-" if filled is None else f"{filled:.2f}x"

    def turns(run: RunStatistics) -> str:
        lost = run.right_to_wrong
        return "-" if lost is None else f"{lost}, {run.wrong_to_right}"

    def known(run: RunStatistics) -> str:
        score = run.known_score
        if score is None:
            return "-"
        return f"{percent(score.known)}, {'inside' if score.inside else 'outside'}"

    def cut_prompts(run: RunStatistics) -> str:
        cut = run.left_out
        return "-" if cut is None else f"{cut.incomplete}/{cut.prompts} {percent(cut.share)}"

    def entries(run: RunStatistics) -> str:
        held = run.left_out and run.left_out.entries_held
        return f"{run.left_out.entries_shown}, {held}" if run.left_out and held else "-"

    rows = [
        row("steps, problems, seeds", lambda f: f"{len(f.by_step)}, {f.problems}, {f.seeds}"),
        row("prompts", lambda f: f.wording or "-"),
        row("best step (post hoc)", best),
        row("majority over steps", lambda f: vote(f.majority_over_steps)),
        row("right to wrong, wrong to right", turns),
        row("rollouts", lambda f: count(f.rollouts)),
        row("reply tokens per rollout", lambda f: whole(f.reply_tokens_per_rollout)),
        row("reply tokens", lambda f: whole(f.reply_tokens)),
        row("a chain's replies / window", windows),
        row("list entries", lambda f: count(f.list_entries)),
        row("list characters", lambda f: count(f.list_characters)),
        row("later prompts cut", cut_prompts),
        row("list entries shown, held", entries),
        row("no answer", lambda f: percent(f.rates.no_answer)),
        row("of these, with a box", lambda f: percent(f.rates.unreadable_box)),
        row("truncated", lambda f: percent(f.rates.truncated)),
        row("missing sections", lambda f: percent(f.rates.missing_sections)),
        row("failed", lambda f: percent(f.rates.failed)),
        row("empty replies", lambda f: percent(f.rates.empty)),
        row("early-stopped records", lambda f: count(f.early_stopped)),
    ]
    if any(run.known_score is not None for run in runs):
        rows.append(row("known score, single attempts", known))
    if any(run.cost is not None for run in runs):
        rows.append(row("cost", lambda f: "-" if f.cost is None else money(f.cost)))
    if any(run.several_seeds for run in runs):
        rows += over_seeds(runs, vote)
    title = "Over the run, lists at its last step"
    return plain(title, ["", *(run.name for run in runs)], rows, widest)


def over_seeds(runs: Sequence[RunStatistics], vote: Callable[[Votes], str]) -> list[list[object]]:
    several = [run.several_seeds for run in runs]
    last = [run.by_step[-1].own for run in runs]
    sizes = sorted({k for seeds in several if seeds for k in seeds.pass_at})

    def row(label: str, show: Callable[[Seeds], str]) -> list[object]:
        return [label, *(show(seeds) if seeds else "-" for seeds in several)]

    return [
        [
            "standard error over problems",
            *(percent(share.standard_error if share else None) for share in last),
        ],
        row("avg@K", lambda s: f"{percent(s.average)}, K={s.k}"),
        row("maj@K", lambda s: vote(s.majority)),
        *(row(f"pass@{k}", lambda s, k=k: percent(s.pass_at.get(k))) for k in sizes),  # type: ignore[misc]
    ]


def differences(against: Sequence[Versus], width: int) -> Table:
    """Both measures of every run against the baseline, below its name. width: the terminal's."""
    head = ["", "baseline", "run", "difference", "95 % interval", "p", "Holm", "detectable"]
    rows = [
        [
            Text.assemble((f"{printable(versus.run)}\n" if number == 0 else "", "bold"), d.measure),
            percent(d.baseline),
            percent(d.run),
            f"{100 * d.difference:+.1f}",
            interval(d.low, d.high, sign=True),
            f"{d.p:.2g}",
            f"{d.p_holm:.2g}",
            "-" if d.detectable is None else f"+{math.ceil(100 * d.detectable)}",
        ]
        for versus in against
        for number, d in enumerate(versus.differences)
    ]
    table = plain(f"Against {against[0].baseline}{equal(against[0])}", head, rows)
    for column in table.columns[1:]:
        column.vertical, column.no_wrap = "bottom", True
    table.collapse_padding = width < WIDE
    return table


def equal(versus: Versus) -> str:
    """Which budget is equal, or the step where none is."""
    if versus.budget.rollouts is not None:
        return f", within {versus.budget.rollouts:,} rollouts per problem"
    if versus.budget.tokens is not None:
        return f", within {versus.budget.tokens:,} tokens per problem"
    return f", at step {versus.at.step}"


def costs(against: Sequence[Versus]) -> Table:
    """What each run took per problem, and how far the baseline's budget is apart."""
    priced = any(v.at.cost is not None or v.baseline_at.cost is not None for v in against)
    rows = [
        [
            versus.run,
            apart(versus.at.step, versus.baseline_at.step, ratio=False),
            apart(versus.at.rollouts, versus.baseline_at.rollouts),
            apart(versus.at.tokens, versus.baseline_at.tokens),
            apart(versus.at.sequential_tokens, versus.baseline_at.sequential_tokens),
            *([apart(versus.at.cost, versus.baseline_at.cost, form=money)] if priced else []),
        ]
        for versus in against
    ]
    head = ["", "step", "rollouts", "tokens", "sequential tokens", *(["cost"] if priced else [])]
    return plain(f"Per problem, to {against[0].baseline}'s", head, rows)


def apart(
    run: float | None,
    baseline: float | None,
    ratio: bool = True,
    form: Callable[[float], str] = count,
) -> str:
    if run is None or baseline is None:
        return "not on record"
    if run == baseline:
        return f"{form(run)} each"
    times = f" ({run / baseline:.2f}x)" if ratio and baseline else ""
    return f"{form(run)} to {form(baseline)}{times}"


def notes(versus: Versus) -> Text:
    """The verdicts, and the problems whose answers moved, by id."""
    answer, majority = (
        f"{versus.run}, {d.measure}: {d.verdict} ({d.test})." for d in versus.differences
    )
    lines = [answer]
    for better, label in ((True, "better"), (False, "worse")):
        moved = [flip for flip in versus.flipped if flip.better is better]
        if moved:
            each = ", ".join(f"{f.problem} ({f.baseline} to {f.run})" for f in moved)
            lines.append(f"  {label}: {each}")
    if versus.breakthroughs:
        problems = ", ".join(versus.breakthroughs)
        lines.append(
            f"  breakthroughs, right here and in no rollout of {versus.baseline}: {problems}"
        )
    return Text("\n".join(map(printable, [*lines, majority])))


def pass_at_k(coverage: Sequence[Coverage], against: Sequence[Versus], widest: int) -> Table:
    rows = [
        [f"k = {each.k}", percent(each.sampling), *map(percent, each.ever_correct)]
        for each in coverage
    ]
    head = ["", f"{against[0].baseline}, pass@k", *(versus.run for versus in against)]
    return plain("pass@k of the parallel rollouts, and ever correct within k", head, rows, widest)


def one_problem(runs: Sequence[SavedRun], problem: str) -> Table:
    """One problem's answers across runs, step by step, the seeds of a run after one another."""
    place = runs[0].problems.index(problem)
    steps = sorted(set().union(*(run.steps for run in runs)))
    rows = [[f"step {step}", *(answers(run, step, place) for run in runs)] for step in steps]
    title = f"Problem {problem}, the right answer is {runs[0].golds[place]}"
    return plain(title, ["", *(run.name for run in runs)], rows)


def answers(run: SavedRun, step: int, place: int) -> Text:
    if step not in run.steps:
        return text(f"not among its {spell(run.steps)}", "dim")
    at = [(run.rollouts[seed, step][place], run.lists[seed, step][place]) for seed in run.seeds]
    style = "green" if all(record.correct for record, _ in at) else ""
    return text("; ".join(answer(record, size) for record, size in at), style)


def answer(record: Rollout, size: ListSize) -> str:
    """`204 right, list of 3`"""
    predicted = "" if record.predicted is None else f"{short(str(record.predicted))} "
    mark = find_outcome(record)
    also = [
        word
        for word, holds in (
            ("truncated", record.finish_reason == "length" and mark != "truncated"),
            ("early-stopped", record.repeats_step is not None),
            ("at its token budget", record.over_budget),
            ("not counted", not record.counted),
            (f"list of {size.entries}", size.entries > 0),
        )
        if holds
    ]
    return ", ".join([predicted + mark, *also])


def short(answer: str) -> str:
    """An answer as a table has room for it: a looping model can write thousands of digits."""
    return answer if len(answer) <= 20 else f"{answer[:8]}... ({len(answer)} characters)"


def console() -> Console:
    """Standard output; where it is no terminal, wide enough for four runs."""
    wide = Console(highlight=False, markup=False, emoji=False)
    if wide.is_terminal or "COLUMNS" in os.environ:
        return wide
    return Console(highlight=False, markup=False, emoji=False, width=LABEL + 4 * (COLUMN + BLANKS))
