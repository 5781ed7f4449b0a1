"""Text cut by whole sentences: NLTK's sentences, a budget in tokens, counts remembered."""

from __future__ import annotations

import pytest

from kflow.loop.sentences import TokenMeasure, sentences

TEXT = "Add one and two.\nThat is three. Then\ndouble it!  Is it six? Yes."
SPLIT = ["Add one and two.", "That is three.", "Then\ndouble it!", "Is it six?", "Yes."]


class WordCounter:
    """Counts words, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, text: str) -> int:
        self.asked.append(text)
        return len(text.split())


def measure(counter: WordCounter | None = None) -> TokenMeasure:
    return TokenMeasure(100, counter or WordCounter())


@pytest.mark.parametrize(
    ("text", "split"),
    [
        (TEXT, SPLIT),
        (  # the examples in NLTK's own documentation of the Punkt tokenizer
            "Punkt knows that the periods in Mr. Smith and Johann S. Bach\n"
            "do not mark sentence boundaries.  And sometimes sentences\n"
            "can start with non-capitalized words.  i is a good variable\nname.\n",
            [
                "Punkt knows that the periods in Mr. Smith and Johann S. Bach\n"
                "do not mark sentence boundaries.",
                "And sometimes sentences\ncan start with non-capitalized words.",
                "i is a good variable\nname.",
            ],
        ),
        (
            '(How does it deal with this parenthesis?)  "It should be part of the\n'
            'previous sentence." "(And the same with this one.)" (\'And this one!\')\n',
            [
                "(How does it deal with this parenthesis?)",
                '"It should be part of the\nprevious sentence."',
                '"(And the same with this one.)"',
                "('And this one!')",
            ],
        ),
        (  # abbreviations that the model knows and does not know
            "Dr. Smith uses a bound, e.g. the mean. See Fig. 3 too.",
            ["Dr. Smith uses a bound, e.g.", "the mean.", "See Fig.", "3 too."],
        ),
        (
            "So n = 3.14 or 2.5 here. Then n = 3. We stop at x=5.Then go.",
            ["So n = 3.14 or 2.5 here.", "Then n = 3.", "We stop at x=5.Then go."],
        ),
        (  # what follows decides: a word that starts sentences, or one seen in both cases
            "We go on to 5 p.m. He stops. Take a point A. The line is long.",
            ["We go on to 5 p.m.", "He stops.", "Take a point A.", "The line is long."],
        ),
        # collocations
        (
            "It is 5. Both hold. It is 5. Who asks?",
            ["It is 5.", "Both hold.", "It is 5. Who asks?"],
        ),
        ("no end\nat all", ["no end\nat all"]),
        (" \n ", []),
    ],
)
def test_sentences(text: str, split: list[str]) -> None:
    assert sentences(text) == split


@pytest.mark.parametrize(
    ("text", "tokens", "kept"),
    [
        (TEXT, 14, SPLIT),
        (TEXT, 13, SPLIT[1:]),
        (TEXT, 10, SPLIT[1:]),
        (TEXT, 9, SPLIT[2:]),
        (TEXT, 1, SPLIT[4:]),
        (TEXT, 0, []),
        (TEXT, -1, []),
        ("", 5, []),
        ("Yes. This one is too long.", 4, []),
        ("Go. This one is too long. Yes.", 3, ["Yes."]),
    ],
)
def test_last_sentences_within_a_budget(text: str, tokens: int, kept: list[str]) -> None:
    assert measure().last_sentences(text, tokens) == " ".join(kept)


def test_each_distinct_sentence_is_counted_once() -> None:
    counter = WordCounter()
    growing = measure(counter)
    text = ""
    for number in range(1, 21):
        text += f"This is step {number}. It works. "
        assert growing.last_sentences(text, 1000) == text.strip()
    assert sorted(counter.asked) == sorted(
        ["It works.", *(f"This is step {number}." for number in range(1, 21))]
    )


def test_what_is_not_reached_is_not_counted() -> None:
    counter = WordCounter()
    text = " ".join(f"This is step {number}." for number in range(100))
    assert measure(counter).last_sentences(text, 8) == "This is step 98. This is step 99."
    assert counter.asked == [f"This is step {number}." for number in (99, 98, 97)]
