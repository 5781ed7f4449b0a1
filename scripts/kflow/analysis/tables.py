"""What the tables for a terminal are made of. Text from files is never read as markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kflow.ground.terminal import printable

Column = tuple[str, Callable[[Any], str]]
UNKNOWN = "-"


def console() -> Console:
    """Standard output; 80 columns wide where nothing says how wide it is."""
    return Console(highlight=False, markup=False, emoji=False)


def text(value: object, style: str = "") -> Text:
    return Text(printable(str(value)), style)


def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.1f} %"


def number(share: float | None) -> str:
    """In percent, below a head that says so."""
    return UNKNOWN if share is None else f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference in percentage points: `+3.3`, `-10.0`, `0.0`."""
    spelt = f"{100 * share:+.1f}"
    return "0.0" if spelt in ("+0.0", "-0.0") else spelt


def interval(low: float | None, high: float | None, form: str = "+.1f") -> str:
    """`[-30.1, +5.0]`, percent; an end that the data cannot give is a question mark."""
    ends = ("?" if end is None else format(100 * end, form) for end in (low, high))
    return f"[{', '.join(ends)}]"


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def count(value: float | None) -> str:
    """`64`, `12.5`, `3,456`, `120k`, `4.07M`"""
    if value is None:
        return UNKNOWN
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    if value >= 1e4:
        return f"{value / 1e3:.0f}k"
    return f"{value:,.1f}" if value % 1 and value < 100 else f"{value:,.0f}"


def plain(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    left: int = 1,
    widths: Sequence[int] = (),
    header: bool = True,
) -> Table:
    """left: how many of the first columns hold words. widths: at least so wide each. Its columns
    stand two blanks apart, or one where two do not fit the terminal; where that does not either,
    cells are folded."""
    cells = [[cell if isinstance(cell, Text) else text(cell) for cell in row] for row in rows]
    widths = widths or measure([head, *([cell.plain for cell in row] for row in cells)])
    gaps, room = len(head) - 1, console().width - sum(widths)
    table = Table(
        title=text(title, "bold") if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2 if 2 * gaps <= room else 1, 0, 0),
        show_header=header,
    )
    for place, name in enumerate(head):
        table.add_column(
            Text(name, "dim"),  # a head may have lines
            justify="left" if place < left else "right",
            overflow="fold",
            vertical="bottom",
            min_width=widths[place] if gaps <= room else None,
        )
    for row in cells:
        table.add_row(*row)
    return table


def measure(rows: Sequence[Sequence[str]]) -> list[int]:
    """How many characters each column takes."""
    return [
        max(len(line) for cell in column for line in cell.split("\n"))
        for column in zip(*rows, strict=True)
    ]


def grid(
    title: str, items: Sequence[tuple[str, Any]], columns: Sequence[Column], left: int = 1
) -> Table:
    """A row for each item below its name, and a column for each figure that any of them has."""
    rows = [[name, *(show(item) for _, show in columns)] for name, item in items]
    kept = [0] + [
        place
        for place in range(1, len(columns) + 1)
        if any(row[place] not in ("", UNKNOWN) for row in rows)
    ]
    heads = ["", *(name for name, _ in columns)]
    return plain(
        title, [heads[place] for place in kept], [[row[n] for n in kept] for row in rows], left
    )
