"""The record of a rollout: its JSON, its digest, and what a folded step puts into it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from helpers.results_on_disk import ours, wide
from kflow.method import LeftOut, StepNote
from kflow.results.rollout import (
    DIGESTED,
    LATER,
    NUMBERS,
    Outcome,
    Rollout,
    digest_of,
    from_json,
    merge_step,
    outcome_of,
    split,
    summary,
    to_json,
    without_texts,
)
from kflow.types import Entry


def test_every_field_comes_back_from_json() -> None:
    record = ours(
        0, "g", "a", knowledge=(Entry("e", 3),), left_out=LeftOut(1, 2), undecided=(("a", "b"),),
        note=StepNote(added=(Entry("n"),), selected=1), repeats_step=2, carried_tokens=5,
        end_of_thinking="</t>", engine="server", estimated=("prompt_tokens",), preemptions=3,
        lost_context=True, over_budget=True, counted=False,
    )  # fmt: skip
    whole = wide([record, ours(0, "g", "b")], "a")
    assert from_json(to_json(whole)) == whole
    assert from_json(to_json(record)) == record


def test_what_says_nothing_is_absent() -> None:
    written = json.loads(to_json(ours(0, 7, 7)))
    assert not written.keys() & {*LATER, "rollouts", "repeats_step"}
    assert {"predicted", "note", "counted", "failure"} <= written.keys()


@pytest.mark.parametrize(
    "change",
    [{"reply_start": 999}, {"slot": -1}, {"prompt_tokens": 1 << 40}, {"cost": -1.0}],
)
def test_a_record_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        from_json(to_json(ours(0, 7, 7, **change)))


@pytest.mark.parametrize(("family", "mark"), [("gpt_oss", "assistantfinal"), ("x", "</think>")])
def test_the_visible_answer_is_what_follows_the_familys_last_mark(family: str, mark: str) -> None:
    other = "assistantfinal" if mark == "</think>" else "</think>"
    text = rf"a{mark}b{mark}{other}\boxed{{3}}"
    record = ours(0, 3, 3, family=family, pred_solution="carried" + text, reply_start=7)
    assert split(record) == (f"a{mark}b{mark}", rf"{other}\boxed{{3}}")
    assert split(ours(0, 3, 3, family=family, pred_solution="3")) == ("", "3")


def test_the_digest_of_a_record_without_an_engine_is_what_it_was() -> None:
    """As the versions before wrote it."""
    record = ours(0, 7, 7)
    assert record.digest == digest_of(record) == "5bdb873459c03ad3"


@pytest.mark.parametrize("name", [*DIGESTED, *LATER, "question", "pred_solution"])
def test_the_digest_tells_a_change_of_anything_written_before_the_fold(name: str) -> None:
    record = ours(0, 7, 7)
    value = getattr(record, name)
    other = {bool: not value, int: 12345, str: "other"}.get(type(value), ("x",))
    assert digest_of(replace(record, **{name: other})) != record.digest


def test_outcome_is_what_a_journal_and_a_record_agree_on() -> None:
    record = ours(0, 1, 1)
    outcome = Outcome(
        "aime-0", 1, True, StepNote(skipped="the answer did not change"), (1,), (True,)
    )
    assert outcome_of(record) == outcome
    bare = replace(record, verdict=None, verdict_correct=False, note=None)
    assert (outcome_of(bare), merge_step((bare,), outcome)) == (None, record)
    several = wide([ours(0, 1, 1), ours(0, 1, 2)], 1)
    whole = outcome_of(several)
    assert whole is not None
    assert merge_step(several.slots, whole) == several


def test_without_its_texts_a_record_keeps_its_numbers_those_of_its_slots_too() -> None:
    record = wide([ours(0, 1, 1), ours(0, 1, 2)], 1)
    slim = without_texts(record, NUMBERS)
    kept = [each.name for each in fields(Rollout) if each.name not in (*NUMBERS, "rollouts")]
    for one, other in zip((record, *record.slots), (slim, *slim.slots), strict=True):
        assert all(getattr(one, name) == getattr(other, name) for name in kept)
        assert {name: getattr(other, name) for name in NUMBERS} == NUMBERS
    assert record.question
    assert without_texts(record).note == record.note


def test_a_summary_counts_new_rollouts_and_says_what_repeats_saved() -> None:
    stopped = ours(3, 1, 1, repeats_step=0)
    lost = {"preemptions": 1, "lost_context": True}
    records = [
        wide([ours(0, 1, 1), ours(0, 1, None, unreadable_box=True, **lost)], 1),
        ours(1, 1, None, failure="refused", finish_reason=None, completion_tokens=0),
        ours(2, 1, 2, prompt_tokens=300, preemptions=2, finish_reason="length",
             missing_sections=("Answer",)),
        stopped,
    ]  # fmt: skip
    counts = summary(records)
    assert (counts.accuracy, counts.total, counts.correct) == (0.5, 4, 2)
    assert counts.average_prompt_length == (100 + 100 + 300 + 100) / 4
    assert (counts.no_answer, counts.unreadable_box, counts.failed) == (1, 1, 1)
    assert (counts.truncated, counts.missing_sections) == (1, 1)
    assert (counts.preemptions, counts.lost_context) == (3, 1)
    assert (counts.early_stopped, counts.saved_tokens) == (1, stopped.completion_tokens)
    assert (counts.prompt_tokens, counts.completion_tokens) == (600, 3000)
