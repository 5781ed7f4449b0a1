"""What is to be said of runs before any table, in sentences, for a terminal and the page, and how
figures are spelt in both. Pure; names are as the results have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kflow.analysis.comparison import Comparison, Difference, Moved, Versus
from kflow.analysis.run_statistics import RunStatistics
from kflow.analysis.statistics import LEVEL, fewest_to_tell
from kflow.ground.terminal import counted

UNKNOWN = "-"
MANY = 0.1  # of later prompts: a run above it has tried its method with part of it hidden


def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.1f} %"


def number(share: float | None) -> str:
    """In percent, below a head that says so."""
    return UNKNOWN if share is None else f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference in percentage points: `+3.3`, `-10.0`, `0.0`."""
    spelt = f"{100 * share:+.1f}"
    return "0.0" if spelt in ("+0.0", "-0.0") else spelt


def interval(low: float | None, high: float | None, form: str = "+.1f") -> str:
    """`[-30.1, +5.0]`, percent; an end that the data cannot give is a question mark."""
    ends = ("?" if end is None else format(100 * end, form) for end in (low, high))
    return f"[{', '.join(ends)}]"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def count(value: float | None) -> str:
    """`64`, `12.5`, `3,456`, `120k`, `4.07M`"""
    if value is None:
        return UNKNOWN
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    if value >= 1e4:
        return f"{value / 1e3:.0f}k"
    return f"{value:,.1f}" if value % 1 and value < 100 else f"{value:,.0f}"


