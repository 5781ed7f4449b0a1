"""One step of a chain, without effects: what its rollouts are asked, what goes on record, what
their replies teach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kflow import sections
from kflow.answers.base import AnswerType, Sameness, has_box
from kflow.loop.fit import fit
from kflow.loop.sentences import TokenMeasure
from kflow.method import LeftOut, Method, StepContext, StepNote, Template
from kflow.results.rollout import (
    EMPTY,
    Outcome,
    Rollout,
    digest_of,
    merge_step,
    sampling_seed,
    without_texts,
)
from kflow.sections import visible
from kflow.types import Answer, Chat, Completion, Key, Message, Problem, Prompt, Reply, Request


class LoopSettings(Protocol):
    """The settings that the loop reads (running.settings.Settings)."""

    @property
    def reflex_size(self) -> int: ...  # steps per chain, at most

    @property
    def seed(self) -> int: ...

    @property
    def force_sections(self) -> bool: ...

    @property
    def stop_when_stable(self) -> int | None: ...  # so many answers in a row agree; None: never

    @property
    def token_budget(self) -> int | None: ...  # of a chain's prompts and replies; None: none


class Plan(Protocol):
    """What the loop reads of a run (running.run.Run): the same for every rollout."""

    @property
    def name(self) -> str: ...  # of the run, where several share an engine

    @property
    def settings(self) -> LoopSettings: ...

    @property
    def method(self) -> Method[Any, Any]: ...

    @property
    def templates(self) -> Mapping[str, Template]: ...

    @property
    def chat(self) -> Chat: ...

    @property
    def answers(self) -> AnswerType: ...

    @property
    def measure(self) -> TokenMeasure: ...  # the window, and texts by the chat's tokens

    @property
    def family(self) -> str: ...  # as `Rollout` has it, like the two below

    @property
    def end_of_thinking(self) -> str | None: ...

    @property
    def other_engine(self) -> str | None: ...


@dataclass(frozen=True)
class ChainState:
    """Where a chain stands after `step` folded steps.

    method: the method's own state. answers: all its rollouts' own answers so far, in the order of
    steps and slots, canonical. tokens: of all prompts and replies. last: the record of the last
    step that counts, without its texts; where the chain has stopped early, whole and as later steps
    repeat it. undecided: comparisons of answers that were given up.
    """

    method: Any
    step: int = 0
    answers: tuple[Answer | None, ...] = ()
    tokens: int = 0
    last: Rollout | None = None
    undecided: tuple[tuple[Answer, Answer], ...] = ()


@dataclass(frozen=True)
class AskedRollout:
    """A rollout that is asked: its prompt, and the request for it, None where the prompt does not
    fit."""

    key: Key
    seed: int
    prompt: Prompt
    prompt_ids: tuple[int, ...]
    left_out: LeftOut
    carried_tokens: int | None
    request: Request | None
    failure: str | None = None


def start(plan: Plan, problem: Problem) -> ChainState:
    return ChainState(plan.method.start(problem.question))


def context_of(plan: Plan, key: Key, same: Callable[[Answer, Answer], bool]) -> StepContext:
    """What the method may use at this step of this chain."""
    return StepContext(
        plan.measure.window,
        plan.chat.count,
        plan.measure.last_sentences,
        plan.answers,
        lambda earlier, other: same(earlier, other),  # what was given up involves gold answers
        plan.templates,
        lambda slot: seed_of(plan, key._replace(slot=slot)),
    )


def seed_of(plan: Plan, key: Key) -> int:
    return sampling_seed(plan.settings.seed, key.seed, key.problem, key.step, key.slot)


def views(plan: Plan, state: ChainState, key: Key) -> tuple[Any, ...]:
    """What the rollouts of a step are asked from, one view per slot."""
    same = Sameness(plan.answers, state.undecided)
    return plan.method.ask(state.method, context_of(plan, key, same))


def ask(plan: Plan, state: ChainState, view: Any, key: Key) -> AskedRollout:
    """One rollout's request. Its budget is the prompt's fraction of the window or what the prompt
    leaves of it, whichever is less (docs/method.md, "The loop" and "Deviations")."""
    window, same = plan.measure.window, Sameness(plan.answers, state.undecided)
    fitted = fit(plan.method, view, context_of(plan, key, same), plan.chat.render)
    prompt, ids, seed = fitted.prompt, fitted.ids, seed_of(plan, key)
    carried = None
    if prompt.continues:
        carried = len(ids) - len(plan.chat.render(without_carried(prompt)))
    if not fitted.fits:
        failure = (
            f"the prompt takes {len(ids)} tokens with nothing left to leave out, "
            f"more than half of the window of {window}"
        )
        return AskedRollout(key, seed, prompt, ids, fitted.left_out, carried, None, failure)
    budget = min(int(prompt.fraction * window), window - len(ids))
    pattern = None
    if plan.settings.force_sections and prompt.sections:
        # What any prompt leaves, so that all rollouts of a kind share one compiled expression.
        sure = int(min(prompt.fraction, 0.5) * window)
        forms = {"Answer": plan.answers.form, **prompt.forms}
        pattern = sections.pattern(prompt.sections, sure, forms)
    request = Request(key, ids, budget, seed, pattern, prompt.messages)
    return AskedRollout(key, seed, prompt, ids, fitted.left_out, carried, request)


def without_carried(prompt: Prompt) -> Prompt:
    """A prompt without the text it carries, to measure how much of it reaches the model."""
    whole, own = prompt.continues, prompt.nudge
    messages = (Message(m.role, m.content.replace(whole, own)) for m in prompt.messages)
    return replace(prompt, messages=tuple(messages), prefill=prompt.prefill.replace(whole, own))


def record(plan: Plan, problem: Problem, asked: AskedRollout, completion: Completion) -> Rollout:
    """A finished rollout as it goes on record before its step is folded and graded."""
    prompt, failure, text = asked.prompt, completion.failure, completion.text
    if failure is None and not text.strip():
        failure = EMPTY  # and stays so: the same request has the same seed
    shown = visible(plan.family, text, plan.end_of_thinking)
    question = plan.chat.decode(list(asked.prompt_ids), skip_special_tokens=False)
    rollout = Rollout(
        question=question,
        gold=problem.gold,
        predicted=None,
        pred_solution=prompt.continues + text,
        correct=False,
        id=problem.id,
        slot=asked.key.slot,
        family=plan.family,
        finish_reason=completion.finish_reason,
        prompt_tokens=prompt_tokens(asked, completion),
        completion_tokens=completion.tokens,
        max_tokens=completion.max_tokens or (asked.request.max_tokens if asked.request else 0),
        sampling_seed=asked.seed,
        reply_start=len(prompt.continues),
        asks_answer=prompt.asks_answer,
        sections=prompt.sections,
        missing_sections=() if failure is not None else sections.missing(prompt.sections, shown),
        unreadable_box=False,
        knowledge=prompt.shown,
        carried_tokens=asked.carried_tokens,
        left_out=asked.left_out,
        failure=failure,
        digest="",
        preemptions=completion.preemptions,
        lost_context=completion.lost_context,
        engine=plan.other_engine,
        estimated=completion.estimated,
        cost=completion.cost,
        provider=completion.provider,
        end_of_thinking=plan.end_of_thinking,
    )
    rollout = extracted(plan, rollout)
    unreadable = rollout.asks_answer and rollout.predicted is None and has_box(text)
    rollout = replace(rollout, unreadable_box=unreadable)
    return replace(rollout, digest=digest_of(rollout))


def prompt_tokens(asked: AskedRollout, completion: Completion) -> int:
    """0 for a prompt that was not sent or was refused: it cost nothing (docs/method.md,
    "Budgets")."""
    if completion.prompt_tokens is not None:
        return completion.prompt_tokens
    return len(asked.prompt_ids) if completion.failure is None or completion.tokens else 0


def fold(
    plan: Plan,
    problem: Problem,
    key: Key,
    state: ChainState,
    rollouts: Sequence[Rollout],
    undecided: Sequence[tuple[Answer, Answer]] = (),
) -> tuple[ChainState, Outcome]:
    """The state after a step, and what goes on record of it; rollouts: of all slots, in order.

    undecided: the comparisons that were given up when this step was folded before.
    """
    if state.last is not None and stopped_early(plan, state):
        return pass_over(plan, problem, state, rollouts, undecided)
    same = Sameness(plan.answers, (*state.undecided, *undecided))
    answers = list(state.answers)
    replies: list[Reply | None] = []
    for rollout in rollouts:
        answer = same.canonical(rollout.predicted, (a for a in answers if a is not None))
        if rollout.asks_answer:
            answers.append(answer)
        shown = visible(plan.family, rollout.reply, plan.end_of_thinking)
        reply = Reply(rollout.reply, shown, rollout.continues, answer)
        replies.append(None if rollout.failure is not None else reply)
    result = plan.method.update(state.method, tuple(replies), context_of(plan, key, same))
    tokens = state.tokens + sum(r.prompt_tokens + r.completion_tokens for r in rollouts)
    predicted = tuple(None if reply is None else reply.answer for reply in replies)
    outcome = Outcome(
        problem.id,
        result.verdict,
        right(same, problem, result.verdict),
        result.note,
        predicted,
        tuple(right(same, problem, answer) for answer in predicted),
        tuple(same.undecided[len(state.undecided) :]),
        plan.settings.token_budget is not None and tokens >= plan.settings.token_budget,
    )
    last = merge_step(rollouts, outcome)
    after = ChainState(
        result.state, state.step + 1, tuple(answers), tokens, last, tuple(same.undecided)
    )
    if stopped_early(plan, after):
        return replace(after, last=replace(last, repeats_step=state.step)), outcome
    # Nothing repeats this record: memory is not for its texts.
    return replace(after, last=without_texts(last)), outcome


def right(same: Sameness, problem: Problem, answer: Answer | None) -> bool:
    """same: the chain's, so that a grading that was given up is on record and stays so."""
    return answer is not None and same(problem.answer, answer)


