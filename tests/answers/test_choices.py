"""Choices: what is extracted."""

from __future__ import annotations

import pytest

from kflow.answers import AnswerType, Choice, Expression, Integer, Rule, by_name

FIRST, LAST = Rule(first=True, fallback=False), Rule(first=False, fallback=True)


@pytest.mark.parametrize(
    ("box", "letter"),
    [
        (" b ", "B"),
        ("B.", "B"),
        (r"\textbf{(B)}", "B"),
        (r"\text{ (B) }", "B"),
        ("$B$", "B"),
        ("**B**", "B"),
        ("(B) the highest point", "B"),
        (r"\text{B: it is 12}", "B"),
        (r"\text{B}\ 12", "B"),
        ("Option B", "B"),
        (r"The correct answer is \textbf{(B)}", "B"),
        ("B – 12 volts", "B"),
        ("B (12 volts)", "B"),
        (r"\(B\)", "B"),
        (r"\text{Option }B", "B"),
        (r"\textbf{Answer: } B", "B"),
        (r"\,B\,", "B"),
        ("~B", "B"),
        (r"B\text{ (12 V)}", "B"),
        ("B = the highest point", "B"),
        *((none, None) for none in ("", "letter", "E", "AB", "A, B", r"\text{Both}", "B or C")),
        *((none, None) for none in (r"\alpha", "B12", "A - B", "B(x)", "Option E", "A volt")),
        # Mathematics, not a choice.
        *(
            (none, None)
            for none in (
                r"\sqrt{b}",
                r"A = \pi r^2",
                "a - 12",
                r"\frac{a}{b}",
                r"\vec{B}",
                "a = 12",
                "d = 0.5 nm",
            )
        ),
    ],
)
def test_a_boxed_letter(box: str, letter: str | None) -> None:
    assert Choice().extract(rf"so \boxed{{{box}}}.", FIRST) == letter


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        (r"\boxed{A} or \boxed{C}", "A", "C"),
        (r"\boxed{A}, then D", "A", "A"),
        (r"\boxed{letter} is \boxed{C}, \boxed{5}", "C", "C"),
        ("first A, then (C).", None, "C"),
        ("option C_1 of B's, not CD or x-ray Bx", None, None),
        (r"\C and d", None, None),
        ("Answer: B (energy E)", None, "B"),
        (r"\boxed{E} and B", None, "B"),
    ],
)
def test_first_and_last_and_alone(text: str, first: str | None, last: str | None) -> None:
    assert (Choice().extract(text, FIRST), Choice().extract(text, LAST)) == (first, last)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        # Named as the answer, choice or option.
        ("My choice is C, since I added both charges.", "C"),
        ("The answer is A because it fits.", "A"),
        ("**Answer:** C\n\nI hope that helps.", "C"),
        ("Final Answer\n\n**C**", "C"),
        ("The answer must therefore be G.", "G"),
        ("Option C fits. Option D is wrong.", "C"),
        ("So C is the only correct option. (D) is too small.", "C"),
        ("Option A gives 3. Option B gives 5. (C) does not matter.", "B"),
        ("The answer is not B. It is (D).", "D"),
        ("The answer I found is D, and that was hard. A sphere is round.", "D"),
        ("the correct choice: \\textbf{(D)}; see E", "D"),
        # In brackets, bold or alone on its line.
        ("It must be (C). I see no other way.", "C"),
        ("It is **D** after all. So much for E and F.", "D"),
        ("I think\nB\nA long story", "B"),
        ("By P(A) and f(B) it is [D], I guess", "D"),
        # A capital that is no word of its sentence.
        ("hence E", "E"),
        ("Thus D holds. A sphere is round. I am sure.", "D"),
        ("It can only be I.", "I"),
        ("I am sure. A dog barks.", None),
        ("That is all that I, a model, can say", None),
    ],
)
def test_without_a_box_the_letter_is_the_one_that_is_named(text: str, letter: str | None) -> None:
    assert Choice(10).extract(text, LAST) == letter
    assert Choice(10).extract(text, FIRST) is None


@pytest.mark.parametrize(
    "text", ["A " * 50_000, "answer " * 20_000, "(A) " * 30_000, "Option A is not " * 9_000]
)
def test_long_replies_are_read_in_one_pass(text: str) -> None:
    Choice(10).extract(text, LAST)


def test_the_gold_letters_say_how_many_choices_there_are() -> None:
    counts = [["A", "B"], ["(D)"], ["a", "g"], ["J"], ["K", 3, None], []]
    assert [Choice().fitted(raws).count for raws in counts] == [4, 4, 7, 10, 4, 4]


def test_ten_choices() -> None:
    assert Choice(10).extract(r"\boxed{J} \boxed{K}", LAST) == "J"
    assert Choice(10).extract("it is G", LAST) == "G"
    assert Choice().extract("it is G", LAST) is None


@pytest.mark.parametrize(("raw", "gold"), [("d", "D"), ("(C)", "C"), (" A. ", "A")])
def test_gold_letters(raw: str, gold: str) -> None:
    assert Choice().gold(raw) == gold
    assert Choice().same(gold, gold)
    assert not Choice().same(gold, "E")


@pytest.mark.parametrize("raw", ["", "E", 2, None, "Argon"])
def test_other_gold_values_are_refused(raw: object) -> None:
    with pytest.raises(ValueError, match="from A to D"):
        Choice().gold(raw)


@pytest.mark.parametrize("kind", [Integer(), Expression(), Choice(), Choice(2), Choice(10)])
def test_a_type_is_found_by_its_name(kind: AnswerType) -> None:
    assert by_name(kind.name) == kind


@pytest.mark.parametrize("name", ["", "choice_1", "choice_11", "Integer"])
def test_other_names_are_no_types(name: str) -> None:
    with pytest.raises(ValueError, match="is not an answer type"):
        by_name(name)
