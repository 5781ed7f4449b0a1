"""A prompt within half of the window, and what is left out for that: METHOD.md, "Deviations"."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from kflow.fitting import Fitted, fit
from kflow.sentences import TokenMeasure, sentences
from kflow.types import Entry, State


def count(text: str) -> int:
    return len(text.split())


def measure(window: int) -> TokenMeasure:
    return TokenMeasure(window, count)


class Words:
    """Renders a state to one id per word: question, entries shown, reference."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, state: State) -> list[int]:
        shown = state.knowledge[state.left_out :]
        texts = [state.question, *(entry.text for entry in shown), state.reference or ""]
        ids = []
        for word in " ".join(texts).split():
            if word not in self.words:
                self.words.append(word)
            ids.append(self.words.index(word))
        return ids

    def read(self, fitted: Fitted | None) -> str | None:
        return None if fitted is None else " ".join(self.words[n] for n in fitted.prompt_ids)


def entries(*texts: str) -> tuple[Entry, ...]:
    return tuple(Entry(text) for text in texts)


FULL = State("q1 q2", entries("a1 a2", "b1 b2 b3", "c1"), "Rx ry. Sx sy sz. Tx.")
WORDS = "q1 q2 a1 a2 b1 b2 b3 c1 Rx ry. Sx sy sz. Tx."


@pytest.mark.parametrize(
    ("window", "shown", "left_out"),
    [
        pytest.param(1000, WORDS, {}, id="room for all"),
        pytest.param(28, WORDS, {}, id="exactly all"),
        pytest.param(27, "q1 q2 b1 b2 b3 c1 Rx ry. Sx sy sz. Tx.", [1, 0], id="half rounds down"),
        pytest.param(26, "q1 q2 b1 b2 b3 c1 Rx ry. Sx sy sz. Tx.", [1, 0], id="the oldest out"),
        pytest.param(24, "q1 q2 b1 b2 b3 c1 Rx ry. Sx sy sz. Tx.", [1, 0], id="the rest exactly"),
        pytest.param(22, "q1 q2 c1 Rx ry. Sx sy sz. Tx.", [2, 0], id="two out"),
        pytest.param(16, "q1 q2 Rx ry. Sx sy sz. Tx.", [3, 0], id="all entries out"),
        pytest.param(14, "q1 q2 Sx sy sz. Tx.", [3, 2], id="the reference cut too"),
        pytest.param(12, "q1 q2 Sx sy sz. Tx.", [3, 2], id="two sentences exactly"),
        pytest.param(10, "q1 q2 Tx.", [3, 5], id="one sentence"),
        pytest.param(6, "q1 q2 Tx.", [3, 5], id="one sentence exactly"),
        pytest.param(5, "q1 q2", [3, 6], id="the question alone"),
        pytest.param(4, "q1 q2", [3, 6], id="the question exactly"),
        pytest.param(3, None, None, id="the question does not fit"),
    ],
)
def test_oldest_entries_first_then_the_reference(
    window: int, shown: str | None, left_out: list[int] | dict[str, object] | None
) -> None:
    words = Words()
    fitted = fit(FULL, words, measure(window))
    assert words.read(fitted) == shown
    if fitted is None:
        return
    names = ("knowledge_entries", "reference_tokens")
    if isinstance(left_out, list):
        left_out = {name: n for name, n in zip(names, left_out, strict=True) if n}
    assert fitted.left_out == left_out


@pytest.mark.parametrize(
    ("state", "window", "shown", "left_out"),
    [
        pytest.param(State("q1 q2 q3"), 6, "q1 q2 q3", {}, id="step 0 fits"),
        pytest.param(State("q1 q2 q3"), 5, None, None, id="step 0 does not fit"),
        pytest.param(
            State("q1", (), "Ax. Bx."), 4, "q1 Bx.", {"reference_tokens": 1}, id="no entries"
        ),
        pytest.param(
            State("q1", (), "ax bx cx"), 6, "q1", {"reference_tokens": 3}, id="one long sentence"
        ),
        pytest.param(
            State("q1", entries("a1 a2")), 4, "q1", {"knowledge_entries": 1}, id="no reference"
        ),
        pytest.param(State("q1 q2", entries("a1"), ""), 2, None, None, id="an empty reference"),
        pytest.param(State("q1 q2 q3", entries("a1"), "Ax."), 5, None, None, id="only a question"),
    ],
)
def test_states_that_lack_something(
    state: State, window: int, shown: str | None, left_out: dict[str, object] | None
) -> None:
    words = Words()
    fitted = fit(state, words, measure(window))
    assert words.read(fitted) == shown
    assert (fitted.left_out if fitted else None) == left_out


def test_a_long_old_entry_does_not_outlive_short_new_ones() -> None:
    state = State("q", entries("a1", "b1 b2 b3 b4", "c1", "d1"))
    words = Words()
    assert words.read(fit(state, words, measure(12))) == "q c1 d1"


def test_a_template_that_costs_more_than_its_parts() -> None:
    """Every sentence of the reference costs one token more in its place than alone."""

    def render(state: State) -> list[int]:
        reference = state.reference or ""
        return [0] * (2 + count(reference) + len(sentences(reference)))

    state = State("q", (), "Ax bx. Cx dx. Ex fx. Gx hx.")
    fitted = fit(state, render, measure(18))
    assert fitted is not None
    assert len(fitted.prompt_ids) == 8
    assert fitted.left_out == {"reference_tokens": 4}


def random_state(rng: random.Random) -> State:
    def text(name: str, words: int) -> str:
        return " ".join(f"{name}x{n}" for n in range(words))

    question = text("q", rng.randint(1, 12))
    knowledge = entries(*(text(f"k{n}", rng.randint(1, 9)) for n in range(rng.randint(0, 8))))
    reference = " ".join(text(f"R{n}", rng.randint(1, 6)) + "." for n in range(rng.randint(0, 6)))
    return State(question, knowledge, rng.choice([None, reference, reference]))


@pytest.mark.parametrize("seed", range(150))
def test_as_much_as_fits_and_no_more(seed: int) -> None:
    rng = random.Random(seed)
    state, window = random_state(rng), rng.randint(2, 120)
    limit, words = window // 2, Words()
    fitted = fit(state, words, measure(window))
    if fitted is None:
        assert count(state.question) > limit
        return
    assert len(fitted.prompt_ids) <= limit
    out = fitted.left_out.get("knowledge_entries", 0)
    cut = fitted.left_out.get("reference_tokens", 0)
    assert isinstance(out, int)
    assert isinstance(cut, int)
    parts = sentences(state.reference or "")
    assert " ".join(parts) == (state.reference or "")
    kept = [" ".join(parts[n:]) for n in range(len(parts) + 1)]
    (first,) = [n for n, text in enumerate(kept) if count(text) == count(kept[0]) - cut]
    shown = replace(state, left_out=out, reference=kept[first] if cut else state.reference)
    assert fitted.shown == shown
    assert list(fitted.prompt_ids) == words(shown)
    if cut:
        assert out == len(state.knowledge)
        assert len(words(replace(shown, reference=kept[first - 1]))) > limit
    elif out:
        assert len(words(replace(shown, left_out=out - 1))) > limit
