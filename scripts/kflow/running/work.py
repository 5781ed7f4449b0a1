"""From prepared runs to finished ones: any number of runs side by side in one engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kflow.ground import hub
from kflow.ground.price import Price, money
from kflow.ground.terminal import counted, first_line, say
from kflow.loop import flow
from kflow.loop.chain import Chain, fresh, restore
from kflow.loop.steps import Plan
from kflow.method import at_once, rollouts_of
from kflow.results import manifest
from kflow.results.capacity import capacity
from kflow.results.description import NOTHING_KNOWN, Description
from kflow.results.manifest import Manifest
from kflow.results.store import Store, check_writable
from kflow.running import canary, preflight, provenance
from kflow.running.heartbeat import Heartbeat
from kflow.running.launch import Started
from kflow.running.policy import Policies, Policy, all_failed
from kflow.running.preflight import Prepared
from kflow.running.progress import Progress
from kflow.running.settings import Settings
from kflow.running.tracking import Tracker
from kflow.types import Chat, Engine, Key, KvCache, RunFailed, UserError

MakeEngine = Callable[[Mapping[str, object], Mapping[str, object], Chat], Engine]
REMEDY = "see the failure fields of its records; --overwrite starts anew"


@dataclass
class Arm:
    """A run whose folder this process holds. before: what run.json says of it, None where it has
    not begun or begins anew. chains: as the replies on disk leave them, of a run that begins anew
    before their first step."""

    prepared: Prepared
    chat: Chat
    plan: Plan
    store: Store
    before: Manifest | None
    chains: list[Chain] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return self.prepared.settings

    @property
    def complete(self) -> bool:
        return self.before is not None and all(chain.done for chain in self.chains)

    @property
    def left(self) -> int:
        """How many rollouts are still to do, at most."""
        plan = self.plan
        return sum(rollouts_of(plan.method, plan.steps, chain.state.step) for chain in self.chains)

    def to_work(self) -> list[Key]:
        """The chains that are not done, each by a rollout of it."""
        return [chain.key(chain.state.step) for chain in self.chains if not chain.done]

    @property
    def all_failed(self) -> bool:
        """Of a complete run: whether it has no reply at all."""
        return all_failed(self.store, self.plan.method.widths)

    def check_failures(self) -> None:
        """Raises UserError where more rollouts on record failed than --max_failures allows."""
        most, failed = self.settings.max_failures, self.store.failed
        if most is not None and failed > most:
            raise UserError(
                f"{self.store.folder} has {counted(failed, 'failed rollout')} on record, more than "
                f"--max_failures {most} allows: raise it to continue."
            )

    def check(self, before: Manifest, described: Description) -> str | None:
        """`manifest.check` of what is on disk. described: the engine; only once it is started is it
        known which version a server has."""
        now, change = self.prepared.manifest, self.settings.change_engine
        replying = manifest.software(now.engine.kind, provenance.versions(), described)
        return manifest.check(before, now, self.store.folder, replying, change)

    def begin(self, started: Started) -> None:
        """Note this start of the program in run.json; with --overwrite, move the old run aside."""
        if self.settings.overwrite:
            self.store.move_aside()
        record = self.prepared.manifest
        session = provenance.session(started.described, record.engine.arguments)
        engine: str | None = None

        def written(saved: dict[str, Any] | None) -> dict[str, Any]:
            nonlocal engine
            if saved is None:
                return dict(manifest.plain(replace(record, sessions=[session])))
            before = manifest.read(saved, self.store.folder)
            # Again: another run may have begun and ended here since the first look.
            engine = self.check(before, session.engine)
            return dict(manifest.plain(manifest.continued(before, record, engine, session)))

        self.store.begin(written)
        self.plan = replace(self.plan, engine=engine)
        for chain in self.chains:
            chain.plan = self.plan


def claim(
    prepare: Callable[[Manifest | None], Prepared],
    folder: Path,
    settings: Settings,
    claims: ExitStack,
) -> Arm:
    """Check everything that can be checked before an engine is started, and hold the run's folder
    until `claims` ends. prepare: what run.json says, or None -> the run."""
    before = None if settings.overwrite else recorded(folder)
    prepared = prepare(before)
    data, chat = prepared.data, prepared.chat
    assert data is not None
    assert chat is not None
    problems, num_seeds = data.problems, settings.num_seeds
    ids = [problem.id for problem in problems]
    store = claims.enter_context(closing(Store(folder, ids, num_seeds)))
    store.lock()
    plan = prepared.plan(data, chat)
    arm = Arm(prepared, chat, plan, store, before)
    if settings.overwrite:
        arm.chains = fresh(plan, problems, store, num_seeds)
    else:
        store.check_begun()
        if before is not None:
            arm.check(before, NOTHING_KNOWN)
        arm.chains = restore(plan, problems, store, num_seeds)
        arm.check_failures()
    if not arm.complete:
        preflight.check_fit(arm.chains)
    return arm


def recorded(folder: Path) -> Manifest | None:
    """What run.json says of a run that has begun, None where none has."""
    if not os.path.exists(folder / "run.json"):
        return None
    saved = Store(folder, []).run()
    return None if saved is None else manifest.read(saved, folder)


def work(arms: Sequence[Arm], make_engine: MakeEngine | None) -> None:
    """Start an engine and work the chains of all arms that are not complete."""
    waiting = [arm for arm in arms if not arm.complete]
    for arm in waiting:
        check_writable(arm.store.folder)
    if len(waiting) > 1:
        together = sum(arm.prepared.load.in_flight for arm in waiting)
        for arm in waiting:
            arm.prepared = arm.prepared.among(together)
    check_one_engine(waiting)
    if waiting:
        left = sum(arm.left for arm in waiting)
        preflight.start([arm.prepared for arm in waiting], left, make_engine is not None)
        first = waiting[0]
        if make_engine is None:
            chains = [key for arm in waiting for key in arm.to_work()]
            started = first.prepared.launch.start(first.chat, chains)
        else:
            launch, sampling = first.prepared.launch, first.prepared.sampling
            started = Started(make_engine(launch.arguments, sampling, first.chat), NOTHING_KNOWN)
        with closing(started.engine):
            started = measured(started, waiting)
            for arm in waiting:
                if arm.before is not None:
                    arm.check(arm.before, started.described)
            if first.settings.canary:
                started = tried(started, first)
            for arm in waiting:
                arm.begin(started)
            watched(waiting, started.engine)
    for arm in arms:
        if arm not in waiting:
            say(complete(arm))
        say(f"Results: {arm.store.folder}")
        if arm.settings.price is not None:
            say(f"Cost: {money(cost(arm, arm.settings.price))}")


def cost(arm: Arm, price: Price) -> float:
    """Of all its rollouts on record."""
    steps = arm.store.summaries.values()
    return sum(price.of(step.prompt_tokens, step.completion_tokens) for step in steps)


def measured(started: Started, arms: Sequence[Arm]) -> Started:
    """The engine with what its KV cache holds of these runs in its description; prints it. Raises
    UserError where it may lose replies, which the estimate before the start did not show."""
    cache: KvCache | None = getattr(started.engine, "kv_cache", None)
    if cache is None:
        return started
    in_flight = sum(
        at_once(chain.plan.method, chain.plan.steps, chain.state.step)
        for arm in arms
        for chain in arm.chains
    )
    holds = capacity(cache, arms[0].settings.max_new_tokens, in_flight)
    with suppress(OSError):  # a closed pipe
        print(holds.sentence(), file=sys.stderr)
    given = "async_scheduling" in arms[0].settings.engine_args
    if getattr(started.engine, "loses_context", False) and holds.may_preempt and not given:
        raise UserError(
            "This vLLM loses the reply of a preempted rollout with async_scheduling, and its KV "
            "cache does not hold the whole windows of all rollouts in the batch: give "
            "--engine_args '{\"async_scheduling\": false}'."
        )
    return started._replace(described=replace(started.described, kv_cache=holds))


def tried(started: Started, arm: Arm) -> Started:
    """The engine with the canary's result in its description; prints it."""
    done = canary.ask(arm.plan, started.engine)
    result = canary.grade(arm.plan, done)
    say(f"Canary: {result.right} of {result.asked} sums are right.")
    unanswered = [each.unanswered for each in done if each.unanswered is not None]
    canary.check(result, unanswered, hub.last_part(arm.settings.model_name))
    return started._replace(described=replace(started.described, canary=result))


