"""A check of the grader: every prediction again, from the saved text, three ways.

Nothing is changed by it. The run's own rule over the whole reply must give what is on record; the
same rule over the visible answer shows where an answer came from the thinking (the gpt-oss rules
read the whole reply); math-verify is somebody else's grader.

A reply that is saved behind the text carried over (docs/method.md, section 4) is checked only where
the record says where it begins, which the published code's do not: the first box would be an
earlier step's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kflow import answers
from kflow.analysis.chains import fresh
from kflow.analysis.runs import Run, again
from kflow.answers import AnswerType, Expression, Rule, Sameness
from kflow.ground.terminal import counted, printable
from kflow.results.published import measured
from kflow.results.recorded import part
from kflow.results.replies import split
from kflow.results.rollout import Rollout
from kflow.types import Answer

SHOWN = 20
LONGEST_ANSWER = 60  # characters
WAYS = {
    "by_rule": "its own rule",
    "by_visible": "its rule from the visible answer alone",
    "by_math_verify": "math-verify",
}


@dataclass(frozen=True)
class Graded:
    """One rollout graded again: the answer by each way, and whether each way calls it right."""

    problem: str
    seed: int
    step: int
    slot: int
    gold: str
    predicted: Answer | None
    correct: bool
    by_rule: Answer | None
    by_visible: Answer | None
    right: dict[str, bool]
    differs: tuple[str, ...]


@dataclass(frozen=True)
class StepChange:
    """How many of a step's replies are right, on record and by each way that differs."""

    step: int
    total: int
    right: int
    would_be: dict[str, int]


@dataclass(frozen=True)
class Regraded:
    """rule_from: where the rule is from. unmarked: replies not checked, since the record does not
    say where they begin. disagreements: rollouts of which a way differs from the record.
    accuracies: the steps whose accuracy a way would change."""

    run: str
    rule: Rule
    rule_from: str
    checked: int
    failed: int
    unmarked: int
    differing: dict[str, int]
    accuracies: tuple[StepChange, ...]
    disagreements: tuple[Graded, ...]


class Ways:
    """What a chain's replies are graded with. A comparison that is on record as given up counts as
    different and is not tried again, as when the run is replayed."""

    def __init__(self, answers: AnswerType, rule: Rule, gold: Answer) -> None:
        self.answers, self.rule, self.gold = answers, rule, gold
        self.same, self.math_verify = Sameness(answers), Sameness(Expression())

    def give_up(self, undecided: Iterable[tuple[Answer, Answer]]) -> None:
        for same in (self.same, self.math_verify):
            same.undecided += undecided

    def right(self, answer: Answer | None) -> bool:
        return answer is not None and self.same(self.gold, answer)

    def agree(self, recorded: Answer | None, again: Answer | None) -> bool:
        if recorded is None or again is None:
            return recorded is again
        return self.same(recorded, again)


def regrade(run: Run) -> Regraded:
    """Every rollout of the complete steps that was asked for an answer. Raises UserError where a
    file cannot be read a second time."""
    rule, source = rule_of(run)
    golds = dict(zip(run.problems, run.golds, strict=True))
    chains: dict[tuple[int, str], Ways] = {}
    graded: list[Graded] = []
    totals: Counter[int] = Counter()
    rights: Counter[tuple[int, str]] = Counter()
    failed = unmarked = 0
    for (seed, step), path in sorted(run.files.items()):
        if step not in run.steps:
            continue
        for position, record in enumerate(again(path)):
            problem = record.id if run.own_ids else str(position)
            rollouts = fresh(record) if problem in golds else ()
            if rollouts:
                new = Ways(run.answers, rule, golds[problem])
                ways = chains.setdefault((seed, problem), new)
                ways.give_up(record.undecided)
            for rollout in rollouts:
                if rollout.failure is not None:
                    failed += 1
                elif step and markovian(run) and not measured(rollout):
                    unmarked += 1
                elif rollout.asks_answer:
                    each = grade(rollout, ways, (problem, seed, step))
                    totals[step] += 1
                    rights.update((step, way) for way, right in each.right.items() if right)
                    rights[step, "record"] += each.correct
                    if each.differs:
                        graded.append(each)
    return Regraded(
        run.name,
        rule,
        source,
        sum(totals.values()),
        failed,
        unmarked,
        {way: sum(way in each.differs for each in graded) for way in WAYS},
        tuple(
            StepChange(step, totals[step], rights[step, "record"], changed)
            for step in sorted(totals)
            if (
                changed := {
                    way: rights[step, way]
                    for way in WAYS
                    if rights[step, way] != rights[step, "record"]
                }
            )
        ),
        tuple(graded),
    )


