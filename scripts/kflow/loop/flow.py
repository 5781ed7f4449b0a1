"""THE LOOP. Every problem is a chain of steps; what one step's replies teach is what the next is
asked from (docs/method.md, "The loop"). No chain waits for another, and a chain only for the
rollouts of its own step; where no reply changes what is asked (`Method.ahead`) it does not even do
that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from kflow.loop.chain import Chain, Observer
from kflow.loop.steps import AskedRollout, record
from kflow.types import Completion, Engine, Key


def run(chains: Iterable[Chain], engine: Engine, observer: Observer, barrier: bool = False) -> None:
    """Work every chain to its last step; each rollout is on disk before its chain goes on.

    The chains may belong to several runs. A chain whose rollout the engine gives up for now goes no
    further; the others do. barrier: wait for all that is in flight before the next step, for
    comparison only.
    """
    ready = deque(chains)
    in_flight: dict[Key, tuple[Chain, AskedRollout]] = {}

    def settle(chain: Chain, asked: AskedRollout, completion: Completion) -> None:
        rollout = record(chain.plan, chain.problem, asked, completion)
        chain.settle(asked.key, rollout, observer)

    def advance(chain: Chain) -> None:
        """Ask a chain's next step, or repeat its last record where it has stopped early."""
        if chain.stopped:
            chain.repeat(observer)
        else:
            for asked in chain.ask():
                if asked.request is None:
                    settle(chain, asked, Completion(asked.key, failure=asked.failure))
                else:
                    in_flight[asked.key] = (chain, asked)
                    engine.submit(asked.request)
        ready.append(chain)

    while ready or in_flight:
        while ready and not (barrier and in_flight):
            for chain in [ready.popleft() for _ in range(len(ready))]:
                if chain.may_ask:
                    advance(chain)
        if in_flight:
            for completion in engine.completions():
                chain, asked = in_flight.pop(completion.key)
                if completion.unanswered is not None:
                    observer.stopped(completion.key, completion.unanswered)
                else:
                    settle(chain, asked, completion)
                    ready.append(chain)
