"""A chain: one problem worked by one seed, and where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .rollout import Plan, replay
from .store import Store
from .types import Key, Problem, Record, State, UserError


@dataclass(frozen=True)
class Chain:
    """The next step of a chain, the state it comes to it with, and its last record, which later
    steps repeat if the chain rests."""

    problem: Problem
    seed: int
    state: State
    step: int = 0
    last: Record | None = None

    @property
    def key(self) -> Key:
        return Key(self.problem.id, self.seed, self.step)


def restore(plan: Plan, problems: Iterable[Problem], store: Store, seed: int) -> list[Chain]:
    """One chain per problem, brought to where the replies on disk leave it. Reads a step at a
    time, so a long run takes no more memory than a short one.

    Raises UserError where a step is missing before one that is there.
    """
    chains = {p.id: Chain(p, seed, State(p.question)) for p in problems}
    for step in range(plan.steps):
        for record in store.read(seed, step):
            chain = chains[str(record["id"])]
            if chain.step != step:
                raise UserError(
                    f"{store.predictions(seed, chain.step)} is missing, while {store.folder} holds "
                    f"step {step}: move the files of all later steps away to have them worked "
                    "again."
                )
            state = replay(plan, chain.state, record)
            chains[chain.problem.id] = replace(chain, state=state, step=step + 1, last=record)
    return list(chains.values())
