"""Folders of the published code: their records as Rollouts.

The knowledge list is read back from the prompt as it was sent, by docs/method.md's headings and
numbers. Nothing else in the program parses a prompt.
"""

from __future__ import annotations

import re

from kflow.answers.base import has_box
from kflow.answers.integer import Integer
from kflow.results.rollout import Rollout
from kflow.types import Entry, LeftOut

BEFORE_REFERENCE = ("## Empirical Mistakes List", "## Experimental Knowledge List")
AFTER_REFERENCE = "## Wrong Answer List"
REFERENCE = "\n## Reference Solution\n"
ENDS = (REFERENCE, "\n## Instructions\n")
NUMBERED = re.compile(r"(?:\A|\n)[ \t]*\*\*(?:Wrong Answer|EK) \d+\*\*:[ \t]*")
NOTHING = re.compile(r"\W*(n/?a|none|the list is empty)\W*", re.IGNORECASE)
ITEM = re.compile(r"\n+|(?<=[.!?;:])\s+(?=(?:[-*•]|\d{1,2}[.)])\s)")
HARMONY = "<|start|>"


def is_measured(record: Rollout) -> bool:
    """Whether a record says its tokens, finish reason and sections: the published code's do not,
    and have zeros and nothing there."""
    return bool(record.digest)


def read_rollout(record: object, number: int) -> Rollout:
    """A record of the published code; `number` names its problem where it has no id. Raises
    ValueError for a record without what every system writes."""
    if not isinstance(record, dict):
        raise ValueError("it is not an object")
    if "update" in record:
        raise ValueError(
            "it was written by this program before version 0.2, which can still read it"
        )
    for name in ("question", "gold", "predicted", "pred_solution"):
        if name not in record:
            raise ValueError(f"it has no {name!r}")
    question, solution = record["question"], record["pred_solution"]
    gold, predicted, own = record["gold"], record["predicted"], record.get("id")
    if not isinstance(question, str) or not isinstance(solution, str):
        raise ValueError("'question' or 'pred_solution' is not a text")
    if isinstance(predicted, bool) or not isinstance(predicted, (int, type(None))):
        raise ValueError("'predicted' is neither an integer nor null")
    if not isinstance(gold, (int, float, str)):
        raise ValueError("'gold' is neither a number nor a text")
    right = predicted is not None and Integer().same(Integer().gold(gold), predicted)
    return Rollout(
        question=question,
        gold=gold,
        predicted=predicted,
        pred_solution=solution,
        correct=right,
        id=str(own if isinstance(own, (str, int)) else number),
        slot=0,
        family="gpt_oss" if question.startswith(HARMONY) else "qwen",
        finish_reason=None,
        prompt_tokens=0,
        completion_tokens=0,
        max_tokens=0,
        sampling_seed=0,
        reply_start=0,
        asks_answer=True,
        sections=(),
        missing_sections=(),
        unreadable_box=predicted is None and has_box(solution),
        knowledge=tuple(map(Entry, list_entries(question))),
        carried_tokens=None,
        left_out=LeftOut(),
        failure=None,
        digest="",
        verdict=predicted,
        verdict_correct=right,
    )


def list_entries(prompt: str) -> tuple[str, ...]:
    """The entries of the list in a prompt, in the order shown.

    A list without numbers (docs/method.md, section 2) is split into its items where it marks them.
    """
    before, *entries = NUMBERED.split(find_list(prompt))
    if not entries:
        entries = [] if NOTHING.fullmatch(before) else ITEM.split(before)
    return tuple(entry for each in entries if (entry := each.strip()))


def find_list(prompt: str) -> str:
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
