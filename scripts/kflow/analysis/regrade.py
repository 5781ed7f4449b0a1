"""A check of the grader: every reply again, from the saved text, by somebody else's grader.

math-verify judges what the last box of the visible answer holds, or the answer on record where that
has no box. Nothing is changed by it. That the run's own rule gives what is on record is checked
whenever the run is resumed.

A reply that is saved behind the text carried over (docs/method.md, section 4) is checked only where
the record says where it begins, which the published code's do not: the box could be an earlier
step's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from kflow.analysis.chains import counted_rollouts
from kflow.analysis.conclusion import percent
from kflow.answers import LAST_BOXED_OR_LAST, Expression, Sameness
from kflow.ground.terminal import counted
from kflow.results.rollout import Rollout, split
from kflow.results.runs import SavedRun
from kflow.types import Answer

SHOWN = 20
LONGEST_ANSWER = 60  # characters


@dataclass(frozen=True)
class Disagreement:
    """A rollout that math-verify grades otherwise than the record."""

    problem: str
    seed: int
    step: int
    slot: int
    gold: str
    predicted: Answer | None
    correct: bool
    """on record"""
    box: Answer | None
    """what was judged instead"""


@dataclass(frozen=True)
class StepGrades:
    """How many of a step's replies are right."""

    step: int
    total: int
    right: int
    """on record"""
    by_math_verify: int


@dataclass(frozen=True)
class Regraded:
    """A run's complete steps, graded again."""

    run: str
    checked: int
    failed: int
    """rollouts without a text"""
    unmarked: int
    """replies not checked, since the record does not say where they begin"""
    steps: tuple[StepGrades, ...]
    disagreements: tuple[Disagreement, ...]


def regrade(run: SavedRun) -> Regraded:
    """Every rollout that was asked for an answer. Raises UserError where a file cannot be read a
    second time."""
    graders: dict[tuple[int, int], Sameness] = {}
    totals, rights, others = (Counter[int]() for _ in range(3))
    disagreements: list[Disagreement] = []
    failed = unmarked = 0
    for seed, step, place, record in run.records(run.steps):
        # A comparison that is on record as given up is not tried again, as in a replay.
        same = graders.setdefault((seed, place), Sameness(Expression()))
        same.undecided += record.undecided
        gold = str(run.golds[place])
        for rollout in counted_rollouts(record):
            if rollout.failure is not None:
                failed += 1
            elif step and is_markovian(run) and not run.measured:
                unmarked += 1
            elif rollout.asks_answer:
                box = find_box(rollout)
                right = box is not None and same(gold, str(box))
                totals[step] += 1
                rights[step] += rollout.correct
                others[step] += right
                if right != rollout.correct:
                    at = (run.problems[place], seed, step, rollout.slot)
                    disagreements.append(
                        Disagreement(*at, gold, rollout.predicted, rollout.correct, box)
                    )
    steps = tuple(StepGrades(t, totals[t], rights[t], others[t]) for t in sorted(totals))
    return Regraded(run.name, sum(totals.values()), failed, unmarked, steps, tuple(disagreements))


def find_box(rollout: Rollout) -> Answer | None:
    """What is judged of a reply."""
    box = Expression().extract(split(rollout)[1], LAST_BOXED_OR_LAST)
    return rollout.predicted if box is None else box


def is_markovian(run: SavedRun) -> bool:
    """Whether a folder's name is one of the Markovian scripts' (docs/method.md, "Output" and
    "Deviations")."""
    prefix = run.folder.parent.name
    return "markov" in prefix or "buffer_half" in prefix


def spell_out(regraded: Regraded) -> Iterator[str]:
    """The check of one run, line by line."""
    found = regraded.disagreements
    failed = f" ({regraded.failed} failed rollouts have no text)" if regraded.failed else ""
    yield (
        f"{regraded.run}: {regraded.checked:,} replies graded again{failed}: math-verify disagrees "
        f"with the record on {len(found)}."
    )
    if regraded.unmarked:
        yield (
            f"  Not checked: {counted(regraded.unmarked, 'rollout')} saved together with the text "
            "carried over; the folder does not record where the reply begins."
        )
    changed = [step for step in regraded.steps if step.right != step.by_math_verify]
    for step in changed[:SHOWN]:
        on_record, other = (
            f"{right}/{step.total} {percent(right / step.total)}"
            for right in (step.right, step.by_math_verify)
        )
        yield f"  step {step.step}: {on_record} right on record, {other} by math-verify"
    if not changed:
        yield "  No step's accuracy would change."
    for each in found[:SHOWN]:
        yield (
            f"  problem {each.problem}, seed {each.seed}, step {each.step}, slot {each.slot}: "
            f"{'right' if each.correct else 'wrong'} on record with {shorten(each.predicted)}; "
            f"math-verify judges {shorten(each.box)} against {shorten(each.gold)}"
        )
    if len(found) > SHOWN:
        yield f"  and {len(found) - SHOWN} more (all of them: --json)"


def shorten(answer: Answer | None) -> str:
    text = "no answer" if answer is None else str(answer)
    return text if len(text) <= LONGEST_ANSWER else f"{text[:LONGEST_ANSWER]}..."