def join(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def label_by_name(runs: Sequence[RunStatistics]) -> dict[str, str]:
    return {run.name: run.label for run in runs}


def spell_budget(against: Sequence[Versus]) -> str:
    """What is equal between runs: `8 rollouts a problem`, `step 7`."""
    budget = against[0].budget
    if budget.size is None:
        return f"step {against[0].at.step}"
    return f"{counted(budget.size, budget.unit[:-1])} a problem"


def sum_up(runs: Sequence[RunStatistics], compared: Comparison | None) -> list[str]:
    """Paragraphs; first, which runs differ. compared: None where the runs are not."""
    wrong = [run for run in runs if not run.by_step[-1].ever_correct]
    said: list[str] = []
    if compared is not None and len(wrong) < len(runs):
        if compared.against:
            against = compared.against[0]
            answers = [versus.answer for versus in against]
            said = [spell_differences(against, label_by_name(runs)), spell_power(answers)]
            said += spell_first_prompts(compared) + spell_unmatched(compared)
        elif compared.moved:
            said = [spell_move(compared.moved, runs[0].ahead), spell_power([compared.moved.change])]
    said += [spell_none_right(wrong)] if wrong else []
    return [*said, *spell_left_out(runs), *spell_known(runs), *spell_wordings(runs)]


def spell_differences(against: Sequence[Versus], labels: Mapping[str, str]) -> str:
    """Of runs against a baseline: what differs, then what does not."""
    base, first, said = labels[against[0].baseline], against[0].answer, []
    for way, sign in (("better", 1), ("worse", -1)):
        shown = [
            f"{labels[versus.run]} ({percent(answer.run)} right, {spell_gap(answer)}, "
            f"p {p_value(answer.p_holm)})"
            for versus in against
            if (answer := versus.answer).p_holm < LEVEL and sign * answer.difference > 0
        ]
        if shown:
            than = f"{'is' if len(shown) == 1 else 'are'} {way} than {base}"
            said.append(f"{join(shown)} {than} ({percent(first.baseline)} right)")
    rest = [versus for versus in against if versus.answer.p_holm >= LEVEL]
    if rest:
        names = join([labels[versus.run] for versus in rest])
        its = "its" if len(rest) == 1 else "their"
        moved = sorted(versus.answer.differing for versus in rest)
        on = f"{moved[0]} to {moved[-1]}" if moved[0] < moved[-1] else f"{moved[0]}"
        fewest = fewest_to_tell(LEVEL / len(rest))
        said.append(
            f"no difference from {base} is shown for {names}: {its} answers differ on {on} of "
            f"{counted(first.problems, 'problem')}, and p < {LEVEL} needs at least {fewest}, all "
            "in one direction"
        )
    return f"At {spell_budget(against)}, {'; '.join(said)}."


def spell_gap(difference: Difference) -> str:
    known = difference.low is not None or difference.high is not None
    ends = f" {interval(difference.low, difference.high)}" if known else ""
    return f"{points(difference.difference)} points{ends}"


def spell_move(moved: Moved, by_vote: bool) -> str:
    """Of a single run. by_vote: whether its answer is a majority."""
    change, what = moved.change, "The majority's" if by_vote else "Own"
    return (
        f"{what} accuracy goes from {percent(change.baseline)} at step {moved.first} to "
        f"{percent(change.run)} at step {moved.last}: {spell_gap(change)}, p {p_value(change.p)}."
    )


def spell_power(differences: Sequence[Difference]) -> str:
    """Of the comparison that would show the least, so that it holds for all of them."""
    problems, fewest = differences[0].problems, fewest_to_tell(LEVEL / len(differences))
    known = [each.detectable for each in differences if each.detectable is not None]
    if known:
        some = f" for {len(known)} of {len(differences)} runs, and none for the rest"
        return (
            f"A difference of {100 * max(known):.1f} points would be shown four times in five"
            f"{some * (len(known) < len(differences))}; a smaller one is easily missed."
        )
    return (
        f"{counted(problems, 'problem')} would hardly show any difference: p < {LEVEL} needs at "
        f"least {fewest} that differ, all in one direction."
    )


def spell_first_prompts(compared: Comparison) -> list[str]:
    """Which runs differ from parallel thinking before anything is carried, by their prompts."""
    labels = label_by_name(compared.runs)
    differ = [
        f"{labels[run]} ({percent(change.run)} against {percent(change.baseline)} right, "
        f"{spell_gap(change)}, p {p_value(change.p_holm)})"
        for run, change in compared.first_prompts.items()
        if change.p_holm < LEVEL
    ]
    if not differ:
        return []
    return [
        "Before anything is carried, accuracy already differs from parallel thinking's attempts "
        f"with {join(differ)}: the first prompts are not the same, so later steps show "
        "the effect of the prompts too, not only of what is carried."
    ]


def spell_unmatched(compared: Comparison) -> list[str]:
    """Of which runs it is not said whether what they carry helps."""
    labels = label_by_name(compared.runs)
    return [
        f"What {labels[run]} carried is not measured: parallel thinking differs in {join(parts)}."
        for run, parts in compared.unmatched.items()
    ]


def spell_none_right(runs: Sequence[RunStatistics]) -> str:
    replies = [
        f" Of {run.label}'s replies {percent(run.rates.no_answer)} have no answer and "
        f"{percent(run.rates.truncated)} are truncated."
        for run in runs
        if run.rates.no_answer or run.rates.truncated
    ]
    return (
        f"{join([run.label for run in runs])} got none of {counted(runs[0].problems, 'problem')} "
        "right, so that accuracy says nothing of the method: a larger window, a stronger model or "
        f"easier problems would tell more.{''.join(replies)}"
    )


def spell_left_out(runs: Sequence[RunStatistics]) -> list[str]:
    """Which runs have tried their method with part of it hidden, or mostly without a list."""
    said, bare = [], []
    for run in runs:
        cut = run.left_out
        if cut is not None and cut.share > MANY:
            held = cut.entries_held
            shown = f" ({cut.entries_shown} of {held} list entries were shown)" if held else ""
            said.append(f"{cut.incomplete} of {cut.prompts} prompts of {run.label}{shown}")
        if cut is None or cut.with_entries is None:
            continue
        if 2 * cut.with_entries < cut.for_answers:
            bare.append(f"{cut.with_entries} of {cut.for_answers} prompts of {run.label}")
    sentences = []
    if said:
        sentences.append(f"After step 0, part of what is carried did not fit into {join(said)}.")
    if bare:
        sentences.append(f"After the first attempt, only {join(bare)} show an entry of its list.")
    return sentences


def spell_wordings(runs: Sequence[RunStatistics]) -> list[str]:
    """Whose prompts each run has, where that is not the same."""
    if len({(run.wording or "").partition(" (")[0] for run in runs}) == 1:
        return []
    whose = [f"{run.label} {run.wording or 'not on record'}" for run in runs]
    return [f"Prompts: {'; '.join(whose)}."]


def spell_known(runs: Sequence[RunStatistics]) -> list[str]:
    """The model's known score: once for the runs that agree with it, and each that does not."""
    known = [(run.label, run.known_score) for run in runs if run.known_score]
    said = [f"{label}: {score.sentence}." for label, score in known if not score.inside]
    for value in dict.fromkeys(score.known for _, score in known if score.inside):
        agreeing = [label for label, score in known if score.inside and score.known == value]
        said.append(
            f"The model's known score in single attempts, {percent(value)}, is inside the 95 % "
            f"interval of the first attempts of {join(agreeing)}."
        )
    return said
