"""A prompt within half of the window, and what is left out for that: docs/method.md,
"Deviations"."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest

from helpers import driver
from helpers.driver import content, words
from kflow.loop.fit import Fitted, fit
from kflow.loop.sentences import TokenMeasure, sentences
from kflow.method import LeftOut
from kflow.methods.mistakes import Mistakes
from kflow.methods.notes import NUMBERING, Notes, cut, empty
from kflow.types import Entry, Message, Prompt

METHOD: Mistakes = driver.method("vllm_kflow_qwen")


@dataclass(frozen=True)
class Bare(Mistakes):
    """Notes as their bare texts: question, entries shown, reference."""

    def render(self, view: Notes, context: object) -> Prompt:
        texts = [view.question, *(entry.text for entry in view.shown), view.reference or ""]
        return Prompt((Message("user", " ".join(" ".join(texts).split())),), 0.9)


BARE = Bare("oss_mistakes_first", "oss_mistakes_later", "", str.join, 1, METHOD.rule, True)
CONTEXT = driver.context(BARE)


def fitted(notes: Notes, window: int) -> Fitted:
    def render(prompt: Prompt) -> list[int]:
        return [0] * words(content(prompt))

    return fit(BARE, notes, replace(CONTEXT, window=window), render)


def entries(*texts: str) -> tuple[Entry, ...]:
    return tuple(Entry(text) for text in texts)


FULL = Notes("q1 q2", entries("a1 a2", "b1 b2 b3", "c1"), "Rx ry. Sx sy sz. Tx.")
WORDS = "q1 q2 a1 a2 b1 b2 b3 c1 Rx ry. Sx sy sz. Tx."


@pytest.mark.parametrize(
    ("window", "shown", "left_out"),
    [
        (28, WORDS, (0, 0)),
        (27, "q1 q2 b1 b2 b3 c1 Rx ry. Sx sy sz. Tx.", (1, 0)),
        (22, "q1 q2 c1 Rx ry. Sx sy sz. Tx.", (2, 0)),
        (16, "q1 q2 Rx ry. Sx sy sz. Tx.", (3, 0)),
        (14, "q1 q2 Sx sy sz. Tx.", (3, 2)),
        (6, "q1 q2 Tx.", (3, 5)),
        (4, "q1 q2", (3, 6)),
    ],
)
def test_oldest_entries_first_then_the_reference(
    window: int, shown: str, left_out: tuple[int, int]
) -> None:
    result = fitted(FULL, window)
    assert (content(result.prompt), result.left_out) == (shown, LeftOut(*left_out))
    assert result.fits
    assert len(result.ids) == words(shown)


def test_a_question_that_does_not_fit() -> None:
    result = fitted(Notes("q1 q2 q3", entries("a1"), "Rx ry."), 5)
    assert not result.fits
    assert content(result.prompt) == "q1 q2 q3"


def test_a_long_old_entry_does_not_outlive_short_new_ones() -> None:
    notes = Notes("q", entries("a1", "b1 b2 b3 b4", "c1", "d1"))
    assert content(fitted(notes, 12).prompt) == "q c1 d1"


def test_cut_ends_where_sentences_cost_less_alone_than_joined() -> None:
    """Every blank is a token too, so that the sentences of a text sum to less than the text."""
    context = driver.context(METHOD, count=lambda text: 2 * words(text))
    blanks = replace(context, count=lambda text: 2 * words(text) + text.count(" "))
    assert cut("Ax bx. Cx dx. Ex.", 1, blanks) == ("Cx dx. Ex.", 6)
    assert cut("x " * 50, 2, blanks) == ("", 150)
    one = replace(context, count=lambda text: words(text) + text.count(" "))
    four = replace(one, last_sentences=TokenMeasure(0, one.count).last_sentences)
    assert cut("Ax bx. Cx dx. Ex fx. Gx hx.", 5, four) == ("Ex fx. Gx hx.", 8)


def test_cut_needs_few_tries() -> None:
    """Each try reads the whole text, so that there must not be one for every token."""
    long = "x " * 999 + "end."
    tries = []

    def last_sentences(text: str, tokens: int) -> str:
        tries.append(tokens)
        return TokenMeasure(0, words).last_sentences(text, tokens)

    blanks = replace(CONTEXT, count=lambda text: words(text) + text.count(" "))
    context = replace(blanks, last_sentences=last_sentences)
    assert cut(f"{long} {long}", 1, context) == (long, 2000)
    assert len(tries) < 15


@pytest.mark.parametrize(
    ("text", "says_nothing"),
    [("", True), (" .*- ", True), ("N/A", True), ("**na**.", True), ("No", False), ("n a", False)],
)
def test_empty(text: str, says_nothing: bool) -> None:
    assert empty(text) is says_nothing
    assert empty(text + "*" * 200_000) is says_nothing


def random_notes(rng: random.Random) -> Notes:
    def text(name: str, length: int) -> str:
        return " ".join(f"{name}x{n}" for n in range(length))

    question = text("q", rng.randint(1, 12))
    knowledge = entries(*(text(f"k{n}", rng.randint(1, 40)) for n in range(rng.randint(0, 8))))
    reference = " ".join(text(f"R{n}", rng.randint(1, 6)) + "." for n in range(rng.randint(0, 6)))
    return Notes(question, knowledge, rng.choice([None, reference, reference]))


@pytest.mark.parametrize("seed", range(150))
def test_as_much_as_fits_and_no_more(seed: int) -> None:
    rng = random.Random(seed)
    notes, window = random_notes(rng), rng.randint(2, 300)
    limit = window // 2
    result = fitted(notes, window)
    assert result.fits == (words(notes.question) <= limit)
    if not result.fits:
        return
    parts = sentences(notes.reference or "")
    kept = [" ".join(parts[n:]) for n in range(len(parts) + 1)]
    length = words(notes.reference or "")
    (first,) = (n for n, text in enumerate(kept) if words(text) == length - result.left_out.tokens)

    def shown(hidden: int, start: int) -> str:
        return content(BARE.render(replace(notes, hidden=hidden, reference=kept[start]), CONTEXT))

    out = result.left_out.entries
    assert content(result.prompt) == shown(out, first)
    assert words(shown(out, first)) <= limit
    if first:
        assert out == len(notes.entries)
        assert words(shown(out, first - 1)) > limit
    elif out:
        assert words(shown(out - 1, 0)) > limit


def test_an_entry_takes_less_than_what_is_allowed_for_its_number() -> None:
    longest = Notes("q", entries(*"x" * 999), "r")
    context = driver.context(METHOD, count=len)
    texts = [content(METHOD.render(replace(longest, hidden=n), context)) for n in (0, 1)]
    # Characters, of which there are more than tokens.
    assert len(texts[0]) - len(texts[1]) <= 2 * NUMBERING
