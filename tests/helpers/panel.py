"""A method of several rollouts a step, and runs of it in the loop, killed and resumed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.fakes import FixedPlan, Pick, ScriptedChat, ScriptedEngine, stable
from kflow.answers import LAST_BOXED_OR_LAST, Rule
from kflow.loop import flow
from kflow.loop.chain import restore
from kflow.method import LeftOut, Replies, StepContext, StepNote, StepResult
from kflow.results.rollout import Rollout, Summary
from kflow.results.store import Store
from kflow.running.settings import Settings
from kflow.types import Completion, Entry, Key, Message, Problem, Prompt, Request

STEPS = 5
LIMITS = ("seed", "stop_when_stable", "token_budget", "force_sections", "reflex_size")
PROBLEMS = [Problem(name, f"What is {name}?", 100, 100) for name in ("first", "second")]


@dataclass(frozen=True)
class Panel:
    """Three rollouts, then one that names the best of them, and so on: a method for the tests."""

    rule: Rule = LAST_BOXED_OR_LAST
    ahead: bool = False
    prompts: Mapping[str, frozenset[str]] = None  # type: ignore[assignment]
    prompt_folder: str = ""

    def start(self, question: str) -> tuple[str, int, tuple[str, ...], str]:
        return (question, 0, (), "")

    def ask(self, state: Any, context: StepContext) -> tuple[str, ...]:
        question, step, candidates, best = state
        if step % 2:
            return (f"{question} Best of {' | '.join(candidates)}?",)
        return tuple(f"{question} After {best} draw {context.draw(slot)}" for slot in range(3))

    def render(self, view: str, context: StepContext) -> Prompt:
        choosing = "Best of" in view
        shown = (Entry(view),) if choosing else ()
        return Prompt((Message("user", view),), 0.5, asks_answer=not choosing, shown=shown)

    def shrink(self, view: str, excess: int, context: StepContext) -> tuple[str, LeftOut] | None:
        return None

    def update(self, state: Any, replies: Replies, context: StepContext) -> StepResult[Any]:
        question, step, candidates, best = state
        if step % 2:
            (reply,) = replies
            digits = re.findall(r"\d+", reply.text) if reply else []
            number = int(digits[-1]) % len(candidates) if digits and candidates else 0
            best = candidates[number] if candidates else best
            answer = int(best.split()[-1]) if best else None
            return StepResult((question, step + 1, (), best), answer, StepNote(selected=number))
        texts = tuple(f"c {reply.answer}" for reply in replies if reply is not None)
        added = tuple(Entry(text) for text in texts)
        verdict = next((reply.answer for reply in replies if reply is not None), None)
        return StepResult((question, step + 1, texts, best), verdict, StepNote(added=added))


@dataclass(frozen=True)
class Independent(Panel):
    """The same question at every step; the verdict is the last answer but for ties."""

    ahead: bool = True

    def ask(self, state: Any, context: StepContext) -> tuple[str, ...]:
        return (state[0],)

    def update(self, state: Any, replies: Replies, context: StepContext) -> StepResult[Any]:
        question, step, candidates, best = state
        (reply,) = replies
        return StepResult((question, step + 1, candidates, best), reply and reply.answer)


class Quiet:
    """An observer that only remembers."""

    def __init__(self) -> None:
        self.rollouts: list[Key] = []
        self.steps: list[tuple[int, Summary]] = []
        self.stops: list[tuple[Key, str]] = []

    def rollout(self, key: Key, rollout: Rollout) -> None:
        self.rollouts.append(key)

    def step(self, key: Key, summary: Summary) -> None:
        self.steps.append((key.step, summary))

    def stopped(self, key: Key, reason: str) -> None:
        self.stops.append((key, reason))


def script(request: Request, prompt: str) -> Completion | str:
    key = request.key
    if stable(key) % 7 == 0:
        return Completion(key, failure="it is refused for good")
    return f"Thought.</think> \\boxed{{{100 + (stable(key) + key.slot) % 3}}}"


def plan(method: Any, chat: ScriptedChat, **more: Any) -> FixedPlan:
    settings = {"max_new_tokens": 4000, "reflex_size": STEPS}
    settings |= {name: more.pop(name) for name in list(more) if name in LIMITS}
    return FixedPlan(method, chat, Settings(**settings), **more)


class Killed(Exception):
    pass


def work(
    folder: Path,
    method: Any,
    order: int = 0,
    kill_after: int | None = None,
    script: Callable[[Request, str], Completion | str] = script,
    barrier: bool = False,
    pick: Pick | None = None,
    **more: Any,
) -> tuple[Quiet, ScriptedEngine]:
    chat, observer = ScriptedChat(), Quiet()
    engine = ScriptedEngine(script, order, stop_after=kill_after, stop_with=Killed(), pick=pick)
    engine.start({}, {}, chat)
    store = Store(folder, [problem.id for problem in PROBLEMS])
    try:
        store.lock()
        chains = restore(plan(method, chat, **more), PROBLEMS, store)
        store.begin(lambda before: before or {"settings": {}, "sessions": [{}]})
        flow.run(chains, engine, observer, barrier)
    except Killed:
        pass
    finally:
        store.close()
    return observer, engine
