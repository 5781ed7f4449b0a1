"""Folders that this program did not write in today's format: the published code's, and this
project's own earlier ones. Their records become Rollouts, and their run.json today's manifest.

The knowledge list is read back from the prompt as it was sent, by docs/method.md's headings and
numbers. Nothing else in the program parses a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kflow.answers import Integer, has_box
from kflow.method import LeftOut, Note
from kflow.results.rollout import Rollout
from kflow.types import Answer, Entry

BEFORE_REFERENCE = ("## Empirical Mistakes List", "## Experimental Knowledge List")
AFTER_REFERENCE = "## Wrong Answer List"
REFERENCE = "\n## Reference Solution\n"
ENDS = (REFERENCE, "\n## Instructions\n")
NUMBERED = re.compile(r"(?:\A|\n)[ \t]*\*\*(?:Wrong Answer|EK) \d+\*\*:[ \t]*")
NOTHING = re.compile(r"\W*(n/?a|none|the list is empty)\W*", re.IGNORECASE)
ITEM = re.compile(r"\n+|(?<=[.!?;:])\s+(?=(?:[-*•]|\d{1,2}[.)])\s)")
HARMONY = "<|start|>"
EARLIER = "earlier format"  # in place of the digest that it has not
RULES = {  # as the earlier format names them
    "first_boxed": {"first": True, "fallback": False},
    "first_boxed_or_last_integer": {"first": True, "fallback": True},
    "last_boxed_or_last_integer": {"first": False, "fallback": True},
}


def measured(record: Rollout) -> bool:
    """Whether a record says its tokens, finish reason and sections: the published code's do not,
    and have zeros and nothing there."""
    return bool(record.digest)


def foreign(record: Rollout) -> bool:
    """Whether a record was not in today's format."""
    return record.digest in ("", EARLIER)


def rollout(record: object, number: int) -> Rollout:
    """A record of either foreign format; `number` names its problem where it has no id. Raises
    ValueError for a record without what every system writes."""
    if not isinstance(record, dict):
        raise ValueError("it is not an object")
    question, solution = text(record, "question"), text(record, "pred_solution")
    gold, predicted = record["gold"] if "gold" in record else missing("gold"), answer(record)
    if not isinstance(gold, (int, float, str)):
        raise ValueError("'gold' is neither a number nor a text")
    right = predicted is not None and Integer().same(Integer().gold(gold), predicted)
    failure = record.get("failure")
    start, update = count(record, "reply_start"), mapping(record, "update")
    ours = "update" in record
    return Rollout(
        question=question,
        gold=gold,
        predicted=predicted,
        pred_solution=solution,
        correct=right,
        id=identifier(record, number),
        slot=0,
        family="gpt_oss" if question.startswith(HARMONY) else "qwen",
        finish_reason=string(record.get("finish_reason")),
        prompt_tokens=count(record, "prompt_tokens"),
        completion_tokens=count(record, "completion_tokens"),
        max_tokens=count(record, "max_tokens"),
        sampling_seed=count(record, "sampling_seed"),
        reply_start=start if start <= len(solution) else 0,
        asks_answer=True,
        sections=(),
        missing_sections=strings(update.get("missing_sections")),
        unreadable_box=predicted is None and has_box(solution),
        knowledge=tuple(map(Entry, list_entries(question))),
        carried_tokens=None,
        left_out=left_out(mapping(record, "left_out")),
        failure=None if failure is None else str(failure),
        digest=EARLIER if ours else "",
        verdict=predicted,
        verdict_correct=right,
        note=note(update) if ours else None,
        repeats_step=count(record, "carried_from") if "carried_from" in record else None,
    )


def text(record: Mapping[str, Any], field: str) -> str:
    value = record[field] if field in record else missing(field)
    if not isinstance(value, str):
        raise ValueError(f"{field!r} is not a text")
    return value


def missing(field: str) -> Any:
    raise ValueError(f"it has no {field!r}")


def answer(record: Mapping[str, Any]) -> int | None:
    value = record["predicted"] if "predicted" in record else missing("predicted")
    if isinstance(value, bool) or not isinstance(value, (int, type(None))):
        raise ValueError("'predicted' is neither an integer nor null")
    return value


