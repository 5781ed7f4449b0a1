"""What compare_results.py prints by default: the answer in words, and the figures that it rests
on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from kflow.analysis.carried import Carried, Contrast
from kflow.analysis.comparison import Comparison, Difference, Versus
from kflow.analysis.run_statistics import AtStep, RunStatistics, Share
from kflow.analysis.tables import (
    UNKNOWN,
    Column,
    count,
    grid,
    interval,
    measure,
    number,
    p_value,
    plain,
    points,
    text,
)
from kflow.analysis.verdict import join, label_by_name, spell_budget, sum_up
from kflow.ground.terminal import counted

BLANK = ["", "", ""]
HEAD = ("", "", "right", "%", "[95 %]", "points", "[95 %]", "p")
NAMED = 3  # problems that moved one way
STAR = "*: the interval, of one comparison, and p, adjusted for {runs}, disagree."


class Standing(NamedTuple):
    """A run at the step at which it is compared. The baseline has no differences."""

    run: RunStatistics
    at: AtStep
    carried: Carried | None
    differences: tuple[Difference, ...] = ()


def show(console: Console, compared: Comparison, common: Sequence[str]) -> None:
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
    for line in list_hints(compared):
        console.print(line)


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
        majority = f"majority of {count(at.rollouts)}"
        name = majority if run.ahead else name_answer(at)
        compared = list(map(spell_difference, differences)) or [["", "(baseline)", ""], BLANK]
        yield [run.label, name, *spell_share(at.answer), *compared[0]]
        if not run.ahead and at.rollouts > 1:
            yield ["", majority, *spell_share(at.rolling_majority), *compared[1]]


def list_short_rows(standings: Sequence[Standing], before: Standing) -> Iterator[list[str]]:
    """Of each run what its chains answer; of the baseline only where it is another than before."""
    for run, at, _, differences in standings:
        if differences or at != before.at:
            compared = spell_difference(differences[0]) if differences else BLANK
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
    return f"{carried.verdict} {spell_contrast(carried.net)}" if carried and carried.net else ""


OVER_RUN: tuple[Column, ...] = (
    ("first\nstep", lambda s: number(find_first(s.run))),
    ("ever\nright", lambda s: number(s.at.ever_correct)),
    ("tokens", lambda s: count(s.at.tokens)),
    ("in se-\nquence", lambda s: count(s.at.sequential_tokens)),
    ("no\nanswer", lambda s: number(s.run.rates.no_answer)),
    ("trun-\ncated", lambda s: number(s.run.rates.truncated)),
    ("what is carried:\nnet points [95 %]", lambda s: spell_carried(s.carried)),
)


def list_hints(compared: Comparison) -> Iterator[Text]:
    """Which problems' answers moved, and where to look further."""
    labels, against = label_by_name(compared.runs), compared.against[0] if compared.against else ()
    first = next((flip.problem for versus in against for flip in versus.flipped), None)
    for versus in against:
        worse = [flip.problem for flip in versus.flipped if not flip.better]
        better = [flip.problem for flip in versus.flipped if flip.better]
        most = 1 if worse and better else NAMED
        said = [
            f"{len(ids)} {how} ({join(ids, most)})"
            for how, ids in (("worse", worse), ("better", better))
            if ids
        ]
        if said:
            yield text(f"{labels[versus.run]}: {', '.join(said)}.")
    named = [f"{run.name} ({run.label})" for run in compared.runs if run.label != run.name]
    if named:
        yield text(f"Results: {', '.join(named)}.", "dim")
    hints = [] if first is None else [f"--problem {shlex.quote(first)}: how"]
    hints += ["--details: every table"]
    hints += [f"--settings: {len(compared.settings)} that differ"] if compared.settings else []
    yield text("; ".join(hints), "dim")
