"""The records of a step's file as Rollouts, ours and the published code's; what is kept of them,
and what they say that a reader has to know besides a run's figures.

Of the published code's records, the knowledge list is read back from the prompt as it was sent, by
docs/method.md's headings and numbers. Nothing else in the program parses a prompt.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kflow.answers.base import AnswerType, has_box
from kflow.answers.integer import Integer
from kflow.ground.terminal import counted, first_line
from kflow.results.find import Place
from kflow.results.reading import UNREADABLE, Damaged, parse, read_elements
from kflow.results.recorded import part
from kflow.results.rollout import NUMBERS, Rollout, from_json, is_measured, without_texts
from kflow.types import Answer, Entry, LeftOut

MOST_RECORDS = 100_000
MOST_NAMED = 8  # steps or engines, in a remark
At = tuple[int, int]  # seed and step
Rows = Mapping[At, Sequence[Rollout]]


def read_records(path: Path) -> Iterator[Rollout]:
    """The records of a step's file, in its order, texts and all, one in memory at a time. Raises
    Damaged, OSError."""
    elements = read_elements(path)
    summary = parse(next(elements))
    if not isinstance(summary, dict) or "accuracy" not in summary:
        raise Damaged("its first element is not a summary")
    for number, element in enumerate(elements):
        if number >= MOST_RECORDS:
            raise Damaged(f"it holds more than {MOST_RECORDS:,} records")
        try:
            ours = b'"digest"' in element  # in a text its quotation marks would be escaped
            yield from_json(element) if ours else read_published(parse(element), number)
        except UNREADABLE as error:
            raise Damaged(f"record {number}: {first_line(error)}") from error


class ListSize(NamedTuple):
    """The knowledge list in a prompt. tokens: by its share of the prompt's characters, None where
    the record does not say how many tokens the prompt had. prompt: its hash, which tells prompts
    apart that are read by one process."""

    entries: int
    characters: int
    tokens: int | None
    prompt: int


class Identity(NamedTuple):
    """What two files must share to be of the same run."""

    problems: tuple[str, ...]
    golds: tuple[Answer, ...]
    measured: bool


class StepNumbers(NamedTuple):
    """What is kept of a step's file. read_at: its time and size."""

    identity: Identity
    rollouts: tuple[Rollout, ...]
    lists: tuple[ListSize, ...]
    read_at: tuple[int, int]


def look_at(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def read_step(path: Path, answers: AnswerType) -> StepNumbers:
    """Raises Damaged, OSError."""
    read_at = look_at(path)
    rollouts, golds, lists = [], [], []
    for record in read_records(path):
        try:
            golds.append(answers.gold(record.gold))
        except (ValueError, RecursionError) as error:
            raise Damaged(f"the gold answer of {record.id} is {first_line(error)}") from error
        lists.append(max(map(measure_list, record.slots), key=lambda size: size.characters))
        rollouts.append(without_texts(record, NUMBERS))
    if not rollouts:
        raise Damaged("it is not a list of a summary and records")
    problems = tuple(record.id for record in rollouts)
    if len(set(problems)) < len(problems):
        raise Damaged("two records have the same id")
    identity = Identity(problems, tuple(golds), all(map(is_measured, rollouts)))
    return StepNumbers(identity, tuple(rollouts), tuple(lists), read_at)


def measure_list(slot: Rollout) -> ListSize:
    characters = sum([len(entry.text) for entry in slot.knowledge])
    share = characters / max(1, len(slot.question))
    sent = is_measured(slot) and slot.prompt_tokens > 0  # else it was refused
    tokens = round(slot.prompt_tokens * share) if sent else None
    return ListSize(len(slot.knowledge), characters, tokens, hash(slot.question))


def list_remarks(
    folder: Path,
    places: Collection[Place],
    steps: Sequence[int],
    manifest: dict[str, Any] | None,
    rollouts: Rows,
) -> list[str]:
    """What a reader of a run has to know besides its figures. steps: those that every seed has."""
    slots = list_slots(rollouts)
    estimates = sum(bool(slot.estimated) for slot in slots)
    lost = sum(slot.lost_context for slot in slots)
    notes = []
    if estimates:
        of = f"{estimates:,} of {len(slots):,} rollouts"
        notes.append(f"{folder}: token counts of {of} are estimates")
    notes += describe_progress(folder, places, steps, manifest)
    if lost:
        notes.append(
            f"{folder} has {counted(lost, 'rollout')} of {len(slots):,} that continued without "
            "their own reply so far: they were preempted under asynchronous scheduling, which "
            "loses it in vLLM before 0.11.2"
        )
    if engines := name_engines(rollouts):
        notes.append(f"{folder} was resumed with another engine: {engines}")
    found = [part(each, "engine", "findings") for each in part(manifest, "sessions") or ()]
    said = dict.fromkeys(str(words) for each in found if isinstance(each, list) for words in each)
    return notes + [f"{folder}: {words}" for words in said]


def describe_progress(
    folder: Path, places: Collection[Place], steps: Sequence[int], manifest: dict[str, Any] | None
) -> list[str]:
    """Notes on steps that are not there: still to come, or missing in between."""
    most = part(manifest, "settings", "reflex_size")
    journals = {step for place in places for step in place.journals}
    lacking = sorted(set(range(steps[-1])).difference(journals, steps))
    notes = []
    if lacking:
        numbers = ", ".join(map(str, lacking[:MOST_NAMED]))
        noun = "step" if len(lacking) == 1 else "steps"
        notes.append(f"{folder} lacks {noun} {numbers}{', ...' * (len(lacking) > MOST_NAMED)}")
    complete = most == steps[-1] + 1 and not journals  # the last step is there
    if isinstance(most, int) and len(steps) < most and not complete:
        notes.append(f"{folder} is in progress: {len(steps)} of {most} steps are complete")
    elif journals:
        notes.append(f"{folder} is in progress: {counted(len(steps), 'step')} complete")
    return notes


def list_slots(rollouts: Rows) -> list[Rollout]:
    return [slot for row in rollouts.values() for record in row for slot in record.new_slots]


def name_engines(rollouts: Rows) -> str:
    """Which other engines than the run's first have replied, and to how many rollouts; "" for
    none."""
    slots = list_slots(rollouts)
    counts = Counter(slot.engine for slot in slots if slot.engine is not None).most_common()
    names = [f"{name[:200]} ({n:,} of {len(slots):,} rollouts)" for name, n in counts[:MOST_NAMED]]
    return ", ".join(names) + ", ..." * (len(counts) > MOST_NAMED)


# The published code's headings and numbers.
BEFORE_REFERENCE = ("## Empirical Mistakes List", "## Experimental Knowledge List")
AFTER_REFERENCE = "## Wrong Answer List"
REFERENCE = "\n## Reference Solution\n"
ENDS = (REFERENCE, "\n## Instructions\n")
NUMBERED = re.compile(r"(?:\A|\n)[ \t]*\*\*(?:Wrong Answer|EK) \d+\*\*:[ \t]*")
NOTHING = re.compile(r"\W*(n/?a|none|the list is empty)\W*", re.IGNORECASE)
ITEM = re.compile(r"\n+|(?<=[.!?;:])\s+(?=(?:[-*•]|\d{1,2}[.)])\s)")
HARMONY = "<|start|>"


def read_published(record: object, number: int) -> Rollout:
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
    gold, predicted, named = record["gold"], record["predicted"], record.get("id")
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
        id=str(named if isinstance(named, (str, int)) else number),
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
    return tuple(entry for item in entries if (entry := item.strip()))


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
