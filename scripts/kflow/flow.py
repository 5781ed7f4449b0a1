"""THE LOOP. Every problem is a chain of rollouts; each one leaves a state that the next is asked
from (METHOD.md, "The loop"). No step waits for another chain: what comes back goes straight on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from .rollout import Asked, Plan, ask, learn, make_record, replay
from .store import Store
from .types import Completion, Engine, Key, Problem, Record, Reply, State


@dataclass(frozen=True)
class Chain:
    """One problem worked by one seed: the step it is at and the state it got there with."""

    problem: Problem
    seed: int
    state: State
    step: int = 0

    @property
    def key(self) -> Key:
        return Key(self.problem.id, self.seed, self.step)


def chains(plan: Plan, problems: Iterable[Problem], store: Store, seed: int = 0) -> list[Chain]:
    """One chain per problem, brought to where the replies on disk leave it."""
    started = {p.id: Chain(p, seed, State(p.question)) for p in problems}
    for step in range(plan.steps):
        for record in store.read(seed, step):
            chain = started[str(record["id"])]
            state = replay(plan, chain.state, record)
            started[chain.problem.id] = replace(chain, state=state, step=step + 1)
    return list(started.values())


def run(
    plan: Plan,
    chains: Iterable[Chain],
    engine: Engine,
    store: Store,
    report: Callable[[Key, Record, Record | None], None],
) -> None:
    """Work every chain up to `plan.steps` rollouts; each is on disk before its chain goes on."""
    ready = deque(chains)
    in_flight: dict[Key, tuple[Chain, Asked]] = {}

    def advance(chain: Chain, asked: Asked, completion: Completion) -> None:
        reply = Reply(completion.text, plan.chat.visible(completion.text), asked.carried)
        learnt = learn(plan, chain.state, reply, completion.failure)
        record = make_record(plan, chain.problem, asked, learnt, reply, completion)
        summary = store.append(chain.key, record)
        report(chain.key, record, summary)
        ready.append(replace(chain, state=learnt, step=chain.step + 1))

    while ready or in_flight:
        while ready:
            chain = ready.popleft()
            if chain.step == plan.steps:
                continue
            asked = ask(plan, chain.key, chain.state)
            if asked.request is None:
                advance(chain, asked, Completion(chain.key, failure=asked.failure))
            else:
                in_flight[chain.key] = (chain, asked)
                engine.submit(asked.request)
        if in_flight:
            for completion in engine.completions():
                advance(*in_flight.pop(completion.key), completion)
