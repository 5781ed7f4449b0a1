"""PaCoRe, inference only, rule by rule (docs/method.md, section 10)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from helpers import driver
from kflow.method import rollouts_of, within
from kflow.methods.candidates import Candidate
from kflow.methods.pacore import Pacore, Rounds
from kflow.types import Prompt

METHOD: Pacore = driver.method("vllm_qwen_pacore")
SMALL = replace(METHOD, rounds="4,2")
CONTEXT = driver.context(SMALL)


def script(step: int, slot: int, prompt: Prompt) -> str:
    return rf"Hm «no».</think>«{step}.{slot}» is \boxed{{{slot // 3 + step}}}"


def marks(prompt: Prompt) -> list[str]:
    return re.findall(r"^### Candidate \d+\n«(.*?)»", prompt.messages[0].content, re.MULTILINE)


@pytest.mark.parametrize("rounds", ["16", "32,4", "6,6,1"])
def test_a_whole_chain(rounds: str) -> None:
    method = replace(SMALL, rounds=rounds)
    widths = [*map(int, rounds.split(",")), 1]
    assert (method.widths, method.steps) == (tuple(widths), len(widths))
    steps = driver.chain(method, driver.context(method), script, method.steps)
    assert [len(step.prompts) for step in steps] == widths
    for number, step in enumerate(steps[1:], 1):
        everyone = [f"{number - 1}.{slot}" for slot in range(widths[number - 1])]
        for prompt in step.prompts:
            assert sorted(marks(prompt)) == sorted(everyone)
            assert "«no»" not in driver.content(prompt)
            assert (prompt.fraction, prompt.sections) == (0.9, ("Summary", "Answer"))
    orders = {tuple(marks(prompt)) for prompt in steps[1].prompts}
    assert len(orders) == widths[1]  # drawn for each slot
    # The majority of a round, and at the end its one answer.
    assert [step.result.verdict for step in steps] == list(range(len(widths)))


@pytest.mark.parametrize(
    ("replies", "last", "verdict", "skipped"),
    [
        (["r 5", "s 6", "t 6"], ["r 5", "s 6", "t 6"], 6, ""),
        (["r 5", "s 6", "none"], ["r 5", "s 6", "none"], 5, ""),
        ([None, "s 6", None], ["s 6"], 6, "2 of 3 rollouts failed"),
        ([None, None, None], [], None, "3 of 3 rollouts failed"),
    ],
)
def test_a_round(replies: list[str | None], last: list[str], verdict: object, skipped: str) -> None:
    result = driver.fold(SMALL, CONTEXT, Rounds("Q", 0, (Candidate("old", 1),)), *replies)
    assert [each.text for each in result.state.last] == last
    assert (result.state.number, result.verdict) == (1, verdict)
    assert result.note.skipped == skipped


def test_a_round_after_one_that_failed_begins_again() -> None:
    steps = driver.chain(SMALL, CONTEXT, lambda step, *_: None if step == 0 else "r 5", 3)
    assert steps[1].prompts == steps[0].prompts[:2]
    assert len(re.findall("### Candidate", steps[2].prompts[0].messages[0].content)) == 2


def test_a_check_may_ask_more_steps_than_there_are() -> None:
    steps = driver.chain(SMALL, CONTEXT, script, 5)
    assert [len(step.prompts) for step in steps] == [4, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("rollouts", "rounds"),
    [(5, "4"), (17, "16"), (37, "32,4"), (2, "1"), (36, "35"), (40, "35,4"), (64, "56,7")],
)
def test_a_budget_in_rounds(rollouts: int, rounds: str) -> None:
    """The published shapes, and others like them."""
    assert METHOD.rounds == "16"
    method, steps = within(SMALL, rollouts)
    assert method == replace(SMALL, rounds=rounds)
    assert rollouts_of(method, steps) == rollouts


@pytest.mark.parametrize(("rollouts", "steps"), [(7, 3), (64, 3), (6, 0), (1, 0)])
def test_rounds_that_were_chosen_stay(rollouts: int, steps: int) -> None:
    assert within(SMALL, rollouts, {"rounds"}) == (SMALL, steps)
    assert within(SMALL, 1)[1] == 0
