"""Recursive self-aggregation rule by rule (docs/method.md, section 7)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest

from helpers import driver
from kflow.method import LeftOut
from kflow.methods.candidates import Candidate, View
from kflow.methods.rsa import Population, Rsa
from kflow.types import Prompt

ARMS = ["oss", "qwen"]
METHODS: dict[str, Rsa] = {name: driver.method(f"vllm_{name}_rsa") for name in ARMS}
each = pytest.mark.parametrize("name", ARMS)
SMALL = replace(METHODS["qwen"], rollouts_per_step=4, aggregate=2)
CONTEXT = driver.context(SMALL)


def population(*names: str) -> Population:
    return Population("Q", tuple(Candidate(name, n) for n, name in enumerate(names)))


@each
def test_the_published_sizes(name: str) -> None:
    method = METHODS[name]
    assert (method.rollouts_per_step, method.aggregate) == (16, 4)
    steps = driver.chain(
        method,
        driver.context(method),
        lambda step, slot, _: rf"«{step}.{slot}» \boxed{{{slot % 3}}}",
        3,
    )
    for number, step in enumerate(steps):
        assert len(step.prompts) == 16
        for prompt in step.prompts:
            members = re.findall(r"^«(\d+)\.(\d+)»", driver.content(prompt), re.MULTILINE)
            assert len(set(members)) == (4 if number else 0)
            assert {int(step) for step, _ in members} == ({number - 1} if number else set())
    assert [step.result.verdict for step in steps] == [0, 0, 0]


def test_members_are_drawn_by_the_slots_number() -> None:
    """The order of the members is that of sha256 over the draw and their index."""
    state, draws = population(*"abcd"), [7, 7, 8, 123456789]
    context = replace(CONTEXT, draw=lambda slot: draws[slot])
    views = SMALL.ask(state, context)

    def drawn(draw: int) -> tuple[str, ...]:
        digests = [hashlib.sha256(f"{draw}/{n}".encode()).hexdigest() for n in range(4)]
        return tuple("abcd"[digests.index(digest)] for digest in sorted(digests)[:2])

    assert [view.shown for view in views] == [drawn(draw) for draw in draws]
    assert views == SMALL.ask(state, context)


@pytest.mark.parametrize(
    ("old", "replies", "members", "verdict", "failed"),
    [
        ("ab", [r"x \boxed{1}"] * 4, [r"x \boxed{1}"] * 4, 1, 0),
        ("abcd", [None, "r 5", None, "s 5"], ["r 5", "s 5"], 5, 2),  # K are enough
        # The highest slot fills it up, and came first.
        ("abcd", [None, "r 5", None, None], ["d", "r 5"], 3, 3),
        ("abcd", [None] * 4, ["c", "d"], 2, 4),
        ("", [None] * 4, [], None, 4),
        ("a", ["r 5", "none", "s 6", "t 6"], ["r 5", "none", "s 6", "t 6"], 6, 0),  # the majority
        ("a", ["r 5", "none", "s 6"], ["r 5", "none", "s 6"], 5, 0),  # a tie
    ],
)
def test_the_population(
    old: str, replies: list[str | None], members: list[str], verdict: object, failed: int
) -> None:
    result = driver.fold(SMALL, CONTEXT, population(*old), *replies)
    assert [member.text for member in result.state.members] == members
    assert result.verdict == verdict
    note = f"{failed} of {len(replies)} rollouts failed" if failed else ""
    assert result.note.skipped == note


def test_a_chain_that_lost_all_begins_again() -> None:
    def script(step: int, slot: int, prompt: Prompt) -> str | None:
        return None if step == 0 or (step == 1 and slot) else f"text {slot}"

    steps = driver.chain(SMALL, CONTEXT, script, 3)
    assert steps[0].prompts == steps[1].prompts
    counts = [prompt.messages[0].content.count("### Candidate") for prompt in steps[2].prompts]
    assert counts == [1, 1, 1, 1]


def test_members_are_shown_as_their_visible_answers() -> None:
    steps = driver.chain(SMALL, CONTEXT, lambda *_: "Thought 1.</think>\n\nIt is 2.\n", 2)
    content = steps[1].prompts[0].messages[0].content
    assert "### Candidate 1\nIt is 2.\n\n### Candidate 2\nIt is 2.\n\n" in content
    assert "Thought" not in content
    silent = driver.chain(SMALL, CONTEXT, lambda *_: "Thought 1.</think>\n", 2)
    assert "### Candidate 1\nN/A\n\n" in silent[1].prompts[0].messages[0].content
    assert steps[1].prompts[0].sections == ("Summary", "Answer")


ONE, TWO, LONG = "Ax.", "Ax bx. Cx.", "Ax bx. Cx dx. Ex fx. Gx."
LESS = "Cx dx. Ex fx. Gx."


@pytest.mark.parametrize(
    ("shown", "excess", "kept"),
    [
        pytest.param((ONE, LONG), 1, (ONE, LESS), id="the longest alone"),
        pytest.param((ONE, TWO, LONG), 5, (ONE, "Cx.", "Gx."), id="a short one is whole"),
        pytest.param((ONE, TWO, LONG), 3, (ONE, TWO, "Ex fx. Gx."), id="what it leaves is others'"),
        pytest.param((LONG, ONE), 7, ("", ""), id="one word is no sentence's room"),
        pytest.param((ONE, ONE), 99, ("", ""), id="nothing left"),
    ],
)  # fmt: skip
def test_members_are_cut_to_an_equal_share(
    shown: tuple[str, ...], excess: int, kept: tuple[str, ...]
) -> None:
    smaller = SMALL.shrink(View("Q", shown), excess, CONTEXT)
    assert smaller is not None
    gone = sum(map(driver.words, shown)) - sum(map(driver.words, kept))
    assert smaller == (View("Q", kept), LeftOut(tokens=gone))
    assert gone >= min(excess, sum(map(driver.words, shown)))
    assert [SMALL.shrink(View("Q", none), 1, CONTEXT) for none in ((), ("", ""))] == [None, None]
