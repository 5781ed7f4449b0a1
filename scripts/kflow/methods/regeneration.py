"""Method 2, knowledge regeneration: the list is written anew in every reply (METHOD.md, section 2).

An ablation of method 1: the same headings and reference solution, but no list is kept by us; the
model's latest list of things to avoid takes the place of the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..sections import missing, prose, reference
from ..types import Answer, Entry, Measure, Message, Prompt, Reply, State, Template

HEADER = "Things to Avoid"
LIST_FRACTION = 0.1


@dataclass(frozen=True)
class Regeneration:
    """What the two families' regeneration differs in.

    first, later: prompt files, before and after the chain has a reference solution.
    opening: prompt file with the first words of the model's thinking at later steps, or None.
    new_list: visible answer -> the list in it, None where there is none to be had.
    answer: the extraction rule. budget: a reply's share of the window.
    """

    first: str
    later: str
    new_list: Callable[[str], str | None]
    answer: Callable[[str], Answer]
    budget: float
    opening: str | None = None

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        wanted = {
            self.first: frozenset({"QUESTION"}),
            self.later: frozenset({"QUESTION", "KNOWLEDGE", "REFERENCE"}),
        }
        return wanted | ({self.opening: frozenset()} if self.opening else {})

    def fraction(self, state: State) -> float:
        return self.budget

    def sections(self, state: State) -> tuple[str, ...]:
        return (HEADER, "Summary", "Answer")

    def carried(self, state: State, prompts: Mapping[str, Template], measure: Measure) -> str:
        return ""

    def messages(self, state: State, prompts: Mapping[str, Template], measure: Measure) -> Prompt:
        if state.reference is None:
            return Prompt((Message("user", prompts[self.first].fill(QUESTION=state.question)),))
        shown = [entry.text for entry in state.knowledge[state.left_out :]]
        text = prompts[self.later].fill(
            QUESTION=state.question,
            KNOWLEDGE="\n\n".join(shown) or "N/A",
            REFERENCE=state.reference,
        )
        opening = prompts[self.opening].fill() if self.opening else ""
        return Prompt((Message("user", text),), opening)

    def update(self, state: State, reply: Reply, measure: Measure) -> State:
        learnt = replace(
            state,
            reference=reference(reply.visible),
            answers=(*state.answers, self.answer(reply.text)),
        )
        noted = missing(self.sections(state), reply.visible)
        text = self.new_list(reply.visible)
        if not text:
            what = "the list is cut off" if text is None else "the list is empty"
            return replace(learnt, change={"kept": f"{what}: the old one stays", **noted})
        kept = measure.last_sentences(text, int(LIST_FRACTION * measure.window))
        cut = (
            {"cut_from_tokens": measure.count(text)}
            if measure.count(kept) < measure.count(text)
            else {}
        )
        return replace(
            learnt,
            knowledge=(Entry(kept),) if kept else (),
            change={"replaced": kept, **cut, **noted},
        )


def after_header_with_colon(visible: str) -> str | None:
    """gpt-oss: the header counts only with its colon."""
    return latest_list(visible, f"[{HEADER}]:")


def after_header(visible: str) -> str | None:
    """Qwen: the first colon dropped, the first letter lower-cased."""
    text = latest_list(visible, f"[{HEADER}]")
    return None if text is None else prose(text)


def latest_list(visible: str, header: str) -> str | None:
    """What follows the last `header`, or all there is without it, up to `[Summary]`.

    None without a `[Summary]` to end it: a list that is cut off does not replace a whole one.
    """
    text, summary, _ = visible.rpartition(header)[2].partition("[Summary]")
    return text.strip() if summary else None
