"""Whether two expressions are equal, by proof.

math-verify compares numbers to 15 digits and decimals to 6 places, which makes 1/2^60 and 1/2^59
one. Digits serve here to tell apart, never to call the same.
"""

from __future__ import annotations

from typing import Any

import sympy
from sympy.concrete.expr_with_limits import ExprWithLimits
from sympy.core.function import AppliedUndef
from sympy.matrices import MatrixBase

DIGITS = 30
# Where expressions in variables are tried: positive, since roots and logarithms may be there.
PLACES = [sympy.Rational(n, 101) for n in (137, 251, 353, 463, 571, 677, 787, 883, 997)]
PERCENT = sympy.UnevaluatedExpr(sympy.Rational(1, 100))


def equal(first: Any, second: Any) -> bool | None:
    """Whether two expressions or matrices are equal; None where digits do not tell them apart and
    no proof was found."""
    first, second = evaluated(first), evaluated(second)
    if isinstance(first, MatrixBase) and isinstance(second, MatrixBase):
        if first.shape != second.shape:
            return False
        same = [equal(a, b) for a, b in zip(first.flat(), second.flat(), strict=True)]
        return False if False in same else None if None in same else True
    if first == second:
        return True
    if not (isinstance(first, sympy.Expr) and isinstance(second, sympy.Expr)):
        return False
    difference = first - second
    if difference.is_Rational or differs(difference):
        return bool(difference == 0)
    for prove in (sympy.expand, sympy.radsimp, sympy.simplify):
        if prove(difference) == 0:
            return True
    zero = difference.equals(0)  # by a minimal polynomial, where the number is algebraic
    return None if zero is None else bool(zero)


def evaluated(expression: Any) -> Any:
    """With decimals as the fractions that they are, i as the imaginary unit, and everything carried
    out."""
    # math-verify takes the variables of one expression for real and another's not.
    exact: dict[Any, Any] = {
        **{symbol: sympy.Symbol(symbol.name, real=True) for symbol in expression.free_symbols},
        **{number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)},
    }
    if not expression.atoms(ExprWithLimits):  # there it may be an index
        exact |= {symbol: sympy.I for symbol in exact if str(symbol) == "i"}
    expression = expression.xreplace(exact)
    try:
        return expression.doit()
    except Exception:  # whatever sympy cannot carry out stays as it is
        return expression


def differs(difference: sympy.Expr) -> bool:
    """Whether digits show that a difference is not zero."""
    unknown = sorted(difference.free_symbols | difference.atoms(AppliedUndef), key=str)
    if len(unknown) > len(PLACES):
        return False
    value = difference.subs(dict(zip(unknown, PLACES, strict=False))).evalf(DIGITS)
    return bool(value.is_number and value.is_finite and significant(value))


def significant(value: sympy.Expr) -> bool:
    """Whether a part of the number is known to be other than zero."""
    return any(part.is_Float and part != 0 and part._prec > 1 for part in value.as_real_imag())


def percent(number: sympy.Expr) -> sympy.Expr:
    """The number with a percent sign behind it, as math-verify has it."""
    return sympy.Mul(number, PERCENT, evaluate=False)


def percentage(expression: Any) -> Any:
    """The number before a percent sign, or the expression itself."""
    if isinstance(expression, sympy.Mul) and expression.args[1:] == (PERCENT,):
        return expression.args[0]
    return expression
