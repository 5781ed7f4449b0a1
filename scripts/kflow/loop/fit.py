"""Keeping a prompt within half of the window (docs/method.md, "Deviations"). What goes, and in
which order, is the method's: nothing here knows what a view holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kflow.method import LeftOut, Method, StepContext
from kflow.types import Prompt

S = TypeVar("S")
V = TypeVar("V")


@dataclass(frozen=True)
class Fitted:
    """A prompt, its token ids and what it leaves out. fits: False where even the smallest view is
    longer than half of the window."""

    prompt: Prompt
    ids: tuple[int, ...]
    left_out: LeftOut
    fits: bool = True


def fit(
    method: Method[S, V], view: V, context: StepContext, render: Callable[[Prompt], list[int]]
) -> Fitted:
    """Render a view, made smaller by the method until its prompt takes at most half of the
    window."""
    limit, left_out = context.window // 2, LeftOut()
    while True:
        prompt = method.render(view, context)
        ids = tuple(render(prompt))
        if len(ids) <= limit:
            return Fitted(prompt, ids, left_out)
        smaller = method.shrink(view, len(ids) - limit, context)
        if smaller is None:
            return Fitted(prompt, ids, left_out, fits=False)
        view, less = smaller
        left_out += less
