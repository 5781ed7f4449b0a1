"""Method 1, the mistakes list: what was believed, why it was wrong (docs/method.md, section 1).

The model solves afresh beside a reference solution and reports what is wrong with it. Whenever the
answer changes, the report joins the list, filed under the answer that was given up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kflow.answers import Rule
from kflow.method import Replies, StepContext, StepNote, StepResult
from kflow.methods.notes import SECTIONS, Notes, OneByOne, first_attempt
from kflow.sections import prose, reference, section
from kflow.types import Answer, Entry, Prompt, Reply


@dataclass(frozen=True)
class State(Notes):
    """answers: the chain's own answers so far, by step."""

    answers: tuple[Answer | None, ...] = ()


@dataclass(frozen=True)
class Mistakes(OneByOne):
    """What the two families' mistakes lists differ in, beside the prompts.

    error_header: the section that reports what is wrong with the reference solution.
    error_entry: (visible answer, error_header) -> an entry's text, None without the header.
    entries_per_answer: how many entries an abandoned answer keeps, the newest ones.
    keep_unanswered: whether a reply without an answer counts as the answer before the next.
    """

    first: str
    later: str
    error_header: str
    error_entry: Callable[[str, str], str | None]
    entries_per_answer: int
    rule: Rule
    keep_unanswered: bool
    prefill: str | None = None
    budget: float = 0.9

    def start(self, question: str) -> State:
        return State(question)

    def render(self, view: Notes, context: StepContext) -> Prompt:
        if view.reference is None:
            return first_attempt(context, self.first, view.question, self.budget)
        return self.ask_again(
            view,
            context,
            (self.error_header, *SECTIONS),
            list(enumerate(view.shown[::-1], 1)),  # the newest first
            "**Wrong Answer {0}**: {1}",
        )

    def update(self, state: State, replies: Replies, context: StepContext) -> StepResult[State]:
        (reply,) = replies
        if reply is None:
            return StepResult(state, note=StepNote(skipped="the rollout failed"))
        note = self._note(state, reply, context)
        entries = state.entries
        dropped: tuple[Entry, ...] = ()
        for new in note.added:
            filed = [n for n, e in enumerate(entries) if alike(e.answer, new.answer, context)]
            too_many = filed[: max(0, len(filed) + 1 - self.entries_per_answer)]
            dropped = tuple(entries[n] for n in too_many)
            entries = (*(e for n, e in enumerate(entries) if n not in too_many), new)
        answers = state.answers
        if reply.answer is not None or self.keep_unanswered:
            answers = (*answers, reply.answer)
        shown = reference(reply.visible)
        after = replace(state, entries=entries, reference=shown, answers=answers)
        return StepResult(after, reply.answer, replace(note, dropped=dropped))

    def _note(self, state: State, reply: Reply, context: StepContext) -> StepNote:
        """The entry that a reply adds, or why it adds none."""
        last = section(reply.visible, "Answer")
        answer = context.answers.extract(reply.visible if last is None else last, self.rule)
        if answer is None:
            return StepNote(skipped="no answer in the answer section")
        if not state.answers:
            return StepNote(skipped="no answer before this one")
        abandoned = state.answers[-1]
        if alike(abandoned, answer, context):
            return StepNote(skipped="the answer did not change")
        text = self.error_entry(reply.visible, self.error_header)
        if text is None:
            return StepNote(skipped=f"no [{self.error_header}] section")
        if not text:
            empty = f"an empty [{self.error_header}] section"
            return StepNote(skipped=empty, truncated=(self.error_header,))
        return StepNote(added=(Entry(text, abandoned),))


def alike(first: Answer | None, other: Answer | None, context: StepContext) -> bool:
    """Sameness of answers, in which having none is an answer too; the chain's earlier one first."""
    if first is None or other is None:
        return first is other
    return context.same(first, other)


def to_the_end(visible: str, error_header: str) -> str | None:
    """gpt-oss: everything after the last error header to the end of the reply."""
    text = section(visible, error_header)
    return None if text is None else text.strip() if text.strip(": \n") else ""


def up_to_summary(visible: str, error_header: str) -> str | None:
    """Qwen: up to `[Summary]`, the colon dropped, the first letter lower-cased."""
    text = section(visible, error_header, until="Summary")
    return None if text is None else prose(text)
