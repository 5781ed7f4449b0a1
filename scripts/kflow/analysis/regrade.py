"""A check of the grader: every prediction again, from the saved text, three ways.

Nothing is changed by it. The run's own rule over the whole reply must give what the file says; the
same rule over the visible answer shows where an answer came from the thinking (the gpt-oss rules
read the whole reply); math-verify is somebody else's grader.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from .. import answers
from ..terminal import printable
from ..types import Answer, Record
from .replies import new_text, visible
from .runs import Run, gold, read_records

Rule = Callable[[str], Answer]
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        answers.first_boxed,
        answers.first_boxed_or_last_integer,
        answers.last_boxed_or_last_integer,
    )
}
SHOWN = 20


def regrade(run: Run) -> dict[str, Any]:
    """Every record of the complete steps again; `disagreements` has those where a way differs
    from the file, with what each way gives."""
    named = ((run.settings or {}).get("experiment") or {}).get("answer")  # type: ignore[attr-defined]
    rule_name = named if named in RULES else closest(run)
    rule, verify = RULES[rule_name], math_verify()
    disagreements, checked, failed = [], 0, 0
    for (seed, step), path in sorted(run.files.items()):
        if step not in run.steps:
            continue
        ids = dict(zip(run.problems, run.golds, strict=True))
        for position, record in enumerate(read_records(path)):
            problem = str(record.get("id", position)) if run.own_ids else str(position)
            if problem not in ids:
                continue
            if record.get("failure") is not None:
                failed += 1
                continue
            checked += 1
            found = grade(record, rule, verify, ids[problem])
            if found:
                disagreements.append({"problem": problem, "seed": seed, "step": step, **found})
    return {
        "run": run.name,
        "rule": rule_name,
        "rule_is_guessed": named not in RULES,
        "checked": checked,
        "failed": failed,
        "by_rule": sum("by_rule" in each for each in disagreements),
        "from_visible_answer": sum("from_visible_answer" in each for each in disagreements),
        "math_verify": sum("math_verify" in each for each in disagreements),
        "disagreements": disagreements,
    }


def grade(record: Record, rule: Rule, verify: Callable[[str, str], bool], right: str) -> Record:
    """What differs from the file: a prediction, or math-verify's judgement; {} where all agree."""
    text = new_text(record)
    seen, recorded = visible(text), record["predicted"]
    found: Record = {}
    if (again := rule(text)) != recorded:
        found["by_rule"] = again
    if (shown := rule(seen)) != recorded:
        found["from_visible_answer"] = shown
    correct = recorded is not None and str(recorded) == gold(record["gold"])
    if (judged := verify(right, seen)) != correct:
        found["math_verify"] = judged
    return {"predicted": recorded, "gold": record["gold"], **found} if found else {}


def closest(run: Run) -> str:
    """For a folder without run.json: the rule that gives the last step's predictions most often."""
    records = read_records(run.files[run.seeds[0], run.last])
    hits = {
        name: sum(rule(new_text(record)) == record["predicted"] for record in records)
        for name, rule in RULES.items()
    }
    return max(hits, key=lambda name: hits[name])


def math_verify() -> Callable[[str, str], bool]:
    """(right answer, visible answer) -> math-verify's judgement; nothing to parse is not right."""
    import math_verify as library

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it logs what it cannot parse

    def verify(right: str, text: str) -> bool:
        return bool(library.verify(library.parse(f"${right}$"), library.parse(text)))

    return verify


def told(found: dict[str, Any]) -> list[str]:
    """The check of one run in lines for a terminal."""
    rule = found["rule"] + (", guessed as there is no run.json" if found["rule_is_guessed"] else "")
    failed = f" ({found['failed']} failed rollouts have no text)" if found["failed"] else ""
    lines = [
        f"{found['run']}: {found['checked']} replies graded again{failed}. Differ from the file: "
        f"{found['by_rule']} by the run's own rule ({rule}), "
        f"{found['from_visible_answer']} by it from the visible answer alone, "
        f"{found['math_verify']} as math-verify judges the visible answer."
    ]
    for each in found["disagreements"][:SHOWN]:
        ways = [
            f"{label} {'no answer' if each[way] is None else each[way]}"
            for way, label in (
                ("by_rule", "rule:"),
                ("from_visible_answer", "visible answer:"),
                ("math_verify", "math-verify says right:"),
            )
            if way in each
        ]
        lines.append(
            f"  problem {each['problem']}, seed {each['seed']}, step {each['step']}: file: "
            f"{'no answer' if each['predicted'] is None else each['predicted']}, gold "
            f"{each['gold']}; {', '.join(ways)}"
        )
    if len(found["disagreements"]) > SHOWN:
        lines.append(f"  and {len(found['disagreements']) - SHOWN} more (all of them: --json)")
    return list(map(printable, lines))
