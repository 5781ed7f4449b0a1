"""Method 3, positive knowledge: what works instead of what failed (METHOD.md, section 3).

An ablation of method 1: the model adds entries to a list of experimental knowledge (EK) and drops
the least useful ones by their number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..answers import last_integer
from ..sections import missing, reference, section
from ..types import Answer, Entry, Measure, Message, Prompt, Record, Reply, State, Template

NOVEL = "Novel Knowledge to Add to the List"
REASON = "Reason to make this addition"
DROP = "Least Useful to Drop"
LIST_FRACTION = 0.1
LONGEST_ENTRY = 1024
MOST_ENTRIES = 10

FIRST_SECTIONS = (NOVEL, "Summary", "Answer")
LATER_SECTIONS = (
    "Solution without EK",
    "Adding?",
    NOVEL,
    REASON,
    "Dropping?",
    DROP,
    "Why that knowledge should be dropped?",
    "Summary",
    "Answer",
)


@dataclass(frozen=True)
class Positive:
    """What the two families' positive knowledge differs in.

    first, later: prompt files, for no list yet and for one.
    empty_list: what the later prompt shows for an empty list; None asks the first prompt again.
    cut_entries: whether an entry is first cut to its last sentences within 0.1 of the window.
    answer: the extraction rule. budget: a reply's share of the window.
    """

    first: str
    later: str
    empty_list: str | None
    cut_entries: bool
    answer: Callable[[str], Answer]
    budget: float

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        return {
            self.first: frozenset({"QUESTION"}),
            self.later: frozenset({"QUESTION", "KNOWLEDGE", "REFERENCE"}),
        }

    def fraction(self, state: State) -> float:
        return self.budget

    def sections(self, state: State) -> tuple[str, ...]:
        return FIRST_SECTIONS if self._asks_first(state) else LATER_SECTIONS

    def carried(self, state: State, prompts: Mapping[str, Template], measure: Measure) -> str:
        return ""

    def _asks_first(self, state: State) -> bool:
        return state.reference is None or (not state.knowledge and self.empty_list is None)

    def messages(self, state: State, prompts: Mapping[str, Template], measure: Measure) -> Prompt:
        if self._asks_first(state):
            return Prompt((Message("user", prompts[self.first].fill(QUESTION=state.question)),))
        # An entry keeps its number when older ones are left out, so that dropping it by number
        # drops the one that was meant.
        numbered = [f"**EK {n}**: {entry.text}" for n, entry in enumerate(state.knowledge, 1)]
        text = prompts[self.later].fill(
            QUESTION=state.question,
            KNOWLEDGE="\n\n".join(numbered[state.left_out :]) or self.empty_list or "N/A",
            REFERENCE=state.reference or "",
        )
        return Prompt((Message("user", text),))

    def update(self, state: State, reply: Reply, measure: Measure) -> State:
        state = replace(state, answers=(*state.answers, self.answer(reply.text)))
        noted = missing(self.sections(state), reply.visible)
        novel, answer = section(reply.visible, NOVEL), section(reply.visible, "Answer")
        if novel is None or answer is None:
            lacking = f"[{NOVEL}]" if novel is None else "[Answer]"
            return replace(state, change={"kept": f"no {lacking} section", **noted})
        entries = list(state.knowledge)
        change: Record = {}
        entry, why_not = self._entry(reply.visible, novel, measure)
        if entry is None:
            change["kept"] = why_not
        else:
            entries.append(Entry(entry))
            change["added"] = entry
        dropped = []
        number = last_integer(up_to_bracket(section(reply.visible, DROP) or ""))
        if number is not None and 1 <= number <= len(entries):
            dropped.append(entries.pop(number - 1).text)
        while len(entries) > MOST_ENTRIES:
            dropped.append(entries.pop(0).text)
        if dropped:
            change["dropped"] = dropped
        return replace(
            state,
            knowledge=tuple(entries),
            reference=reference(reply.visible),
            change={**change, **noted},
        )

    def _entry(self, visible: str, novel: str, measure: Measure) -> tuple[str | None, str]:
        """The entry a reply adds, or None and why it adds none."""
        adding = section(visible, "Adding?")
        if adding is not None and re.search(r"\bNo\b", up_to_bracket(adding)):
            return None, "the reply says not to add"
        ends = (end for end in (f"[{REASON}]", "[Summary]", "[") if end in novel)
        text = novel.partition(next(ends, "\0"))[0]
        if self.cut_entries:
            text = measure.last_sentences(text, int(LIST_FRACTION * measure.window))
        text = re.sub(r"\A\s*:", "", text).strip()
        if not text or re.fullmatch(r"\W*n/?a\W*", text, re.IGNORECASE):
            return None, "the entry is empty or N/A"
        if (length := measure.count(text)) > LONGEST_ENTRY:
            return None, f"the entry has {length} tokens, more than {LONGEST_ENTRY}"
        return text, ""


def up_to_bracket(text: str) -> str:
    return text.partition("[")[0]
