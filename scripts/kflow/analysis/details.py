"""The tables below the answer, for whoever asks for them: every step and figure, the settings that
differ, where stopping rules would have ended the chains, and one problem across the runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kflow.analysis.answer import spell_contrast, spell_difference, spell_share
from kflow.analysis.chains import find_outcome
from kflow.analysis.comparison import Comparison, Versus
from kflow.analysis.equal_budgets import spell
from kflow.analysis.run_statistics import RunStatistics
from kflow.analysis.stopping import EarlyStop
from kflow.analysis.tables import (
    UNKNOWN,
    Column,
    count,
    grid,
    interval,
    number,
    p_value,
    percent,
    plain,
    points,
    text,
)
from kflow.analysis.verdict import label_by_name, spell_budget
from kflow.ground.price import money
from kflow.results.records import ListSize
from kflow.results.rollout import Rollout
from kflow.results.runs import SavedRun

UNREAD = (
    "Some replies have a box in which the run's rule finds no answer: --regrade says whether "
    "that would change an accuracy."
)
FOOTNOTE = (
    "answer: the step's own prediction, or the verdict where that is a vote. p: McNemar's exact "
    "test, a permutation test where problems count in part; adjusted by Holm for the number of "
    "runs, as the intervals are not (*: they disagree). shown: the smallest difference that would "
    "be shown four times in five, with as many problems turning the other way as here."
)
CARRIED_NOTE = (
    "Answers that are right after a wrong one of their chain (repaired), a right one (kept; the "
    "rest are broken) or any; alone: {parallel}'s attempts at the same problems. Accuracy at which "
    "as many answers are repaired as are broken: {stationary}."
)


def show(console: Console, compared: Comparison) -> None:
    for part in list_parts(compared):
        console.print()
        console.print(text(part) if isinstance(part, str) else part)


def list_parts(compared: Comparison) -> Iterator[Table | str]:
    runs, labels = compared.runs, label_by_name(compared.runs)
    items = [(run.label, run) for run in runs]
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
        parallel = labels[compared.carried[0].parallel]
        yield CARRIED_NOTE.format(parallel=parallel, stationary=stationary)


BY_STEP: tuple[Column, ...] = (
    ("answer", lambda s: number(s.own and s.own.accuracy)),
    ("[95 %]", lambda s: spell_share(s.own)[2] if s.own else UNKNOWN),
    ("major-\nity", lambda s: number(s.rolling_majority.accuracy)),
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
    ("standard\nerror", lambda r: number(r.by_step[-1].answer.standard_error)),
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
