r"""How people and models write mathematics, put into the LaTeX that math-verify reads.

Only what can mean one thing is rewritten; what is left is math-verify's to read or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Rewrite = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

# What surrounds a whole answer without being part of it.
WRAPPERS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\*\*([^*]+)\*\*",
        r"`([^`]+)`",
        r"\$\$?([^$]+)\$\$?",
        r"\\\((.+)\\\)",
        r"\\\[(.+)\\\]",
    )
)
SENTENCE_END = re.compile(r"(?:(?<![\\.])\.(?!\.)|(?<!\\)[,;:\s])+$")  # not an ellipsis

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ", "0123456789+-()nx")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
FRACTIONS = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
    "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
SYMBOLS = {
    "−": "-", "⁄": "/", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ",
    "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "±": r"\pm ", "∓": r"\mp ",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "∅": r"\emptyset ", r"\varnothing": r"\emptyset ",
    **{sign: r"\frac{{{}}}{{{}}}".format(*parts.split("/")) for sign, parts in FRACTIONS.items()},
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2008\u2009\u200a\u202f\u205f", r"\,"),
    **dict.fromkeys("\u200b\u2060\ufeff", ""),
}  # fmt: skip
THIN = r"(?:(?<!\\)\\[,;:! ]|~)"
DEGREE = r"\^\s*(?:\\circ|\{\s*\\circ\s*\})"


def repeating(match: re.Match[str]) -> str:
    whole, lead, period = match[1], match[2], match[3] or match[4]
    nines = 10 ** len(lead) * (10 ** len(period) - 1)
    return rf"\frac{{{int(whole + lead + period) - int(whole + lead or '0')}}}{{{nines}}}"


def falling(match: re.Match[str]) -> str:
    left, above, middle, below, right = match.groups()
    low, high = ("<" if sign == ">" else r"\le " for sign in (below, above))
    return f"{right}{low}{middle}{high}{left}"


REWRITES: tuple[Rewrite, ...] = (
    (
        re.compile(f"[{''.join(map(chr, SUPERSCRIPTS))}]+"),
        lambda m: f"^{{{m[0].translate(SUPERSCRIPTS)}}}",
    ),
    (
        re.compile(f"[{''.join(map(chr, SUBSCRIPTS))}]+"),
        lambda m: f"_{{{m[0].translate(SUBSCRIPTS)}}}",
    ),
    (re.compile("|".join(map(re.escape, SYMBOLS))), lambda m: SYMBOLS[m[0]]),
    (re.compile(r"(?<![\w)}])–"), "-"),  # behind a number it may say "to"
    (re.compile(r"√\s*(?:\(([^()]*)\)|(\d+|[A-Za-z]))"), lambda m: rf"\sqrt{{{m[1] or m[2]}}}"),
    # What changes the look alone.
    (re.compile(r"\\(?:left|right)(?![A-Za-z])\.?"), ""),
    (re.compile(r"\\(?:[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:boxed|bm|boldsymbol|pmb|mathbf|mathsf|mathit)\s*(?=\{)"), ""),
    # 1{,}000, 1,\!000, 1\,000 and 1 000.
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3}(?!\d))"), ""),
    (
        re.compile(
            rf"(?<![\d.])\d{{1,3}}(?:{THIN}\d{{3}})+(?!\d)"
            r"|(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d/])"
        ),
        lambda m: re.sub(r"\D", "", m[0]),
    ),
    (re.compile(THIN), " "),
    # 2 1/3, and then what is left of spaces between digits means nothing in LaTeX.
    (re.compile(r"(?<![\d.,/])(\d+) (\d+)\s*/\s*(\d+)(?![\d/])"), r"\1\\frac{\2}{\3}"),
    (re.compile(r"(?<=\d) +(?=\d)"), ""),
    (
        re.compile(
            r",?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z}]))\s*"
        ),
        ", ",
    ),
    # y', whose prime math-verify drops, and the th of 5th.
    (re.compile(r"(?<![A-Za-z])([A-Za-z])('+)"), lambda m: rf"{m[1]}_{{prime{len(m[2])}}}"),
    (
        re.compile(r"(?<=\d)\s*(?:\^\s*\{?)?\\(?:text|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\}?"),
        "",
    ),
    # 3 percent, whose word would pass for a unit.
    (
        re.compile(
            r"(?<=[\d}])\s*(?:\\(?:text|mbox|mathrm|textrm)\s*\{\s*percent\s*\}|percent)\s*$"
        ),
        r"\\%",
    ),
    # 0.1\overline{6}
    (re.compile(r"(\d*)\.(\d*)\s*\\(?:overline|bar|dot)\s*(?:\{\s*(\d+)\s*\}|(\d))"), repeating),
    # \sin 30^\circ, whose degrees math-verify drops.
    (
        re.compile(
            r"(\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{?\d+\}?)?)\s*"
            rf"(?:\(\s*(-?\d+(?:\.\d+)?)\s*{DEGREE}\s*\)|\{{?(\d+(?:\.\d+)?)\s*{DEGREE}\}}?)"
        ),
        lambda m: rf"{m[1]}(\frac{{{m[2] or m[3]}\pi}}{{180}})",
    ),
    # 2(3), which to math-verify is a mixed number.
    (re.compile(r"((?<![\w.\\^}])\d+(?:\.\d+)?|\))\s*(?=\()"), r"\1\\cdot "),
)
GREATER = r"(>|\\geq?(?![A-Za-z]))"
WHOLE: tuple[Rewrite, ...] = (
    # {x | x < 2}
    (
        re.compile(
            r"\\\{\s*[A-Za-z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid|\\vert|\||:)(.+)\\\}",
            re.DOTALL,
        ),
        lambda m: m[1].strip(),
    ),
    # 6 > x > 2
    (re.compile(rf"([^<>=]+?){GREATER}([^<>=]+?){GREATER}([^<>=]+)"), falling),
    # 2:3:5, which to math-verify is 2/15.
    (
        re.compile(r"[^:=<>|{}]+(?::[^:=<>|{}]+){2,}"),
        lambda m: f"({m[0].replace(':', ',')})",
    ),
)
# 77_8, and 1A3_{16}
BASE = re.compile(
    r"(?<![A-Za-z\d.\\^])(?:(\d+)_\s*(?:\{\s*(?:\\text\{)?\s*(\w+)\s*\}?\s*\}|(\d))"
    r"|(\d[\dA-Z]*)_\s*\{\s*(1[1-9]|2\d|3[0-6])\s*\})"
)


@dataclass(frozen=True)
class Written:
    """An answer as it is compared.

    text: LaTeX.
    bases: the subscripts of its numbers.
    unit: of measurement, where one that is known is stated.
    ends: the brackets around a pair or an interval.
    items: how many a list without brackets has, and those that it has more than once.
    """

    text: str
    bases: tuple[str, ...] = ()
    unit: str = ""
    ends: str = ""
    items: tuple[object, ...] = ()

    def contradicts(self, other: Written) -> bool:
        """Whether both state bases, units, brackets or items, and these are not the same."""
        mine = (self.bases, self.unit, self.ends, self.items)
        others = (other.bases, other.unit, other.ends, other.items)
        return any(m and o and m != o for m, o in zip(mine, others, strict=True))


def read(text: str) -> Written:
    """An answer's content, without what is around it, in math-verify's notation."""
    text = unwrapped(text)
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    text, unit = without_unit(text)
    for pattern, replacement in WHOLE:
        text = pattern.sub(replacement, text) if pattern.fullmatch(text) else text
    bases = tuple(m[2] or m[3] or m[5] for m in BASE.finditer(text))
    text = BASE.sub(lambda m: m[1] or rf"\text{{{m[4]}}}", text)
    pair = text[:1] in tuple("([") and text[-1:] in tuple(")]") and len(split(text[1:-1])) == 2
    ends = text[0] + text[-1] if pair else ""
    text = spread(text)
    parts = split(text)
    repeated = sorted({part for part in parts if parts.count(part) > 1})
    return Written(text, bases, unit, ends, (len(parts), *repeated) if len(parts) > 1 else ())


def unwrapped(text: str) -> str:
    while True:
        inner = SENTENCE_END.sub("", text).strip()
        for wrapper in WRAPPERS:
            match = wrapper.fullmatch(inner)
            inner = match[1] if match else inner
        if inner == text:
            return text
        text = inner


UNITS = {
    name: names.split()[0]
    for names in (
        "mm millimeter millimeters millimetre millimetres",
        "cm centimeter centimeters centimetre centimetres",
        "m meter meters metre metres",
        "km kilometer kilometers kilometre kilometres",
        "in inch inches",
        "ft foot feet",
        "yd yard yards",
        "mi mile miles",
        "g gram grams",
        "kg kilogram kilograms",
        "lb lbs pound pounds",
        "oz ounce ounces",
        "s sec second seconds",
        "min minute minutes",
        "h hr hrs hour hours",
        "day days",
        "week weeks",
        "month months",
        "year years yr",
        "L liter liters litre litres",
        "mL ml milliliter milliliters millilitre millilitres",
        "deg degree degrees",
        "rad radian radians",
        "dollar dollars",
        "cent cents",
        "km/h kmh kph",
        "mph mi/h",
        "m/s",
        "C",
        "F",
        "am a.m",
        "pm p.m",
    )
    for name in names.split()
}
# In LaTeX's mathematics a letter by itself is a variable, and am or pm are two.
VARIABLES = re.compile(r"[A-Za-z]|[ap]\.?m")
WORDS = (re.escape(name) for name in UNITS if not VARIABLES.fullmatch(name))
BARE = "|".join(sorted(WORDS, key=len, reverse=True))
UNIT = re.compile(
    r"(?<=[\d})\s])\s*(?:\^\s*\{?\\circ\}?\s*)?"
    r"(?:\\(?:text|mbox|mathrm|textrm|textit|operatorname)\s*\{(?P<text>[A-Za-z./\s-]*)\}"
    rf"|(?<![A-Za-z\\])(?P<bare>(?:sq(?:uare)?\.? |cubic )?(?:units?|{BARE})))"
    r"\s*(?:\^\s*\{?\s*(?P<power>[23])\s*\}?)?$"
)
POWERS = {"square": "2", "sq": "2", "sq.": "2", "cubic": "3", "cu": "3"}
# Words after a number that change what is said.
MEANING = frozenset((
    "and", "or", "if", "for", "when", "where", "with", "to", "at", "more", "less", "least", "most",
    "mod", "modulo", "base", "is", "are", "not", "odd", "even", "prime", "only", "dozen",
    "dozens", "hundred", "hundreds", "thousand", "thousands", "million", "millions", "billion",
    "billions", "trillion", "trillions", "half", "halves", "third", "thirds", "fourth", "fourths",
    "fifth", "fifths", "sixth", "sixths", "seventh", "sevenths", "eighth",
    "eighths", "ninth", "ninths", "tenth", "tenths", "hundredth", "hundredths", "thousandth",
    "thousandths", "squared", "cubed", "factorial", "pi", "ln", "log", "exp", "sin", "cos",
    "tan", "ad", "bc", "ce", "bce",
))  # fmt: skip


def without_unit(text: str) -> tuple[str, str]:
    """The answer without the unit at its end, and what unit is stated, "" where none is known."""
    stated = "dollar" if re.match(r"\\?\$", text) else ""
    stated = "deg" if re.search(r"\^\s*\{?\s*\\circ\s*\}?$", text) else stated
    match = UNIT.search(text)
    if not match or not text[: match.start()].strip():
        return text, stated
    words = (match["text"] or match["bare"] or "").split()
    if MEANING & {word.lower().rstrip(".") for word in words} or any(
        len(word) == 1 and word not in UNITS for word in words
    ):
        return text, stated
    power = match["power"] or ""
    if len(words) == 2 and words[0].lower() in POWERS:
        power = POWERS[words.pop(0).lower()]
    name = " ".join(words)
    unit = UNITS.get(name) or UNITS.get(name.lower().rstrip("."))
    return text[: match.start()].rstrip(), unit + power if unit else stated


def spread(text: str) -> str:
    r"""The two values of each part with one \pm inside braces, which math-verify cannot read."""
    if not re.search(r"\\pm(?![A-Za-z])", text):
        return text
    braced = text.startswith(r"\{") and text.endswith(r"\}")
    parts = []
    for part in split(text[2:-2] if braced else text):
        signs = re.findall(r"\\pm(?![A-Za-z])", part)
        if len(signs) == 1 and depths(part)[part.index(r"\pm")]:
            parts += [signed(part, "+", "-"), signed(part, "-", "+")]
        else:
            parts.append(part)
    joined = ", ".join(parts)
    return rf"\{{{joined}\}}" if braced else joined


def signed(part: str, plus: str, minus: str) -> str:
    part = re.sub(r"\\pm(?![A-Za-z])", plus, part)
    return re.sub(r"\\mp(?![A-Za-z])", minus, part)


def split(text: str) -> list[str]:
    """The parts between the commas that are in no brackets."""
    parts, start = [], 0
    for place, depth in enumerate(depths(text)):
        if text[place] == "," and not depth:
            parts.append(text[start:place])
            start = place + 1
    return [part.strip() for part in (*parts, text[start:])]


def balanced(text: str) -> bool:
    """Whether braces, escaped ones too, open before they close, and all do."""
    braces = depths(re.sub(r"[()\[\]]", "", text))
    return not braces or (min(braces) >= 0 and braces[-1] == 0)


def depths(text: str) -> list[int]:
    """How many brackets are open at each character."""
    depth, all = 0, []
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        all.append(depth)
    return all
