"""Text cut by whole sentences: NLTK's sentences, a budget in tokens, counts remembered."""

from __future__ import annotations

import pytest
from nltk.tokenize.punkt import PunktSentenceTokenizer

from kflow.loop.sentences import TokenMeasure, sentences, tokenizer

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
        pytest.param(TEXT, SPLIT, id="newlines"),
        pytest.param(
            # the example in NLTK's own documentation of the Punkt tokenizer
            "Punkt knows that the periods in Mr. Smith and Johann S. Bach\n"
            "do not mark sentence boundaries.  And sometimes sentences\n"
            "can start with non-capitalized words.  i is a good variable\nname.\n",
            [
                "Punkt knows that the periods in Mr. Smith and Johann S. Bach\n"
                "do not mark sentence boundaries.",
                "And sometimes sentences\ncan start with non-capitalized words.",
                "i is a good variable\nname.",
            ],
            id="NLTK's example",
        ),
        pytest.param(
            # the same, on closing brackets and quotes
            '(How does it deal with this parenthesis?)  "It should be part of the\n'
            'previous sentence." "(And the same with this one.)" (\'And this one!\')\n',
            [
                "(How does it deal with this parenthesis?)",
                '"It should be part of the\nprevious sentence."',
                '"(And the same with this one.)"',
                "('And this one!')",
            ],
            id="NLTK's brackets",
        ),
        pytest.param(
            "Dr. Smith counts 12 cases. He then stops.",
            ["Dr. Smith counts 12 cases.", "He then stops."],
            id="an abbreviation the model knows",
        ),
        pytest.param(
            "Use a bound, e.g. the mean. See Fig. 3 too.",
            ["Use a bound, e.g.", "the mean.", "See Fig.", "3 too."],
            id="abbreviations the model does not know",
        ),
        pytest.param(
            "So n = 3.14 or 2.5 here. Then n = 3. We stop at x=5.Then go.",
            ["So n = 3.14 or 2.5 here.", "Then n = 3.", "We stop at x=5.Then go."],
            id="decimals",
        ),
        pytest.param(
            # what follows decides: a word that starts sentences, or one seen in both cases
            "We go on to 5 p.m. He stops. Take a point A. The line is long.",
            ["We go on to 5 p.m.", "He stops.", "Take a point A.", "The line is long."],
            id="sentence starters",
        ),
        pytest.param(
            "It is 5. Both hold. It is 5. Who asks?",
            ["It is 5.", "Both hold.", "It is 5. Who asks?"],
            id="collocations",
        ),
        pytest.param(
            "Is it 7?! Yes! Is it 8? No.", ["Is it 7?!", "Yes!", "Is it 8?", "No."], id="?!"
        ),
        pytest.param("no end\nat all", ["no end\nat all"], id="no full stop"),
        pytest.param("", [], id="empty"),
        pytest.param(" \n ", [], id="blanks"),
    ],
)
def test_sentences(text: str, split: list[str]) -> None:
    assert sentences(text) == split


def test_the_tokenizer_is_nltks() -> None:
    assert type(tokenizer()) is PunktSentenceTokenizer


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        pytest.param(99, SPLIT, id="all"),
        pytest.param(14, SPLIT, id="all, exactly"),
        pytest.param(13, SPLIT[1:], id="one token short of all"),
        pytest.param(10, SPLIT[1:], id="four, exactly"),
        pytest.param(9, SPLIT[2:], id="one token short of four"),
        pytest.param(4, SPLIT[3:], id="two, exactly"),
        pytest.param(3, SPLIT[4:], id="one token short of two"),
        pytest.param(1, SPLIT[4:], id="the last, exactly"),
        pytest.param(0, [], id="no budget"),
        pytest.param(-1, [], id="less than none"),
    ],
)
def test_last_sentences_within_a_budget(tokens: int, kept: list[str]) -> None:
    assert measure().last_sentences(TEXT, tokens) == " ".join(kept)


def test_a_last_sentence_over_the_budget_gives_nothing() -> None:
    assert measure().last_sentences("Yes. This one is too long.", 4) == ""
    assert measure().last_sentences("one sentence that is too long", 5) == ""


def test_the_cut_stops_at_the_first_sentence_that_does_not_fit() -> None:
    assert measure().last_sentences("Go. This one is too long. Yes.", 3) == "Yes."


def test_empty_text() -> None:
    assert measure().last_sentences("", 5) == ""


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


def test_the_window_and_the_count_are_as_given() -> None:
    assert (measure().window, measure().count("one two")) == (100, 2)
