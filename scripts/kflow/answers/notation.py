r"""How people and models write mathematics, put into the LaTeX that math-verify reads.

Only what can mean one thing is rewritten; what is left is math-verify's to read or not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ", "0123456789+-()nx")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
HALVES = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
    "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
SYMBOLS = {
    **{"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div "},
    **{"π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "±": r"\pm ", "∓": r"\mp "},
    **{
        "⁄": "/",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
    },
    **{"ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}"},
    **{"∅": r"\emptyset ", r"\varnothing": r"\emptyset "},
    **{half: r"\frac{{{}}}{{{}}}".format(*parts.split("/")) for half, parts in HALVES.items()},
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2008\u2009\u200a\u202f\u205f", r"\,"),
    **dict.fromkeys("\u200b\u2060\ufeff", ""),
}
SYMBOL = re.compile("|".join(map(re.escape, SYMBOLS)))

# What surrounds a whole answer without being part of it.
WRAPPERS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\*\*(?P<inner>[^*]+)\*\*",
        r"`(?P<inner>[^`]+)`",
        r"\$\$?(?P<inner>[^$]+)\$\$?",
        r"\\\((?P<inner>.+)\\\)",
        r"\\\[(?P<inner>.+)\\\]",
    )
)
SENTENCE_END = re.compile(r"(?<!\\)[.,;:\s]+$")
THIN = r"(?:(?<!\\)\\[,;:! ]|~)"
THOUSANDS = re.compile(
    rf"(?<![\d.])\d{{1,3}}(?:{THIN}\d{{3}})+(?!\d)"
    r"|(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d/])"
)
GROUPS = re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d{3}(?!\d))")
LOOK = re.compile(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z])\.?")
BOLD = re.compile(r"\\(?:bm|boldsymbol|pmb|mathbf|mathsf|mathit)\s*(?=\{)")
ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+|[A-Za-z]))")
MIXED = re.compile(r"(?<![\d.,/])(\d+) (\d+)\s*/\s*(\d+)(?![\d/])")
REPEATING = re.compile(r"(\d*)\.(\d*)\s*\\(?:overline|bar|dot)\s*(?:\{\s*(\d+)\s*\}|(\d))")
DEGREES = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{?\d+\}?)?)\s*"
    r"(?:\(\s*(-?\d+(?:\.\d+)?)\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})\s*\)"
    r"|\{?(\d+(?:\.\d+)?)\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})\}?)"
)
# To math-verify, 2(3) is a mixed number.
FACTORS = re.compile(r"((?<![\w.\\^}])\d+(?:\.\d+)?|\))\s*(?=\()")
# {x | x < 2}, and 6 > x > 2, which math-verify does not take for 2 < x < 6.
BUILDER = re.compile(
    r"\\\{\s*[A-Za-z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid|\\vert|\||:)(.+)\\\}", re.DOTALL
)
GREATER = r"(>|\\geq?(?![A-Za-z]))"
FALLING = re.compile(rf"([^<>=]+?){GREATER}([^<>=]+?){GREATER}([^<>=]+)")
BASE = re.compile(
    r"(?<![A-Za-z\d.\\])(\d[\dA-Z]*)_\s*(?:\{\s*(?:\\text\{)?\s*(\w+)\s*\}?\s*\}|(\d))"
)
ORDINAL = re.compile(
    r"(?<=\d)\s*(?:\^\s*\{?)?\\(?:text|mathrm|textrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\}?"
)


@dataclass(frozen=True)
class Written:
    r"""An answer as it is compared. text: LaTeX. bases: the subscripts of its numbers, as in
    `77_8`. unit: of measurement, where one that is known is stated. ends: the brackets around a
    pair or an interval."""

    text: str
    bases: tuple[str, ...] = ()
    unit: str = ""
    ends: str = ""

    def contradicts(self, other: Written) -> bool:
        """Whether both state bases, units or brackets, and these are not the same."""
        pairs = ((self.bases, other.bases), (self.unit, other.unit), (self.ends, other.ends))
        return any(own and others and own != others for own, others in pairs)


def read(text: str) -> Written:
    """An answer's content, without what is around it, in math-verify's notation."""
    text = unwrapped(text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿˣ]+", lambda m: f"^{{{m[0].translate(SUPERSCRIPTS)}}}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉ₙ]+", lambda m: f"_{{{m[0].translate(SUBSCRIPTS)}}}", text)
    text = SYMBOL.sub(lambda m: SYMBOLS[m[0]], text)
    text = ROOT.sub(lambda m: rf"\sqrt{{{m[1] or m[2]}}}", text)
    text = BOLD.sub("", LOOK.sub("", text))
    text = GROUPS.sub("", text)
    text = THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = re.sub(THIN, " ", text)
    text = MIXED.sub(r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"(?<=\d) +(?=\d)", "", text)  # spaces mean nothing in LaTeX
    text = REPEATING.sub(fraction, text)
    text = DEGREES.sub(lambda m: rf"{m[1]}(\frac{{{m[2] or m[3]}\pi}}{{180}})", text)
    text, unit = without_unit(ORDINAL.sub("", text))
    if match := BUILDER.fullmatch(text):
        text = match[1].strip()
    if match := FALLING.fullmatch(text):
        low, high = ("<" if sign == ">" else r"\le " for sign in (match[4], match[2]))
        text = f"{match[5]}{low}{match[3]}{high}{match[1]}"
    bases = tuple(m[2] or m[3] for m in BASE.finditer(text))
    text = BASE.sub(lambda m: m[1] if m[1].isdigit() else rf"\text{{{m[1]}}}", text)
    text = FACTORS.sub(r"\1\\cdot ", text)
    pair = text[:1] in tuple("([") and text[-1:] in tuple(")]") and len(split(text[1:-1])) == 2
    return Written(spread(text), bases, unit, text[0] + text[-1] if pair else "")


def unwrapped(text: str) -> str:
    while True:
        inner = SENTENCE_END.sub("", text).strip()
        for wrapper in WRAPPERS:
            match = wrapper.fullmatch(inner)
            inner = match["inner"] if match else inner
        if inner == text:
            return text
        text = inner


def fraction(match: re.Match[str]) -> str:
    r"""A repeating decimal: 0.1\overline{6} is 1/6."""
    whole, lead, period = match[1], match[2], match[3] or match[4]
    nines = 10 ** len(lead) * (10 ** len(period) - 1)
    return rf"\frac{{{int(whole + lead + period) - int(whole + lead or '0')}}}{{{nines}}}"


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
    )
    for name in names.split()
}
# In LaTeX's mathematics a letter by itself is a variable.
BARE = "|".join(sorted((re.escape(n) for n in UNITS if len(n) > 1), key=len, reverse=True))
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
    "mod", "modulo", "base", "is", "are", "not", "odd", "even", "prime", "only",
))  # fmt: skip


def without_unit(text: str) -> tuple[str, str]:
    """The answer without the unit at its end, and what unit is stated, "" where none is known."""
    stated = "dollar" if re.match(r"\\?\$", text) else ""
    stated = "deg" if re.search(r"\^\s*\{?\s*\\circ\s*\}?$", text) else stated
    match = UNIT.search(text)
    if not match or not text[: match.start()].strip():
        return text, stated
    words = (match["text"] or match["bare"] or "").split()
    if MEANING & set(words) or any(len(word) == 1 and word not in UNITS for word in words):
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
        if len(signs) == 1 and inside(part, part.index(r"\pm")):
            parts += [signed(part, "+", "-"), signed(part, "-", "+")]
        else:
            parts.append(part)
    joined = ", ".join(parts)
    return rf"\{{{joined}\}}" if braced else joined


def signed(part: str, plus: str, minus: str) -> str:
    part = re.sub(r"\\pm(?![A-Za-z])", plus, part)
    return re.sub(r"\\mp(?![A-Za-z])", minus, part)


def inside(text: str, place: int) -> bool:
    return bool(depths(text)[place])


def split(text: str) -> list[str]:
    """The parts between the commas that are in no brackets."""
    parts, start = [], 0
    for place, depth in enumerate(depths(text)):
        if text[place] == "," and not depth:
            parts.append(text[start:place])
            start = place + 1
    return [part.strip() for part in (*parts, text[start:])]


def depths(text: str) -> list[int]:
    """How many brackets are open at each character."""
    depth, all = 0, []
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        all.append(depth)
    return all
