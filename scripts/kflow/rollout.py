"""One rollout, without effects: what to ask, what the reply teaches, what goes on record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from . import sections
from .fitting import fit
from .types import (
    Chat,
    Completion,
    Key,
    Measure,
    Method,
    Problem,
    Record,
    Reply,
    Request,
    State,
    Template,
)


@dataclass(frozen=True)
class Plan:
    """What is the same for every rollout of a run.

    steps: rollouts per chain (`reflex_size`). seed: the base; chain k of a problem uses seed + k.
    stop_when_stable: a chain rests when this many answers in a row agree; None: never.
    """

    method: Method
    prompts: Mapping[str, Template]
    chat: Chat
    measure: Measure
    steps: int
    seed: int = 0
    force_sections: bool = False
    stop_when_stable: int | None = None


@dataclass(frozen=True)
class Asked:
    """A prompt as it goes to the engine, or why it cannot; `carried` is what its reply goes on
    from."""

    prompt_ids: tuple[int, ...]
    left_out: Record
    carried: str = ""
    request: Request | None = None
    failure: str | None = None


def sampling_seed(seed: int, problem: str, step: int) -> int:
    """A stable 32-bit number for (run seed, problem id, step): no clock, no global generator."""
    digest = hashlib.sha256(f"{seed}\0{problem}\0{step}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def ask(plan: Plan, key: Key, state: State) -> Asked:
    """The request for the next rollout. Its budget is the method's fraction of the window or what
    the prompt leaves of it, whichever is less (METHOD.md, "The loop" and "Deviations")."""
    window = plan.measure.window

    def render(view: State) -> list[int]:
        return plan.chat.render(plan.method.messages(view, plan.prompts, plan.measure))

    fitted = fit(state, render, plan.measure)
    if fitted is None:
        bare = tuple(render(replace(state, knowledge=(), reference=state.reference and "")))
        failure = (
            f"the prompt takes {len(bare)} tokens with nothing left to leave out, "
            f"more than half of the window of {window}"
        )
        return Asked(bare, {}, failure=failure)
    prompt_ids = fitted.prompt_ids
    fraction = plan.method.fraction(state)
    budget = min(int(fraction * window), window - len(prompt_ids))
    pattern = None
    if plan.force_sections and (names := plan.method.sections(state)):
        # What any prompt leaves, so that all rollouts of a kind share one compiled expression.
        sure = int(min(fraction, 0.5) * window)
        pattern = sections.pattern(names, sure)
    seed = sampling_seed(plan.seed + key.seed, key.problem, key.step)
    carried = plan.method.carried(fitted.shown, plan.prompts, plan.measure)
    request = Request(key, prompt_ids, budget, seed, pattern)
    return Asked(prompt_ids, fitted.left_out, carried, request)


def learn(plan: Plan, state: State, reply: Reply, failure: str | None) -> State:
    """The state after a reply; a failed rollout leaves it as it was, but for the note of it."""
    if failure is not None:
        return replace(state, change={"kept": "the rollout failed"})
    return plan.method.update(state, reply, plan.measure)


def make_record(
    plan: Plan,
    problem: Problem,
    asked: Asked,
    learnt: State,
    reply: Reply,
    completion: Completion,
) -> Record:
    """One record of `predictions_<step>.json` (METHOD.md, "Output"); lengths in tokens, but
    `reply_start`, where the new text begins in `pred_solution`, in characters."""
    predicted = None if completion.failure is not None else plan.method.answer(reply.text)
    return {
        "question": plan.chat.decode(list(asked.prompt_ids), skip_special_tokens=False),
        "gold": problem.gold,
        "predicted": predicted,
        "pred_solution": reply.carried + reply.text,
        "correct": predicted == problem.answer,
        "id": problem.id,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": len(asked.prompt_ids),
        "completion_tokens": completion.tokens,
        "max_tokens": asked.request.max_tokens if asked.request else 0,
        "sampling_seed": asked.request.seed if asked.request else None,
        "reply_start": len(reply.carried),
        "update": learnt.change,
        "left_out": asked.left_out,
        "failure": completion.failure,
    }


def judged(completion: Completion) -> Completion:
    """A completion without text is a failed one."""
    if completion.failure is None and not completion.text.strip():
        return replace(completion, failure="the reply is empty")
    return completion


def rests(state: State, stable: int | None) -> bool:
    """Whether the last `stable` answers of a chain agree; never without a number."""
    if stable is None or len(state.answers) < stable:
        return False
    last = state.answers[-stable:]
    return last[0] is not None and all(answer == last[0] for answer in last)


def carried_over(last: Record, step: int) -> Record:
    """The record of a resting chain for a later step: its last one, from `step`, marked so."""
    return {**last, "carried_from": last.get("carried_from", step)}


def replay(plan: Plan, state: State, record: Record) -> State:
    """The state after a rollout read back from disk: the same `learn` over the saved reply. A
    record carried over from an earlier step has taught the chain what it had to."""
    if "carried_from" in record:
        return state
    text, start, failure = (record[name] for name in ("pred_solution", "reply_start", "failure"))
    carried, new = str(text)[: int(str(start))], str(text)[int(str(start)) :]
    reply = Reply(new, plan.chat.visible(new), carried)
    return learn(plan, state, reply, None if failure is None else str(failure))
