r"""What compares two expressions: math-verify, gold first. Loaded in `worker`'s process alone.

Importing it compares one pair of each kind, which loads and warms what comparing needs.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache, partial
from typing import Any

from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import LatexExtractionConfig, grader, parser
from math_verify.parser import NormalizationConfig
from sympy import Expr

from kflow.answers import exact, notation

WARM = (
    (r"\frac{\sqrt{3}}{2}", r"\cos\frac{\pi}{6}"),
    (r"x^2+2x+1", r"(x+1)^2"),
    (r"\{1, 2\}", r"(1, 2]"),
    (r"x = 3", r"x \le 2.5\%"),
    (r"\begin{pmatrix}1 & 2\end{pmatrix}", r"\binom{5}{2} + 3! + \log_2 8 - i"),
    (r"(-\infty, 2) \cup [3, 7)", r"\text{none}"),
)
CONFIG = LatexExtractionConfig(
    boxed_match_priority=0,
    # Units are read by `notation`: to math-verify, 2h is two hours, and so is 2t.
    normalization_config=NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True
    ),
)
unproven: list[object] = []


def same(gold: str, other: str) -> bool | None:
    """Whether they are the same; None where all digits agree and no proof is found.

    Raises ValueError, MemoryError, RecursionError, ...
    """
    first, second = notation.read(gold), notation.read(other)
    if first.contradicts(second):
        return False
    unproven.clear()
    pair = parsed(first.text), parsed(second.text)
    equations = [grader.is_equation(found[0]) for found in pair]
    if equations == [False, True] and not states_a_value(pair[1][0]):
        return False
    if grader.verify(*pair, allow_set_relation_comp=True, timeout_seconds=None):
        return True
    return None if unproven else False


def states_a_value(equation: Any) -> bool:
    """Whether it says what something is, so that its last side may stand for it: x = 3, f(2) = 3,
    1 + 2 = 3. That 2x = 3 does not make it 3."""
    first = grader.take_first_relation(equation)
    return grader.is_assignment_relation(equation) or not first.lhs.free_symbols


@lru_cache(1000)
def parsed(text: str) -> list[object]:
    """The expression, then its normalised text, which is all there is where it cannot be parsed."""
    if not notation.balanced(text):  # its box would end too early
        return ["".join(text.split())]
    number = re.sub(r"\s*\\?%$", "", text)
    # The box or nothing: any_match takes a fraction out of what it cannot read for the whole of it.
    found = parser.parse(
        rf"\boxed{{{number}}}", [CONFIG], extraction_mode="first_match", parsing_timeout=None
    ) or [""]
    if number != text:  # math-verify has no percentages of fractions
        found = [exact.percent(each) if isinstance(each, Expr) else f"{each}%" for each in found]
    return ["".join(each.split()) if isinstance(each, str) else each for each in found]


def equal(first: Any, second: Any, *_: object) -> bool:
    """In the place of math-verify's comparison of two expressions by digits.

    50% is 0.5 and, since a question may ask for the percentage, 50.
    """
    if exact.percentage(first) != first or exact.percentage(second) != second:
        plain = exact.percentage(first), exact.percentage(second)
        if all(exact.evaluated(number).is_Rational for number in plain) and exact.equal(*plain):
            return True
    proved = exact.equal(first, second)
    if proved is None:
        unproven.append((first, second))
    return proved is True


def solved(first: Any, second: Any, *rest: Any) -> bool:
    """Whether two equations have the same solutions, and not none in different unknowns."""
    unknowns = ({symbol.name for symbol in each.free_symbols} for each in (first, second))
    return next(unknowns) == next(unknowns) and bool(solve_and_compare(first, second, *rest))


try:
    solve_and_compare = grader.sympy_solve_and_compare
    _replaced = grader.sympy_numeric_eq, grader.sympy_symbolic_eq
except AttributeError as error:
    raise ImportError("this math-verify compares in other places") from error
grader.sympy_solve_and_compare = solved
grader.sympy_numeric_eq = equal
grader.sympy_symbolic_eq = lambda first, second: False  # nothing is left to it
# A and a are two variables.
parser.latex2sympy = partial(
    parser.latex2sympy, conversion_config=ConversionConfig(lowercase_symbols=False)
)
logging.disable()
for _gold, _other in WARM:
    same(_gold, _other)