def identifier(record: Mapping[str, Any], number: int) -> str:
    own = record.get("id")
    return str(own if isinstance(own, (str, int)) else number)


def count(record: Mapping[str, Any], field: str) -> int:
    """A number of tokens or characters, 0 where there is none."""
    value = record.get(field)
    sound = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40
    return value if sound else 0  # type: ignore[return-value]


def mapping(record: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = record.get(field)
    return value if isinstance(value, dict) else {}


def string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def strings(value: object) -> tuple[str, ...]:
    """The texts of a list, or a single one."""
    values = value if isinstance(value, list) else [value]
    return tuple(each for each in values if isinstance(each, str))


def left_out(record: Mapping[str, Any]) -> LeftOut:
    entries = count(record, "knowledge_entries")
    return LeftOut(entries, sum(count(record, field) for field in record) - entries)


def note(update: Mapping[str, Any]) -> Note:
    """What the earlier format's `update` says."""
    filed: Answer | None = update.get("under_answer")
    added = [Entry(each, filed) for each in strings(update.get("added"))]
    rewritten = strings(update.get("replaced"))
    return Note(
        added=(*added, *map(Entry, rewritten)),
        dropped=tuple(map(Entry, strings(update.get("dropped")))),
        replaced="replaced" in update,
        skipped=string(update.get("kept")) or "",
    )


def manifest(run: dict[str, Any]) -> dict[str, Any]:
    """run.json in today's shape. Raises ValueError where it has neither shape."""
    settings, sessions = run.get("settings"), run.get("sessions")
    if not isinstance(settings, dict) or not isinstance(sessions, list):
        raise ValueError("its settings or sessions are malformed")
    if not sessions or not all(isinstance(session, dict) for session in sessions):
        raise ValueError("its settings or sessions are malformed")
    if "experiment" in run or "experiment" not in settings:
        return run
    flags, experiment = sessions[-1].get("flags"), settings["experiment"]
    parts = ("model", "problems", "prompts", "sampling", "engine")
    rest = {k: v for k, v in settings.items() if k not in (*parts, "experiment")}
    today = {k: settings[k] for k in parts if k in settings}
    if isinstance(flags, dict):
        rest["reflex_size"] = flags.get("reflex_size")
    return {
        **today,
        "experiment": in_todays_shape(experiment),
        "settings": rest,
        "answers": Integer().name,
        "sessions": sessions,
    }


def in_todays_shape(experiment: object) -> dict[str, Any]:
    """{prefix, method, fields}"""
    fields = dict(experiment) if isinstance(experiment, dict) else {}
    prefix, method, rule = (fields.pop(key, None) for key in ("prefix", "method", "answer"))
    if isinstance(rule, str) and rule in RULES:
        fields["rule"] = RULES[rule]
    return {"prefix": prefix, "method": method, "fields": fields}


def list_entries(prompt: str) -> tuple[str, ...]:
    """The entries of the list in a prompt, in the order shown.

    A list without numbers (docs/method.md, section 2) is split into its items where it marks them.
    """
    before, *entries = NUMBERED.split(listed(prompt))
    if not entries:
        entries = [] if NOTHING.fullmatch(before) else ITEM.split(before)
    return tuple(entry for each in entries if (entry := each.strip()))


def listed(prompt: str) -> str:
    """The text under the list's heading, "" where there is none.

    A reference solution is a model's text and may spell any heading: a list that comes before it
    is looked for up to there, the one that comes after it from the end.
    """
    before, _, _ = prompt.partition(REFERENCE)
    for heading in BEFORE_REFERENCE:
        if f"\n{heading}\n" in before:
            return up_to_end(prompt.partition(f"\n{heading}")[2])
    _, heading, rest = prompt.rpartition(f"\n{AFTER_REFERENCE}\n")
    return up_to_end(f"\n{rest}") if heading else ""


def up_to_end(text: str) -> str:
    """A section up to the next one: those our prompts end a list with, else any heading."""
    ends = [at for end in ENDS if (at := text.find(end)) >= 0]
    other = text.find("\n## ")
    return text[: min(ends, default=other if other >= 0 else len(text))].strip()
