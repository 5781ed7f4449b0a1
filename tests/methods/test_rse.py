"""Recycling search experience rule by rule (docs/method.md, section 9)."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from fractions import Fraction

import pytest

from helpers import driver
from helpers.driver import content, headed
from kflow.method import LeftOut, within
from kflow.methods.rse import (
    JSON_LISTS,
    LISTS,
    PITFALLS,
    PROPOSITIONS,
    Item,
    Phase,
    Rse,
    State,
    View,
    distinct,
    read_lists,
)  # fmt: skip
from kflow.sections import pattern
from kflow.types import Prompt

FAMILIES = ["oss", "qwen"]
METHODS: dict[str, Rse] = {name: driver.method(f"vllm_{name}_rse") for name in FAMILIES}
SMALL = replace(METHODS["qwen"], attempts=3)
CONTEXT = driver.context(SMALL)
A, B, C = (Item(PROPOSITIONS, f"prop {letter} holds.") for letter in "abc")
X, Y = (Item(PITFALLS, f"step {letter} fails.") for letter in "xy")


def script(step: int, slot: int, prompt: Prompt) -> str:
    """An attempt that thinks aloud, or its distillation; with marks of step and slot."""
    mark = f"m{step}x{slot}"
    if prompt.asks_answer:
        return rf"Hm {mark}.</think>[Summary]: By {mark}. [Answer]: \boxed{{{slot // 5 + step}}}"
    return (
        f"[Pitfalls]: no. [Propositions]: no.</think>[Propositions]:\n- At {mark} it "
        f"is so.\n- Also n{slot}y{step}.\n[Pitfalls]:\n1. Not by {mark}."
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_whole_chain(name: str) -> None:
    method = METHODS[name]
    assert method.attempts == 8
    steps = driver.chain(method, driver.context(method), script, 7)
    asks = [[prompt.asks_answer for prompt in step.prompts] for step in steps]
    assert asks == [[number % 2 == 0] * 8 for number in range(7)]
    # The majority of eight is that of slots 0 to 4; a distilling step repeats it.
    assert [step.result.verdict for step in steps] == [0, 0, 2, 2, 4, 4, 6]
    assert [step.answers.count(None) for step in steps] == [0, 8, 0, 8, 0, 8, 0]

    for number in (1, 3, 5):
        for slot, prompt in enumerate(steps[number].prompts):
            attempt = headed(content(prompt), "Attempt")
            assert attempt == script(number - 1, slot, steps[0].prompts[0])
            assert (prompt.sections, prompt.shown) == (LISTS, ())
    for number in (2, 4, 6):
        (prompt,) = set(map(content, steps[number].prompts))
        sources = [(step, slot) for step in range(1, number, 2) for slot in range(8)]
        propositions = [
            line
            for step, slot in sources
            for line in (f"At m{step}x{slot} it is so.", f"Also n{slot}y{step}.")
        ]
        pitfalls = [f"Not by m{step}x{slot}." for step, slot in sources]
        assert headed(prompt, "Propositions").splitlines() == [f"- {p}" for p in propositions]
        assert headed(prompt, "Pitfalls").splitlines() == [f"- {p}" for p in pitfalls]
        shown = [entry.text for entry in steps[number].prompts[0].shown]
        assert shown == propositions + pitfalls
        assert steps[number].prompts[0].sections == ("Summary", "Answer")
    added = [entry.text for entry in steps[1].result.note.added]
    assert added[:3] == ["At m1x0 it is so.", "Also n0y1.", "Not by m1x0."]


def as_json(propositions: str, pitfalls: str) -> str:
    return f'{{"{JSON_LISTS[0]}": {propositions}, "{JSON_LISTS[1]}": {pitfalls}}}'


@pytest.mark.parametrize(
    ("visible", "propositions", "pitfalls"),
    [
        pytest.param("[Propositions]: - a\n- b\n[Pitfalls]: - c", "ab", "c", id="hyphens"),
        pytest.param("[Propositions]:\n1. a\n2) b\n[Pitfalls]:\n- c", "ab", "c", id="numbers"),
        pytest.param("**[Propositions]**:\n- a\n**[Pitfalls]**:\n- c", "a", "c", id="markup"),
        pytest.param("[Pitfalls]: • c\n[Propositions]: * a\n– b", "ab", "c", id="reordered"),
        pytest.param("[Pitfalls]: - x\n[Propositions]: - a\n[Pitfalls]: - c", "a", "c", id="last"),
        pytest.param("[Propositions]: - a", "a", "", id="one list alone"),
        pytest.param("[Propositions]: a\nb\n[Pitfalls]: c", "ab", "c", id="lines"),
        pytest.param("[Propositions]: So:\n- a\n[Pitfalls]:\nx\n- c", "a", "c", id="a lead-in"),
        pytest.param("[Propositions]: N/A\n[Pitfalls]: - None.\n- n/a\n- c", "", "c", id="none"),
        pytest.param(as_json('["a", "b"]', '["c"]'), "ab", "c", id="JSON"),
        pytest.param("[Propositions] " + as_json('["a"]', '["c"]'), "a", "c", id="JSON, a header"),
        pytest.param(f"Hm {{1}}:\n```json\n{as_json('[]', '[]')}\n```{{", "", "", id="empty JSON"),
        pytest.param('{"why": {"x": []}, "verified_propositions": ["a"]}', "a", "", id="more JSON"),
        pytest.param(as_json('["a"]', "null") + '{"critical_pitfalls": [', "a", "", id="unended"),
        pytest.param(
            as_json('["x"]', "[]") + as_json('["a", 7, null, ["b"]]', '["c"]'), "a", "c",
            id="the last JSON, its texts alone",
        ),
    ],
)  # fmt: skip
def test_what_a_distillation_says(visible: str, propositions: str, pitfalls: str) -> None:
    expected = [(PROPOSITIONS, text) for text in propositions] + [(PITFALLS, t) for t in pitfalls]
    assert [(item.kind, item.text) for item in read_lists(visible) or ()] == expected
    assert read_lists(visible) is not None


@pytest.mark.parametrize(
    "visible",
    [
        "- a\n- b", '{"verified_propositions": "a"}',
        '{"verified_propositions": [{"statement": "a"}], "critical_pitfalls": []}',
        '{"verified_propositions": [1' + "0" * 5000 + "]}",
        '{"verified_propositions": ' + "[" * 100_000,
    ],
    ids=["no header", "no list", "no text", "long number", "deep"],
)  # fmt: skip
def test_an_unreadable_one_adds_nothing(visible: str) -> None:
    assert read_lists(visible) is None
    state = State("Q", Phase.DISTIL, (A, X), ("one", "two", "three"), 4)
    good = "[Propositions]: - prop b holds."
    result = driver.fold(SMALL, CONTEXT, state, visible, good, None)
    assert result.state == State("Q", Phase.ATTEMPT, (A, X, B), (), 4)
    assert result.verdict == 4
    assert result.note.skipped == "1 of 3 rollouts failed; 1 of 2 replies have no lists"


def test_a_reply_without_end_does_not_fill_the_bank() -> None:
    text = "[Propositions]:" + "".join(f"\n- n{n}" for n in range(50_000))
    state = State("Q", Phase.DISTIL, (), ("one",))
    result = driver.fold(SMALL, CONTEXT, state, text, None, None)
    assert [item.text for item in result.state.bank] == [f"n{n}" for n in range(200)]
    assert "49800 items of replies with more than 200" in result.note.skipped


def test_half_a_character_in_json_does_not_reach_a_file() -> None:
    (item,) = read_lists(as_json(r'["a \ud800 b"]', "[]")) or ()
    assert item.text.encode() == b"a ? b"


def test_latex_in_json_stays_what_it_is() -> None:
    written = as_json(r'["\frac{1}{2} \sqrt 2 \\theta \t x \u00e9"]', "[]")
    (item,) = read_lists(written) or ()
    assert item.text == "\\frac{1}{2} \\sqrt 2 \\theta \t x é"


def test_an_item_holds_what_is_indented_below_it() -> None:
    text = "[Propositions]:\n  - a:\n    - a1\n    more\n  - b\n[Pitfalls]: N/A"
    items = read_lists(text) or ()
    assert [item.text.split() for item in items] == [["a:", "-", "a1", "more"], ["b"]]


def signs(text: str) -> list[str]:
    """Words and single signs, one character after the other."""
    found: list[str] = []
    inside = False
    for letter in text.lower():
        wordlike = letter.isalnum() or letter == "_"
        if wordlike and inside:
            found[-1] += letter
        elif not letter.isspace():
            found.append(letter)
        inside = wordlike
    return found


def within_another(some: list[str], other: list[str]) -> bool:
    return any(other[n : n + len(some)] == some for n in range(len(other) - len(some) + 1))


def like(text: str, kept: str) -> bool:
    some, other = signs(text), signs(kept)
    both = [word for word in set(some) if word in other]
    jaccard = Fraction(len(both), len(set(some + other)))
    return text == kept or within_another(some, other) or jaccard >= Fraction(4, 5)


def brute_force(bank: list[Item], new: list[Item]) -> list[Item]:
    """Take the first of the order that is left and strike all that are like it, until none is."""
    ranked = [(0, -len(i.text), n, i) for n, i in enumerate(new)]
    ranked += [(1, -len(i.text), n, i) for n, i in enumerate(bank)]
    waiting, kept = sorted(ranked, key=lambda each: each[:3]), []
    while waiting:
        best, *waiting = waiting
        kept.append(best)
        waiting = [
            each
            for each in waiting
            if each[3].kind != best[3].kind or not like(each[3].text, best[3].text)
        ]
    return [each[3] for each in sorted(kept, key=lambda each: (-each[0], each[2]))]


@pytest.mark.parametrize("seed", range(150))
def test_likeness_is_what_a_brute_force_pass_finds(seed: int) -> None:
    drawn = random.Random(seed)
    vocabulary = ["x", "y", "=", "-", "1", "12", "even", "odd", "if", "the", "sum", "n_1", "É"]

    def text() -> str:
        words = drawn.choices(vocabulary, k=drawn.randint(1, 9))
        if drawn.random() < 0.3:  # nearly one of the lists below
            words = [f"w{n}" for n in range(10)]
            words[drawn.randrange(10)] = drawn.choice("abc")
            words = words[: drawn.randint(7, 10)]
        joined = drawn.choice([" ", "  ", "\n"]).join(words) + drawn.choice(["", ".", "."])
        return joined.upper() if drawn.random() < 0.2 else joined

    def items(count: int) -> list[Item]:
        return [Item(drawn.choice(LISTS), text()) for _ in range(count)]

    bank, new = items(drawn.randint(0, 15)), items(drawn.randint(0, 25))
    every = [*bank, *new]
    kept = [every[n] for n in distinct(tuple(bank), tuple(new))]
    assert kept == brute_force(bank, new)


def test_what_joins_and_leaves_the_bank_is_noted() -> None:
    state = State("Q", Phase.DISTIL, (A, X, B), ("one",))
    text = "[Propositions]: - so prop a holds.\n- prop c holds.\n[Pitfalls]: - step y fails."
    result = driver.fold(SMALL, CONTEXT, state, text, None, None)
    wider = Item(PROPOSITIONS, "so prop a holds.")
    assert result.state.bank == (X, B, wider, C, Y)
    assert [entry.text for entry in result.note.dropped] == [A.text]
    assert [entry.text for entry in result.note.added] == [wider.text, C.text, Y.text]


@pytest.mark.parametrize(
    ("replies", "verdict", "distilled"),
    [
        (["r 5", "s 6", "t 6"], 6, ["r 5", "s 6", "t 6"]),
        (["r 5", "s 6", "none"], 5, ["r 5", "s 6", "none"]),
        ([None, None, "s 6"], 6, ["s 6", "s 6", "s 6"]),
        (["none", "none", "none"], None, ["none", "none", "none"]),
    ],
    ids=["majority", "a tie", "two failed", "no answer"],
)
def test_the_attempts_of_a_step(
    replies: list[str | None], verdict: object, distilled: list[str]
) -> None:
    result = driver.fold(SMALL, CONTEXT, State("Q", bank=(A,), verdict=3), *replies)
    assert (result.verdict, result.state.bank, result.state.phase) == (verdict, (A,), Phase.DISTIL)
    views = SMALL.ask(result.state, CONTEXT)
    assert [view.attempt for view in views] == distilled
    failed = replies.count(None)
    assert result.note.skipped == (f"{failed} of 3 rollouts failed" if failed else "")


def test_a_step_that_failed_whole_is_tried_again_and_changes_nothing() -> None:
    for state in (State("Q"), State("Q", bank=(A, X), verdict=3)):
        result = SMALL.update(state, (None,) * 3, CONTEXT)
        assert (result.state, result.verdict) == (state, state.verdict)
        assert result.note.skipped == "3 of 3 rollouts failed"
        assert SMALL.ask(result.state, CONTEXT) == SMALL.ask(state, CONTEXT)


def test_without_anything_in_the_bank_the_first_prompt_is_asked_again() -> None:
    steps = driver.chain(SMALL, CONTEXT, lambda *_: "So it is 3.", 3)
    assert steps[2].prompts == steps[0].prompts


def test_a_bank_that_does_not_fit_shows_its_newest_items() -> None:
    view = View("Q", (A, X, B, C, Y))
    for excess, hidden in ((0, 0), (1, 1), (5, 2), (9, 3), (13, 4), (17, 5)):
        text, left_out = driver.fitted(SMALL, view, CONTEXT, excess)
        assert left_out == LeftOut(entries=hidden)
        kept = view.bank[hidden:]
        for kind in LISTS:
            shown = [f"- {item.text}" for item in kept if item.kind == kind]
            assert headed(text, kind) == ("\n".join(shown) or "N/A")
    assert SMALL.shrink(replace(view, hidden=5), 1, CONTEXT) is None
    assert SMALL.shrink(View("Q"), 1, CONTEXT) is None


def test_an_attempt_that_does_not_fit_shows_its_last_sentences() -> None:
    view = View("Q", attempt="Ax bx. Cx dx. Ex.")
    assert headed(driver.fitted(SMALL, view, CONTEXT, 0)[0], "Attempt") == "Ax bx. Cx dx. Ex."
    text, left_out = driver.fitted(SMALL, view, CONTEXT, 1)
    assert (headed(text, "Attempt"), left_out) == ("Cx dx. Ex.", LeftOut(tokens=2))
    assert SMALL.shrink(View("Q", attempt=""), 1, CONTEXT) is None
    assert headed(content(SMALL.render(View("Q", attempt=""), CONTEXT)), "Attempt") == "N/A"


@pytest.mark.parametrize("window", [768, 2048, 131072])
def test_forced_sections_read_back(window: int) -> None:
    prompt = SMALL.render(View("Q", attempt="It is."), replace(CONTEXT, window=window))
    expression = pattern(prompt.sections, window // 2, prompt.forms)
    reply = "[Propositions]: \n- It is so.\n- It is not.\n[Pitfalls]: N/A"
    assert re.fullmatch(expression, reply)
    assert [item.text for item in read_lists(reply) or ()] == ["It is so.", "It is not."]
    assert not re.fullmatch(expression, reply.replace("- It is so.", "It is so."))
    longest = int(re.findall(r"\{5,(\d+)\}", expression)[0])
    assert longest * 5 * 2 <= 2 * max(400, window // 2)  # two characters a token, both lists


@pytest.mark.parametrize(
    ("attempts", "rollouts", "steps"),
    [(8, 64, 7), (8, 56, 7), (8, 55, 5), (8, 16, 1), (8, 8, 1), (8, 7, 0), (1, 5, 5), (1, 4, 3)],
)
def test_a_budget_ends_with_attempts(attempts: int, rollouts: int, steps: int) -> None:
    method = replace(SMALL, attempts=attempts)
    assert within(method, rollouts) == (method, steps)
