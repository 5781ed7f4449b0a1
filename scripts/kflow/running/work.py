"""From prepared runs to finished ones: any number of runs side by side in one engine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace

from kflow.answers import AnswerType, Integer
from kflow.engines.vllm_engine import recipes
from kflow.families import PUBLISHED
from kflow.ground.price import money
from kflow.ground.streams import say
from kflow.ground.terminal import counted, printable
from kflow.loop import flow
from kflow.method import at_once
from kflow.results.description import NOTHING_KNOWN, CanaryResult, Capacity, Description
from kflow.results.rollout import sampling_seed
from kflow.results.status import EngineStatus
from kflow.running import forecast
from kflow.running.forecast import Forecast
from kflow.running.policy import Policies
from kflow.running.progress import Heartbeat, Progress
from kflow.running.run import Run
from kflow.types import (
    Chat,
    Completion,
    Engine,
    Key,
    KvCache,
    Message,
    Prompt,
    Request,
    RunEnded,
    RunFailed,
    UserError,
)

MakeEngine = Callable[[Mapping[str, object], Mapping[str, object], Chat], Engine]
REMEDY = "see the failure fields of its records; --overwrite starts anew"
# Of --canary: what is asked, and how many of them must be right.
SUMS = (
    (17, 25), (48, 39), (86, 57), (123, 456), (209, 318), (374, 188), (507, 694), (815, 276),
    (931, 489), (640, 772),
)  # fmt: skip
ENOUGH = 8
LONGEST = 8192  # tokens; models that think take hundreds for a sum
SHOWN = 200  # characters of a wrong reply, at its end


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
        description = replace(description, canary=run_canary(engine, runs[0]))
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


def run_canary(engine: Engine, run: Run) -> CanaryResult:
    """What came of ten sums, which is printed: whether chat template, engine and extraction work
    together at all. A broken kernel, template or tensor parallel group replies fluently and
    wrongly; a sum shows it in minutes, where the run would show it after a day.

    Raises UserError where a published model gets too many of them wrong, RunEnded where it might
    not have if the engine had not given some up for now.
    """
    completions = ask_sums(engine, run)
    result = grade_sums(run, completions)
    say(f"Canary: {result.right} of {result.asked} sums are right.")
    model = run.settings.model.last_part
    if result.right >= ENOUGH or model not in PUBLISHED:
        return result
    unanswered = [each.unanswered for each in completions if each.unanswered is not None]
    if result.right + len(unanswered) >= ENOUGH:
        raise RunEnded(
            f"{len(unanswered)} of {result.asked} sums (--canary) got no reply; first: "
            f"{printable(unanswered[0])}"
        )
    raise UserError(
        f"Only {result.right} of {result.asked} sums are right (--canary), but {model} should "
        "get all of them right: look for a broken kernel, chat template or tensor parallel "
        "setting. "
        f"{printable(result.wrong[0])}"
    )


def ask_sums(engine: Engine, run: Run) -> list[Completion]:
    """Ask the sums, rendered and seeded as the run's own requests are, and wait for all of them."""
    answers, window = type_of_sums(run.answers), run.settings.max_new_tokens
    form = f"Put the answer, {answers.instruction}, into \\boxed{{{answers.box}}}."
    for number, (first, second) in enumerate(SUMS):
        message = Message("user", f"What is {first} + {second}? {form}")
        ids = tuple(run.chat.render(Prompt((message,), fraction=0.5)))
        key = Key("canary", f"sum {number}", 0, 0)
        seed = sampling_seed(run.settings.seed, 0, key.problem, 0)
        engine.submit(Request(key, ids, max(1, min(LONGEST, window - len(ids))), seed))
    done: list[Completion] = []
    while len(done) < len(SUMS) and (finished := engine.completions()):
        done += finished
    return done


def type_of_sums(answers: AnswerType) -> AnswerType:
    """The data's own, but where it takes no numbers, as letters of choices."""
    try:
        answers.gold(sum(SUMS[0]))
    except ValueError:
        return Integer()
    return answers


def grade_sums(run: Run, completions: Sequence[Completion]) -> CanaryResult:
    """Replies, in any order, by the run's own rule."""
    answers, wrong = type_of_sums(run.answers), []
    for completion in sorted(completions, key=lambda done: done.key):
        first, second = SUMS[int(completion.key.problem.removeprefix("sum "))]
        answer = answers.extract(completion.text, run.method.rule)
        if answer is None or not answers.same(answers.gold(first + second), answer):
            end = completion.failure or completion.unanswered or completion.text[-SHOWN:]
            wrong.append(f"{first} + {second}: {end.strip()}")
    return CanaryResult(len(completions) - len(wrong), len(SUMS), tuple(wrong))


def run_loop(runs: Sequence[Run], engine: Engine, others_cost: float = 0.0) -> None:
    """Run the loop under the failure policy, with its progress shown and kept in status.json.
    others_cost: of runs that belong to these and are complete."""
    # Engines serve first come, first served: attempts that are asked all at once come last, so that
    # no chain's first step waits for all of them.
    chains = sorted((c for run in runs for c in run.chains), key=lambda c: c.plan.method.ahead)
    settings, state = runs[0].settings, getattr(engine, "progress", None)

    def note() -> None:
        """Put what the engine has shown meanwhile on record."""
        for run in runs:
            run.note(list(getattr(engine, "joined", ())), list(getattr(engine, "findings", ())))

    with closing(Progress()) as progress:
        pace = Forecast(gain_of_batch(runs[0]), settings.max_concurrency)
        policies = Policies(runs, progress, pace, others_cost)

        def beat(status: EngineStatus) -> None:
            policies.beat(status)
            with suppress(OSError):  # of a full disk, which ends the run with the next rollout
                note()

        with policies, closing(Heartbeat(state, lambda: policies.tokens, beat)):
            flow.run(chains, engine, policies, settings.schedule == "barrier")
    note()
    for run in runs:
        if run.all_failed:
            raise RunFailed(f"Every rollout of {run.folder} failed: {REMEDY}")


def gain_of_batch(run: Run) -> float:
    """What is assumed of how much faster the engine is with a larger batch (forecast.Speed)."""
    if run.settings.engine == "chat":
        return forecast.ON_SERVERS
    on_cpu = run.settings.engine == "vllm" and recipes.is_cpu_build()
    return forecast.ON_CPU if on_cpu else forecast.ON_GPUS


def report(run: Run, worked: bool) -> None:
    """The last words on a complete run. worked: in this start of the program. Raises UserError
    where nothing was left to do and nothing came of it."""
    if not worked:
        steps, chains = run.settings.reflex_size, len(run.chains)
        what = f"{counted(steps, 'step')} of {counted(chains, 'chain')}"
        if run.all_failed:
            raise UserError(
                f"{run.folder} is complete ({what}), and every rollout failed: {REMEDY}."
            )
        failed = run.store.failed
        number = f"; {counted(failed, 'rollout')} failed for good" if failed else ""
        say(f"{run.folder} is complete: {what}{number}.")
    say(f"Results: {run.folder}")
    if (cost := run.find_cost()) is not None:
        say(f"Cost: {money(cost)}")
