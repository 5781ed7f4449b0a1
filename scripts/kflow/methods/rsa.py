"""Recursive self-aggregation: a population of solutions, recombined (docs/method.md, section 7).

arXiv 2509.26626. Each rollout sees some members of the last population and combines them into one
better solution; the new replies replace the population.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kflow.answers import Rule
from kflow.flags import Whole, check_flags, flag
from kflow.method import Replies, StepContext, StepNote, StepResult
from kflow.methods.candidates import Candidate, Combining, View, drawn, failures, solutions
from kflow.types import UserError
from kflow.votes import majority


@dataclass(frozen=True)
class Population:
    """The members, in the order in which they came."""

    question: str
    members: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Rsa(Combining):
    first: str
    later: str
    rule: Rule
    budget: float = 0.9
    rollouts_per_step: Whole = flag(16, "size of the population", "N")
    aggregate: Whole = flag(4, "members of the population that each rollout combines", "K")

    def __post_init__(self) -> None:
        check_flags(self)  # at once: a budget is divided by them
        if self.aggregate > self.rollouts_per_step:
            raise UserError(
                f"--aggregate {self.aggregate} is more than the population has: give at most "
                f"{self.rollouts_per_step}, or raise --rollouts_per_step."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.rollouts_per_step,)

    def start(self, question: str) -> Population:
        return Population(question)

    def ask(self, state: Population, context: StepContext) -> tuple[View, ...]:
        return tuple(
            View(state.question, drawn(state.members, context.draw(slot))[: self.aggregate])
            for slot in range(self.rollouts_per_step)
        )

    def update(
        self, state: Population, replies: Replies, context: StepContext
    ) -> StepResult[Population]:
        """Replace the population; where fewer than K replies came, its last members stay."""
        members = solutions(replies)
        if len(members) < self.aggregate:
            members = (*state.members, *members)[-self.aggregate :]
        verdict = majority(member.answer for member in members)
        return StepResult(
            replace(state, members=members), verdict, StepNote(skipped=failures(replies))
        )
