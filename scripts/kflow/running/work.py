"""From prepared runs to finished ones: any number of runs side by side in one engine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

from kflow.engines.vllm_engine import recipes
from kflow.ground.price import money
from kflow.ground.streams import say
from kflow.ground.terminal import counted
from kflow.loop import flow
from kflow.method import at_once
from kflow.results.description import NOTHING_KNOWN, CanaryResult, Capacity, Description
from kflow.results.known_scores import Agreement, known_score, wilson
from kflow.results.records import read_records
from kflow.results.status import EngineStatus
from kflow.running import canary, forecast
from kflow.running.forecast import Forecast
from kflow.running.heartbeat import Heartbeat
from kflow.running.policy import Policies, Policy
from kflow.running.progress import Progress
from kflow.running.run import Run
from kflow.types import Chat, Engine, KvCache, RunFailed, UserError

MakeEngine = Callable[[Mapping[str, object], Mapping[str, object], Chat], Engine]
REMEDY = "see the failure fields of its records; --overwrite starts anew"


def start(runs: Sequence[Run], make_engine: MakeEngine | None) -> tuple[Engine, Description]:
    """The engine that all runs ask for, started, and what is known of it. Raises UserError where
    they ask for different ones."""
    first = runs[0]
    for run in runs[1:]:
        if (first.engine.arguments, first.sampling) != (run.engine.arguments, run.sampling):
            raise UserError(
                f"{first.folder} and {run.folder} ask for different engines: run them one after "
                "the other."
            )
    if make_engine is None:
        return first.engine.start(first.chat, [key for run in runs for key in run.next_rollouts])
    return make_engine(first.engine.arguments, first.sampling, first.chat), NOTHING_KNOWN


def look_at(engine: Engine, description: Description, runs: Sequence[Run]) -> Description:
    """What is known of a started engine, with what its KV cache holds of these runs and, where it
    is asked for, what came of the canary's sums. Raises UserError where the engine is not the one
    that a run began with, and where it does not work."""
    description = measure_cache(engine, description, runs)
    for run in runs:
        if run.before is not None:
            run.check_same(run.before, description)
    if runs[0].settings.canary:
        description = replace(description, canary=ask_sums(engine, runs[0]))
    return description


def measure_cache(engine: Engine, description: Description, runs: Sequence[Run]) -> Description:
    """The description with what the KV cache holds of these runs, which is printed."""
    cache: KvCache | None = getattr(engine, "kv_cache", None)
    if cache is None:
        return description
    in_flight = sum(
        at_once(run.method, run.settings.reflex_size, run.next_step(chain))
        for run in runs
        for chain in run.chains
    )
    holds = Capacity.of(cache, runs[0].settings.max_new_tokens, in_flight)
    with suppress(OSError):  # a closed pipe
        print(holds.sentence(), file=sys.stderr)
    return replace(description, kv_cache=holds)


def ask_sums(engine: Engine, run: Run) -> CanaryResult:
    """What came of the canary's sums, which is printed."""
    done = canary.ask(run, engine)
    result = canary.grade(run, done)
    say(f"Canary: {result.right} of {result.asked} sums are right.")
    unanswered = [each.unanswered for each in done if each.unanswered is not None]
    canary.check(result, unanswered, run.settings.model.last_part)
    return result


def run_loop(runs: Sequence[Run], engine: Engine, others_cost: float = 0.0) -> None:
    """Run the loop under the failure policy, with its progress shown and kept in status.json.
    others_cost: of runs that belong to these and are complete."""
    # Engines serve first come, first served: attempts that are asked all at once come last, so that
    # no chain's first step waits for all of them.
    chains = sorted((c for run in runs for c in run.chains), key=lambda c: c.plan.method.ahead)
    state = getattr(engine, "progress", None)
    with closing(Progress()) as progress:
        policies = Policies(
            {
                run.name: Policy(
                    run.chains,
                    run.store.folder,
                    progress,
                    run.settings.max_failures,
                    run.store.failed,
                    f"{run.experiment.prefix} " if len(runs) > 1 else "",
                    partial(compare_first, run),
                    run.find_cost,
                )
                for run in runs
            },
            progress,
            Forecast(gain_of_batch(runs[0]), runs[0].settings.max_concurrency),
            runs[0].settings.max_cost,
            others_cost,
        )

        def beat(status: EngineStatus) -> None:
            policies.beat(status)
            with suppress(OSError):  # of a full disk, which ends the run with the next rollout
                note_servers(runs, engine)

        with policies, closing(Heartbeat(state, lambda: policies.tokens, beat)):
            flow.run(chains, engine, policies, runs[0].settings.schedule == "barrier")
    note_servers(runs, engine)
    for run in runs:
        if run.all_failed:
            raise RunFailed(f"Every rollout of {run.store.folder} failed: {REMEDY}")


def gain_of_batch(run: Run) -> float:
    """What is assumed of how much faster the engine is with a larger batch (forecast.Speed)."""
    if run.settings.engine == "chat":
        return forecast.ON_SERVERS
    vllm = recipes.installed() if run.settings.engine == "vllm" else None
    return forecast.ON_CPU if vllm is not None and vllm.cpu else forecast.ON_GPUS


def note_servers(runs: Sequence[Run], engine: Engine) -> None:
    """Put servers that have joined meanwhile on record."""
    for run in runs:
        run.note_servers(list(getattr(engine, "joined", ())))


def compare_first(run: Run, seed: int) -> Agreement | None:
    """A seed's first attempts, the rollouts of step 0 one by one as its file has them, beside what
    the model is known to score in single attempts; None where that is not known, or step 0 asks for
    no answer. The interval is over problems, and too wide where each has several attempts."""
    effort, problems = run.experiment.family.reasoning_effort, run.problems
    known = known_score(
        run.settings.model.last_part, effort, problems.source.dataset, len(problems.problems)
    )
    if known is None:
        return None
    attempts = [
        [slot.correct for slot in record.slots if slot.asks_answer]
        for record in read_records(run.store.predictions(seed, 0))
    ]
    if not all(attempts):
        return None
    right, total = sum(sum(each) / len(each) for each in attempts), len(attempts)
    return Agreement(known, right / total, *wilson(right, total))


def describe_complete(run: Run) -> str:
    """That nothing is left to do. Raises UserError where nothing came of it."""
    what = f"{counted(run.settings.reflex_size, 'step')} of {counted(len(run.chains), 'chain')}"
    if run.all_failed:
        raise UserError(
            f"{run.store.folder} is complete ({what}), and every rollout failed: {REMEDY}."
        )
    failed = run.store.failed
    number = f"; {counted(failed, 'rollout')} failed for good" if failed else ""
    return f"{run.store.folder} is complete: {what}{number}."


def report(run: Run, worked: bool) -> None:
    """The last words on a complete run. worked: in this start of the program. Raises UserError
    where nothing was left to do and nothing came of it."""
    if not worked:
        say(describe_complete(run))
    say(f"Results: {run.folder}")
    if (cost := run.find_cost()) is not None:
        say(f"Cost: {money(cost)}")
