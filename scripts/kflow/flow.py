"""THE LOOP. Every problem is a chain of rollouts; each one leaves a state that the next is asked
from (METHOD.md, "The loop"). No step waits for another chain: what comes back goes straight on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from .chain import Chain
from .rollout import Asked, Plan, ask, carried_over, judged, learn, make_record, rests
from .store import Store
from .types import Completion, Engine, Key, Record, Reply, RunEnded, State


def run(
    plan: Plan,
    chains: Iterable[Chain],
    engine: Engine,
    store: Store,
    report: Callable[[Key, Record, Record | None], None],
    barrier: bool = False,
) -> None:
    """Work every chain up to `plan.steps` rollouts; each is on disk before its chain goes on.

    report: called with a rollout's key, its record, and the step's summary if it was the last.
    barrier: wait for all of a step's rollouts before the next step, for comparison only.
    """
    ready = deque(chains)
    unanswered: list[str] = []
    in_flight: dict[Key, tuple[Chain, Asked]] = {}

    def keep(chain: Chain, state: State, record: Record) -> None:
        summary = store.append(chain.key, record)
        report(chain.key, record, summary)
        ready.append(replace(chain, state=state, step=chain.step + 1, last=record))

    def advance(chain: Chain, asked: Asked, completion: Completion) -> None:
        completion = judged(completion)
        reply = Reply(completion.text, plan.chat.visible(completion.text), asked.carried)
        state = learn(plan, chain.state, reply, completion.failure)
        keep(chain, state, make_record(plan, chain.problem, asked, state, reply, completion))

    def start(chain: Chain) -> None:
        if chain.last is not None and rests(chain.state, plan.stop_when_stable):
            return keep(chain, chain.state, carried_over(chain.last, chain.step - 1))
        asked = ask(plan, chain.key, chain.state)
        if asked.request is None:
            return advance(chain, asked, Completion(chain.key, failure=asked.failure))
        in_flight[chain.key] = (chain, asked)
        engine.submit(asked.request)

    while ready or in_flight:
        while ready and not (barrier and in_flight):
            for chain in [ready.popleft() for _ in range(len(ready))]:
                if chain.step < plan.steps:
                    start(chain)
        if in_flight:
            for completion in engine.completions():
                chain, asked = in_flight.pop(completion.key)
                if completion.unanswered is not None:
                    unanswered.append(completion.unanswered)  # the step stays open
                else:
                    advance(chain, asked, completion)
    if unanswered:
        raise RunEnded(f"{len(unanswered)} chains could not go on, the last one: {unanswered[-1]}")
