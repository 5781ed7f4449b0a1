"""Method 1, the mistakes list: what was believed, why it was wrong (METHOD.md, section 1).

The model solves afresh beside a reference solution and says what is wrong with it; whenever the
answer changes, what it said is kept, filed under the answer it gave up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..sections import missing, prose, reference, section
from ..types import Answer, Entry, Measure, Message, Prompt, Reply, State, Template


@dataclass(frozen=True)
class Mistakes:
    """What the two families' mistakes lists differ in.

    first, later: prompt files, before and after the chain has a reference solution.
    opening: prompt file with the first words of the model's thinking at later steps, or None.
    error_header: the section that says what is wrong with the reference solution.
    error_entry: the whole visible answer -> the text of an entry, None without the header.
    entries_per_answer: how many entries an abandoned answer keeps, the newest ones.
    answer: the extraction rule.
    keep_unanswered: whether a rollout without an answer counts as a prediction before the next.
    """

    first: str
    later: str
    error_header: str
    error_entry: Callable[[str, str], str | None]
    entries_per_answer: int
    answer: Callable[[str], Answer]
    keep_unanswered: bool
    opening: str | None = None
    budget: float = 0.9

    @property
    def prompts(self) -> dict[str, frozenset[str]]:
        wanted = {
            self.first: frozenset({"QUESTION"}),
            self.later: frozenset({"QUESTION", "KNOWLEDGE", "REFERENCE"}),
        }
        return wanted | ({self.opening: frozenset()} if self.opening else {})

    def fraction(self, state: State) -> float:
        return self.budget

    def carried(self, state: State, prompts: Mapping[str, Template], measure: Measure) -> str:
        return ""

    def sections(self, state: State) -> tuple[str, ...]:
        later = () if state.reference is None else (self.error_header,)
        return (*later, "Summary", "Answer")

    def messages(self, state: State, prompts: Mapping[str, Template], measure: Measure) -> Prompt:
        if state.reference is None:
            return Prompt((Message("user", prompts[self.first].fill(QUESTION=state.question)),))
        newest_first = reversed(state.knowledge[state.left_out :])
        numbered = [f"**Wrong Answer {n}**: {e.text}" for n, e in enumerate(newest_first, 1)]
        text = prompts[self.later].fill(
            QUESTION=state.question,
            KNOWLEDGE="\n\n".join(numbered) or "N/A",
            REFERENCE=state.reference,
        )
        return Prompt(
            (Message("user", text),), prompts[self.opening].fill() if self.opening else ""
        )

    def update(self, state: State, reply: Reply, measure: Measure) -> State:
        prediction = self.answer(reply.text)
        answers = state.answers
        if prediction is not None or self.keep_unanswered:
            answers = (*answers, prediction)
        learnt = replace(
            state,
            reference=reference(reply.visible),
            answers=answers,
        )
        entry, why_not = self._entry(answers, reply)
        noted = missing(self.sections(state), reply.visible)
        if entry is None:
            return replace(learnt, change={"kept": why_not, **noted})
        return replace(
            learnt,
            knowledge=self._newest((*state.knowledge, entry)),
            change={"added": entry.text, "under_answer": entry.answer, **noted},
        )

    def _entry(self, answers: tuple[Answer, ...], reply: Reply) -> tuple[Entry | None, str]:
        """The entry this reply adds, or None and why it adds none."""
        last = section(reply.visible, "Answer")
        answer = self.answer(reply.visible if last is None else last)
        if answer is None:
            return None, "no answer in the answer section"
        if len(answers) < 2:
            return None, "no answer before this one"
        abandoned = answers[-2]
        if answer == abandoned:
            return None, "the answer did not change"
        text = self.error_entry(reply.visible, self.error_header)
        if not text:
            what = "no" if text is None else "an empty"
            return None, f"{what} [{self.error_header}] section"
        return Entry(text, abandoned), ""

    def _newest(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """The newest entries of each abandoned answer, oldest first; older ones are never shown
        again, so they need not be carried."""
        kept: list[Entry] = []
        for entry in reversed(entries):
            if sum(other.answer == entry.answer for other in kept) < self.entries_per_answer:
                kept.append(entry)
        return tuple(reversed(kept))


def to_the_end(visible: str, error_header: str) -> str | None:
    """gpt-oss: everything after the last error header to the end of the reply."""
    text = section(visible, error_header)
    return None if text is None else text.strip() if text.strip(": \n") else ""


def up_to_summary(visible: str, error_header: str) -> str | None:
    """Qwen: up to `[Summary]`, the colon dropped, the first letter lower-cased."""
    text = section(visible, error_header, until="Summary")
    return None if text is None else prose(text)
