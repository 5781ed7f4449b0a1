"""What compare_results.py prints: the answer in words with the figures that it rests on, and below
it what is asked for: every step and figure, the settings that differ, where stopping rules would
have ended the chains, and one problem across the runs. Text from files is never read as markup."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kflow.analysis.align import spell
from kflow.analysis.carried import Carried, Contrast
from kflow.analysis.chains import find_outcome
from kflow.analysis.comparison import Comparison, Difference, Versus
from kflow.analysis.conclusion import (
    UNKNOWN,
    count,
    interval,
    label_by_name,
    number,
    p_value,
    percent,
    points,
    spell_budget,
    sum_up,
)
from kflow.analysis.run_statistics import AtStep, RunStatistics, Share
from kflow.analysis.stopping import EarlyStop
from kflow.ground.price import money
from kflow.ground.terminal import counted, printable
from kflow.results.records import ListSize
from kflow.results.rollout import Rollout
from kflow.results.runs import SavedRun

Column = tuple[str, Callable[[Any], str]]
HEAD = ("", "", "right", "%", "[95 %]", "points", "[95 %]", "p")
STAR = "*: the interval (for one comparison) and p (adjusted for {runs}) disagree."
UNREAD = (
    "Some replies have a box in which the run's rule finds no answer: --regrade says whether "
    "that would change an accuracy."
)
FOOTNOTE = (
    "answer: the step's own prediction, or the verdict where that is a vote. p: McNemar's exact "
    "test, or a permutation test where problems count in part; p is adjusted for the number of "
    "runs (Holm), the intervals are not (*: the two disagree). shown: the smallest difference that "
    "would be detected four times in five if as many problems turned the other way as here."
)
CARRIED_NOTE = (
    "A chain's answers that are right after a wrong one (repaired), after a right one (kept; the "
    "rest are broken) or after either (net); alone: parallel thinking's at the same problems. "
    "Accuracy at which as many answers are repaired as broken: {stationary}."
)


def console() -> Console:
    """Standard output; 80 columns wide where nothing says how wide it is."""
    return Console(highlight=False, markup=False, emoji=False)


def text(value: object, style: str = "") -> Text:
    return Text(printable(str(value)), style)


def plain(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    left: int = 1,
    widths: Sequence[int] = (),
    header: bool = True,
) -> Table:
    """left: how many of the first columns hold words. widths: at least so wide each. Its columns
    stand two blanks apart, or one where two do not fit the terminal; where that does not either,
    cells are folded."""
    cells = [[cell if isinstance(cell, Text) else text(cell) for cell in row] for row in rows]
    widths = widths or measure([head, *([cell.plain for cell in row] for row in cells)])
    gaps, room = len(head) - 1, console().width - sum(widths)
    table = Table(
        title=text(title, "bold") if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2 if 2 * gaps <= room else 1, 0, 0),
        show_header=header,
    )
    for place, name in enumerate(head):
        table.add_column(
            Text(name, "dim"),  # a head may have lines
            justify="left" if place < left else "right",
            overflow="fold",
            vertical="bottom",
            min_width=widths[place] if gaps <= room else None,
        )
    for row in cells:
        table.add_row(*row)
    return table


def measure(rows: Sequence[Sequence[str]]) -> list[int]:
    """How many characters each column takes."""
    return [
        max(len(line) for cell in column for line in cell.split("\n"))
        for column in zip(*rows, strict=True)
    ]


def grid(
    title: str, items: Sequence[tuple[str, Any]], columns: Sequence[Column], left: int = 1
) -> Table:
    """A row for each item below its name, and a column for each figure that any of them has."""
    rows = [[name, *(show(item) for _, show in columns)] for name, item in items]
    kept = [0] + [
        place
        for place in range(1, len(columns) + 1)
        if any(row[place] not in ("", UNKNOWN) for row in rows)
    ]
    heads = ["", *(name for name, _ in columns)]
    return plain(
        title, [heads[place] for place in kept], [[row[n] for n in kept] for row in rows], left
    )


class Standing(NamedTuple):
    """A run at the step at which it is compared. The baseline has no differences."""

    run: RunStatistics
    at: AtStep
    carried: Carried | None
    differences: tuple[Difference, ...] = ()


def show_answer(console: Console, compared: Comparison, common: Sequence[str]) -> None:
    """common: what the runs have in common, for the first line."""
    budgets = [stand(compared, against) for against in compared.against or ((),)]
    console.print(text(", ".join(common), "bold"))
    for paragraph in sum_up(compared.runs, compared):
        console.print(text(paragraph))
    console.print()
    parts = [list(list_rows(budgets[0]))]
    parts += [list(list_short_rows(each, budgets[0][0])) for each in budgets[1:]]
    show_standings(console, compared, parts)
    console.print()
    console.print(grid("", [(each.run.label, each) for each in budgets[0]], OVER_RUN))
    if any("*" in row[-1] for part in parts for row in part):
        among = counted(len(compared.runs) - 1, "run")
        console.print(text(STAR.format(runs=among), "dim"))
    console.print(text(list_hints(compared), "dim"))


def stand(compared: Comparison, against: Sequence[Versus]) -> list[Standing]:
    first, *others = compared.runs
    of = {carried.run: carried for carried in compared.carried}
    at = against[0].baseline_at if against else first.by_step[-1]
    return [Standing(first, at, of.get(first.name))] + [
        Standing(run, versus.at, of.get(run.name), versus.differences)
        for run, versus in zip(others, against, strict=True)
    ]


def show_standings(
    console: Console, compared: Comparison, parts: Sequence[Sequence[Sequence[str]]]
) -> None:
    """Every run at the first budget, and below it, in the same columns, at the others."""
    head = HEAD if compared.against else HEAD[:5]
    parts = [[row[: len(head)] for row in part] for part in parts]
    widths = measure([head, *(row for part in parts for row in part)])
    for place, part in enumerate(parts):
        if place:
            budget = spell_budget(compared.against[place])
            console.print(text(f"Each at its step nearest to {budget}:", "dim"))
        console.print(plain("", head, part, left=2, widths=widths, header=place == 0))


def list_rows(standings: Sequence[Standing]) -> Iterator[list[str]]:
    """Of each run what its chains answer, and the majority of all answers where that is not it."""
    for run, at, _, differences in standings:
        majority = f"majority of {count(at.rollouts)}" if run.ahead else "majority so far"
        name = majority if run.ahead else name_answer(at)
        compared = list(map(spell_difference, differences)) or [["", "(baseline)", ""], [""] * 3]
        yield [run.label, name, *spell_share(at.answer), *compared[0]]
        if not run.ahead and at.rollouts > 1 and at.rolling_majority:
            yield ["", majority, *spell_share(at.rolling_majority), *compared[1]]


def list_short_rows(standings: Sequence[Standing], before: Standing) -> Iterator[list[str]]:
    """Of each run what its chains answer; of the baseline only where it is another than before."""
    for run, at, _, differences in standings:
        if differences or at != before.at:
            compared = spell_difference(differences[0]) if differences else [""] * 3
            rollouts = f"of {count(at.rollouts)} rollout{'' if at.rollouts == 1 else 's'}"
            yield [run.label, rollouts, *spell_share(at.answer), *compared]


def name_answer(at: AtStep) -> str:
    return "last answer" if at.own is not None and at.slots is None else "verdict"


def spell_share(share: Share) -> list[str]:
    ends = interval(share.low, share.high, ".0f")
    return [f"{share.right:.4g}/{share.total}", number(share.accuracy), ends]


def spell_difference(difference: Difference) -> list[str]:
    """A star marks a test that disagrees with the interval beside it."""
    p = f"{p_value(difference.p_holm)}{'*' if difference.disagrees else ' '}"
    return [points(difference.difference), interval(difference.low, difference.high), p]


def spell_contrast(contrast: Contrast | None) -> str:
    if contrast is None:
        return UNKNOWN
    return f"{points(contrast.difference)} {interval(contrast.low, contrast.high)}"


def find_first(run: RunStatistics) -> float | None:
    """The accuracy of its first step that asks for an answer."""
    return next((step.own.accuracy for step in run.by_step if step.own), None)


def spell_carried(carried: Carried | None) -> str:
    """`drags -19.6 [-37.5, -7.4]`"""
    return f"{carried.effect} {spell_contrast(carried.net)}" if carried and carried.net else ""


OVER_RUN: tuple[Column, ...] = (
    ("first\nstep", lambda s: number(find_first(s.run))),
    ("ever\nright", lambda s: number(s.at.ever_correct)),
    ("tokens", lambda s: count(s.at.tokens)),
    ("in se-\nquence", lambda s: count(s.at.sequential_tokens)),
    ("no\nanswer", lambda s: number(s.run.rates.no_answer)),
    ("trun-\ncated", lambda s: number(s.run.rates.truncated)),
    ("what is carried:\nnet points [95 %]", lambda s: spell_carried(s.carried)),
)


def list_hints(compared: Comparison) -> str:
    """Where to look further."""
    moved = [flip.problem for at in compared.against for versus in at for flip in versus.flipped]
    hints = [f"--problem {shlex.quote(moved[0])}: how"] if moved else []
    hints += ["--details: every table"]
    hints += [f"--settings: {len(compared.settings)} that differ"] if compared.settings else []
    return "; ".join(hints)


def show_details(console: Console, compared: Comparison) -> None:
    for part in list_parts(compared):
        console.print()
        console.print(text(part) if isinstance(part, str) else part)


def list_parts(compared: Comparison) -> Iterator[Table | str]:
    runs, labels = compared.runs, label_by_name(compared.runs)
    items = [(run.label, run) for run in runs]
    if named := [f"{run.name} ({run.label})" for run in runs if run.label != run.name]:
        yield f"Results: {', '.join(named)}."
    for run in runs:
        steps = [(str(step.step), step) for step in run.by_step]
        yield grid(f"{run.label} by step, %, and per problem", steps, BY_STEP)
    yield grid("Replies, %", items, REPLIES)
    if any(run.rates.unreadable_box for run in runs):
        yield UNREAD
    yield grid("Chains, lists at their last step", items, CHAINS)
    sizes = sorted({k for run in runs if run.several_seeds for k in run.several_seeds.pass_at})
    if sizes:
        several = [(run.label, run) for run in runs if run.several_seeds]
        yield grid("Over seeds, %", several, [*OVER_SEEDS, *map(show_pass_at, sizes)])
    for against in compared.against:
        base = labels[against[0].baseline]
        rows = [(labels[v.run], d) for v in against for d in v.differences]
        title = f"Against {base}, at {spell_budget(against)}"
        yield grid(title, rows, DIFFERENCE, left=2)
        yield from list_notes(against, labels)
    if compared.against:
        yield FOOTNOTE
    if compared.carried:
        carried = [
            (labels[each.run], row)
            for each in compared.carried
            for row in (("repaired", each.repaired), ("kept", each.kept), ("net", each.net))
        ]
        yield grid("What is carried", carried, CARRIED, left=2)
        stationary = ", ".join(f"{labels[c.run]} {percent(c.stationary)}" for c in compared.carried)
        yield CARRIED_NOTE.format(stationary=stationary)


BY_STEP: tuple[Column, ...] = (
    ("answer", lambda s: number(s.own and s.own.accuracy)),
    ("[95 %]", lambda s: spell_share(s.own)[2] if s.own else UNKNOWN),
    ("major-\nity", lambda s: number(s.rolling_majority and s.rolling_majority.accuracy)),
    ("single", lambda s: number(s.slots)),
    ("ever\nright", lambda s: number(s.ever_correct)),
    ("roll-\nouts", lambda s: count(s.rollouts)),
    ("tokens", lambda s: count(s.tokens)),
    ("in se-\nquence", lambda s: count(s.sequential_tokens)),
    ("tokens\na reply", lambda s: count(s.reply_tokens)),
    ("differ-\nent", lambda s: count(s.different_answers)),
    ("list", lambda s: number(s.list_share)),
    ("cost", lambda s: UNKNOWN if s.cost is None else money(s.cost)),
)
REPLIES: tuple[Column, ...] = (
    ("roll-\nouts", lambda r: count(r.rollouts)),
    ("tokens\neach", lambda r: count(r.reply_tokens_per_rollout)),
    ("no\nanswer", lambda r: number(r.rates.no_answer)),
    ("with a\nbox", lambda r: number(r.rates.unreadable_box)),
    ("trun-\ncated", lambda r: number(r.rates.truncated)),
    ("missing\nsections", lambda r: number(r.rates.missing_sections)),
    ("failed", lambda r: number(r.rates.failed)),
    ("empty", lambda r: number(r.rates.empty)),
)
CHAINS: tuple[Column, ...] = (
    ("steps", lambda r: str(len(r.by_step))),
    ("right to\nwrong", lambda r: count(r.right_to_wrong)),
    ("wrong to\nright", lambda r: count(r.wrong_to_right)),
    ("win-\ndows", lambda r: count(r.tokens_in_windows)),
    ("list\nentries", lambda r: count(r.list_entries)),
    ("entries\nshown", lambda r: count(r.left_out and r.left_out.entries_shown)),
    ("prompts\ncut, %", lambda r: number(r.left_out and r.left_out.share)),
    ("early-\nstopped", lambda r: str(r.early_stopped or UNKNOWN)),
    ("cost", lambda r: UNKNOWN if r.cost is None else money(r.cost)),
)
OVER_SEEDS: tuple[Column, ...] = (
    ("seeds", lambda r: count(r.seeds)),
    ("avg@K", lambda r: number(r.several_seeds.average)),
    ("standard\nerror", lambda r: number(r.several_seeds.standard_error)),
    ("maj@K", lambda r: number(r.several_seeds.majority.accuracy)),
)
DIFFERENCE: tuple[Column, ...] = (
    ("", lambda d: d.measure.removeprefix("rolling ")),
    ("base-\nline", lambda d: number(d.baseline)),
    ("run", lambda d: number(d.run)),
    ("points", lambda d: spell_difference(d)[0]),
    ("[95 %]", lambda d: spell_difference(d)[1]),
    ("p", lambda d: p_value(d.p)),
    ("adjusted", lambda d: spell_difference(d)[2]),
    ("shown", lambda d: number(d.detectable)),
)
CARRIED: tuple[Column, ...] = (
    ("", lambda c: c[0]),
    ("answers", lambda c: str(c[1].answers if c[1] else 0)),
    ("%", lambda c: number(c[1] and c[1].share)),
    ("alone", lambda c: number(c[1] and c[1].alone)),
    ("points [95 %]", lambda c: spell_contrast(c[1])),
)
STOPPED: tuple[Column, ...] = (
    ("", lambda s: s[0].measure.removeprefix("rolling ")),
    ("right", lambda s: number(s[0].run)),
    ("points", lambda s: points(s[0].difference)),
    ("[95 %]", lambda s: interval(s[0].low, s[0].high)),
    ("stopped", lambda s: f"{s[1].stopped_early}/{s[1].chains}"),
    ("roll-\nouts", lambda s: f"{count(s[1].rollouts)}/{count(s[1].whole_rollouts)}"),
    ("tokens,\nof", lambda s: f"{count(s[1].tokens)}/{count(s[1].whole_tokens)}"),
)


def show_pass_at(k: int) -> Column:
    return f"pass@{k}", lambda r: number(r.several_seeds.pass_at.get(k))


def list_notes(against: Sequence[Versus], labels: Mapping[str, str]) -> Iterator[str]:
    """The problems whose answers moved."""
    for versus in against:
        run, base = labels[versus.run], labels[versus.baseline]
        for better, label in ((True, "better"), (False, "worse")):
            moved = [flip for flip in versus.flipped if flip.better is better]
            each = ", ".join(f"{f.problem} ({f.baseline} to {f.run})" for f in moved)
            if moved:
                yield f"{run} {label}: {each}."
        if versus.breakthroughs:
            problems = ", ".join(versus.breakthroughs)
            yield f"{run} right, and no rollout of {base}: {problems}."


def show_settings(
    console: Console, settings: Mapping[str, Sequence[str]], runs: Sequence[RunStatistics]
) -> None:
    """Those that differ, each with its values one below another: they can be long."""
    console.print()
    console.print(text("Settings that differ" if settings else "No setting differs.", "bold"))
    for name, values in settings.items():
        console.print(text(name))
        rows = [[f"  {run.label}", value] for run, value in zip(runs, values, strict=True)]
        console.print(plain("", ["", ""], rows, left=2, header=False))


def show_stops(
    console: Console, stopped: Sequence[EarlyStop], runs: Sequence[RunStatistics]
) -> None:
    """A table for each rule: right at the stop, and the points to the whole run."""
    labels = label_by_name(runs)
    for rule in dict.fromkeys(each.rule for each in stopped):
        rows = [
            (labels[each.run], (difference, each))
            for each in stopped
            if each.rule == rule
            for difference in (each.rolling_majority, each.last_answer)
        ]
        console.print()
        console.print(grid(f"Stopped by {rule}, %, to the whole run", rows, STOPPED, left=2))


def one_problem(runs: Sequence[SavedRun], problem: str) -> Table:
    """One problem's answers across runs, step by step, the seeds of a run after one another."""
    place = runs[0].problems.index(problem)
    steps = sorted(set().union(*(run.steps for run in runs)))
    rows = [[f"step {step}", *(answers(run, step, place) for run in runs)] for step in steps]
    title = f"Problem {problem}, the right answer is {runs[0].golds[place]}"
    return plain(title, ["", *(run.label for run in runs)], rows)


def answers(run: SavedRun, step: int, place: int) -> Text:
    if step not in run.steps:
        return text(f"not among its {spell(run.steps)}", "dim")
    at = [(run.rollouts[seed, step][place], run.lists[seed, step][place]) for seed in run.seeds]
    style = "green" if all(record.correct for record, _ in at) else ""
    return text("; ".join(spell_answer(record, size) for record, size in at), style)


def spell_answer(record: Rollout, size: ListSize) -> str:
    """`204 right, list of 3`"""
    predicted = "" if record.predicted is None else f"{shorten(str(record.predicted))} "
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


def shorten(answer: str) -> str:
    """An answer as a table has room for it: a looping model can write thousands of digits."""
    return answer if len(answer) <= 20 else f"{answer[:8]}... ({len(answer)} characters)"
