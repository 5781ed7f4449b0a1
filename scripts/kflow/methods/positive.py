"""Method 3, positive knowledge: what works instead of what failed (docs/method.md, section 3).

An ablation of method 1: the model adds entries to a list of experimental knowledge (EK) and drops
the least useful ones by their number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kflow.answers import Rule, last_integer
from kflow.method import Replies, StepContext, StepNote, StepResult
from kflow.methods.notes import Notes, OneByOne, empty, first_attempt
from kflow.sections import reference, section
from kflow.types import Entry, Prompt

NOVEL = "Novel Knowledge to Add to the List"
REASON = "Reason to make this addition"
DROP = "Least Useful to Drop"
WHY_DROP = "Why that knowledge should be dropped?"
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
    WHY_DROP,
    "Summary",
    "Answer",
)
FORMS = {
    "Adding?": "(Yes|No)",
    "Dropping?": "(Yes|No)",
    DROP: "(Dropping Experimental Knowledge [0-9]{1,2}|N/A)",
}


@dataclass(frozen=True)
class Positive(OneByOne):
    """What the two families' positive knowledge differs in.

    first, later: prompts, for no list yet and for one. empty_list: what the later prompt shows for
    an empty list; None asks the first prompt again. cut_entries: whether an entry is first cut to
    its last sentences within 0.1 of the window.
    """

    first: str
    later: str
    empty_list: str | None
    cut_entries: bool
    rule: Rule
    budget: float

    def render(self, view: Notes, context: StepContext) -> Prompt:
        if view.reference is None or (not view.entries and self.empty_list is None):
            return first_attempt(context, self.first, view.question, self.budget, FIRST_SECTIONS)
        # An entry keeps its number when older ones are hidden, so that dropping it by number drops
        # the one that was meant.
        numbered = list(enumerate(view.shown, view.hidden + 1))
        nothing = self.empty_list or "N/A"
        return self.ask_again(
            view, context, LATER_SECTIONS, numbered, "**EK {0}**: {1}", nothing, FORMS
        )

    def update(self, state: Notes, replies: Replies, context: StepContext) -> StepResult[Notes]:
        (reply,) = replies
        if reply is None:
            return StepResult(state, note=StepNote(skipped="the rollout failed"))
        novel = section(reply.visible, NOVEL)
        if novel is None or section(reply.visible, "Answer") is None:
            lacking = NOVEL if novel is None else "Answer"
            if self.empty_list is not None and state.reference is None:
                # As published: the later prompt comes next, with an empty list and nothing to refer
                # to.
                state = replace(state, reference="")
            return StepResult(state, reply.answer, StepNote(skipped=f"no [{lacking}] section"))
        entry, skipped = self._entry(reply.visible, novel, context)
        added = () if skipped else (Entry(entry),)
        entries, dropped = [*state.entries, *added], []
        named = section(reply.visible, DROP) or ""
        number = last_integer(up_to(named, "[Why", "[Summary]", "[Answer]"))
        if number is not None and 1 <= number <= len(entries):
            dropped.append(entries.pop(number - 1))
        while len(entries) > MOST_ENTRIES:
            dropped.append(entries.pop(0))
        notes = Notes(state.question, tuple(entries), reference(reply.visible))
        return StepResult(notes, reply.answer, StepNote(added, tuple(dropped), skipped=skipped))

    def _entry(self, visible: str, novel: str, context: StepContext) -> tuple[str, str]:
        """The entry that a reply adds, and why it adds none, one of them empty."""
        adding = section(visible, "Adding?")
        if adding is not None and re.search(r"\bNo\b", up_to(adding, "[")):
            return "", "the reply says not to add"
        text = up_to(novel, f"[{REASON}]", "[Summary]", "[")
        if self.cut_entries:
            text = context.last_sentences(text, int(LIST_FRACTION * context.window))
        text = re.sub(r"\A\s*:", "", text).strip()
        if empty(text):
            return "", "the entry is empty or N/A"
        if (length := context.count(text)) > LONGEST_ENTRY:
            return "", f"the entry has {length} tokens, more than {LONGEST_ENTRY}"
        return text, ""


def up_to(text: str, *ends: str) -> str:
    """The text before the first of `ends` that occurs in it, in their order; all of it without."""
    end = next((end for end in ends if end in text), None)
    return text if end is None else text.partition(end)[0]