def grade(rollout: Rollout, ways: Ways, place: tuple[str, int, int]) -> Graded:
    """place: problem, seed, step."""
    visible = split(rollout)[1]
    by_rule = ways.answers.extract(rollout.reply, ways.rule)
    by_visible = ways.answers.extract(visible, ways.rule)
    differs: dict[str, bool] = {}
    right: dict[str, bool] = {}
    for way, answer in (("by_rule", by_rule), ("by_visible", by_visible)):
        differs[way] = not ways.agree(rollout.predicted, answer)
        # An answer that is the same as the chain's is graded as that one, as on record.
        right[way] = ways.right(answer if differs[way] else rollout.predicted)
    right["by_math_verify"] = math_verify(ways, visible, by_visible)
    differs["by_math_verify"] = right["by_math_verify"] != rollout.correct
    return Graded(
        *place,
        rollout.slot,
        str(ways.gold),
        rollout.predicted,
        rollout.correct,
        by_rule,
        by_visible,
        right,
        tuple(way for way in WAYS if differs[way] or right[way] != rollout.correct),
    )


def markovian(run: Run) -> bool:
    """Whether a folder's name is one of the Markovian scripts' (docs/method.md, "Output" and
    "Deviations")."""
    prefix = run.folder.parent.name
    return "markov" in prefix or "buffer_half" in prefix


def rule_of(run: Run) -> tuple[Rule, str]:
    """The rule that run.json names, else that of the folder's prefix and family (docs/method.md,
    "Defaults")."""
    experiment = part(run.manifest, "experiment")
    for rule in (part(experiment, "rule"), part(experiment, "fields", "rule")):
        first, fallback = part(rule, "first"), part(rule, "fallback")
        if isinstance(first, bool) and isinstance(fallback, bool):
            return Rule(first, fallback), "run.json"
    prefix, family = run.folder.parent.name, next(iter(run.rollouts.values()))[0].family
    if markovian(run):
        return answers.FIRST_BOXED_OR_LAST, "the folder's name"
    if family == "qwen" or "posK" in prefix:
        return answers.LAST_BOXED_OR_LAST, "the folder's name and the prompts' family"
    if "regen" in prefix:
        return answers.FIRST_BOXED_OR_LAST, "the folder's name and the prompts' family"
    return answers.FIRST_BOXED, "the prompts' family"


def math_verify(ways: Ways, visible: str, by_rule: Answer | None) -> bool:
    """math-verify's judgement of what the visible answer's last box holds, or of the rule's answer
    where there is no box; a comparison that was given up is not right."""
    content = Expression().extract(visible, answers.LAST_BOXED_OR_LAST) or by_rule
    return content is not None and ways.math_verify(str(ways.gold), str(content))


def lines(regraded: Regraded) -> list[str]:
    """The check of one run in lines for a terminal."""
    failed = f" ({regraded.failed} failed rollouts have no text)" if regraded.failed else ""
    counts = ", ".join(f"{regraded.differing[way]} by {name}" for way, name in WAYS.items())
    text = [
        f"{regraded.run}: {regraded.checked} replies graded again{failed}, by the rule that "
        f"{regraded.rule_from} gives: {spelled(regraded.rule)}. Differ from the record: {counts}.",
    ]
    if regraded.unmarked:
        text.append(
            f"  Not checked: {counted(regraded.unmarked, 'rollout')} saved together with the text "
            "carried over; the folder does not record where the reply begins."
        )
    text += map(change, regraded.accuracies[:SHOWN])
    if not regraded.accuracies:
        text.append("  No step's accuracy would change.")
    for each in regraded.disagreements[:SHOWN]:
        answers = {
            "by_rule": f"rule: {short(each.by_rule)}",
            "by_visible": f"visible answer: {short(each.by_visible)}",
            "by_math_verify": f"math-verify says right: {each.right['by_math_verify']}",
        }
        text.append(
            f"  problem {each.problem}, seed {each.seed}, step {each.step}, slot {each.slot}: on "
            f"record: {short(each.predicted)}, gold {short(each.gold)}; "
            + ", ".join(answers[way] for way in each.differs)
        )
    if len(regraded.disagreements) > SHOWN:
        text.append(f"  and {len(regraded.disagreements) - SHOWN} more (all of them: --json)")
    return list(map(printable, text))


def change(step: StepChange) -> str:
    other = ", ".join(
        f"{right}/{step.total} {percent(right, step.total)} by {WAYS[way]}"
        for way, right in step.would_be.items()
    )
    on_record = f"{step.right}/{step.total} {percent(step.right, step.total)}"
    return f"  step {step.step}: {on_record} right on record, {other}"


def percent(right: int, total: int) -> str:
    return f"{100 * right / total:.1f} %"


def spelled(rule: Rule) -> str:
    which = "the first box" if rule.first else "the last box"
    return which + (", else the last answer anywhere" if rule.fallback else "")


def short(answer: Answer | None) -> str:
    if answer is None:
        return "no answer"
    text = str(answer)
    return text if len(text) <= LONGEST_ANSWER else f"{text[:LONGEST_ANSWER]}..."