def check_one_engine(arms: Sequence[Arm]) -> None:
    """Raises UserError where runs side by side ask for different engines or sampling."""
    for arm in arms[1:]:
        first, other = arms[0].prepared, arm.prepared
        if (first.launch.arguments, first.sampling) != (other.launch.arguments, other.sampling):
            raise UserError(
                f"{first.folder} and {other.folder} ask for different engines: run them one after "
                "the other."
            )


def watched(arms: Sequence[Arm], engine: Engine) -> None:
    """Run the loop under the failure policy, with its progress shown and kept in status.json."""
    # Engines serve first come, first served: attempts that are asked all at once come last, so that
    # no chain's first step waits for all of them.
    chains = sorted((c for arm in arms for c in arm.chains), key=lambda c: c.plan.method.ahead)
    figures = getattr(engine, "progress", None)
    with closing(Progress()) as progress, ExitStack() as trackers:
        policies = Policies(
            {
                arm.plan.name: Policy(
                    arm.chains,
                    arm.store.folder,
                    progress,
                    arm.settings.max_failures,
                    arm.store.failed,
                    f"{arm.prepared.manifest.experiment.prefix} " if len(arms) > 1 else "",
                    tracked(arm, progress, trackers),
                )
                for arm in arms
            },
            progress,
        )
        with policies, closing(Heartbeat(figures, lambda: policies.tokens, policies.beat)):
            flow.run(chains, engine, policies, arms[0].settings.schedule == "barrier")
    for arm in arms:
        if arm.all_failed:
            raise RunFailed(f"Every rollout of {arm.store.folder} failed: {REMEDY}")


def tracked(arm: Arm, progress: Progress, trackers: ExitStack) -> Callable[[], None]:
    """What to call when a step's file of this run is written."""
    if arm.settings.track is None:
        return lambda: None
    try:
        tracker = Tracker(arm.settings.track, arm.store.folder, progress.line)
    except OSError as error:  # a run needs no tracker
        progress.line(f"--track cannot be started ({first_line(error)}); the run continues.")
        return lambda: None
    return trackers.enter_context(closing(tracker)).look


def complete(arm: Arm) -> str:
    """That nothing is left to do. Raises UserError where nothing came of it."""
    what = f"{counted(arm.settings.reflex_size, 'step')} of {counted(len(arm.chains), 'chain')}"
    if arm.all_failed:
        raise UserError(
            f"{arm.store.folder} is complete ({what}), and every rollout failed: {REMEDY}."
        )
    failed = arm.store.failed
    number = f"; {counted(failed, 'rollout')} failed for good" if failed else ""
    return f"{arm.store.folder} is complete: {what}{number}."