def extracted(plan: Plan, rollout: Rollout) -> Rollout:
    """A rollout with the answer that its reply gives by the method's rule."""
    answer = None
    if rollout.failure is None and rollout.asks_answer:
        answer = plan.answers.extract(rollout.reply, plan.method.rule)
    return replace(rollout, predicted=answer)


def pass_over(
    plan: Plan,
    problem: Problem,
    state: ChainState,
    rollouts: Sequence[Rollout],
    undecided: Sequence[tuple[Answer, Answer]],
) -> tuple[ChainState, Outcome]:
    """A step that was asked ahead before its chain stopped: it stays on record, and changes
    nothing."""
    assert state.last is not None
    note = StepNote(skipped="the chain had stopped before this step")
    last, answers = state.last, tuple(rollout.predicted for rollout in rollouts)
    same = Sameness(plan.answers, (*state.undecided, *undecided))
    outcome = Outcome(
        problem.id,
        last.verdict,
        last.verdict_correct,
        note,
        answers,
        tuple(right(same, problem, answer) for answer in answers),
        tuple(same.undecided[len(state.undecided) :]),
        counted=False,
    )
    after = replace(state, step=state.step + 1, undecided=tuple(same.undecided))
    return after, outcome


def stopped_early(plan: Plan, state: ChainState) -> bool:
    """Whether a chain's remaining steps repeat its last record: its last answers agree, or its
    token budget is reached."""
    if state.last is None:
        return False
    if state.last.over_budget:
        return True
    stable = plan.settings.stop_when_stable
    if stable is None or len(state.answers) < stable:
        return False
    last = state.answers[-stable:]
    return last[0] is not None and all(answer == last[0] for answer in last)
