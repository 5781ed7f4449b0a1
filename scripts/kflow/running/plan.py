"""The plan of a run in words: what it asks for, how long that takes, what it costs. What cannot be
known is assumed in round numbers, and the words say so; none of them is a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from kflow.engines.openai_engine.network import on_this_machine
from kflow.engines.vllm_engine import recipes
from kflow.ground.price import Price, money
from kflow.ground.redaction import masked
from kflow.ground.streams import tell
from kflow.ground.terminal import counted
from kflow.running import machine
from kflow.running.checks import PUBLISHED_WEIGHTS, batch, size
from kflow.running.run import NOT_HERE, Run
from kflow.running.workload import GB, Workload, millions, span, volume
from kflow.types import UserError

DOWNLOAD, LOAD = 200 * 10**6, GB  # bytes per second: from the hub, from a disk to GPUs
# Seconds: of processes and profiling, the same on a CPU, of compiling and capturing.
STARTED, ON_CPU, GRAPHS = 60.0, 15.0, 120.0


def lines(run: Run) -> Iterator[str]:
    """The plan of one run; what it holds of the prompt is left to who shows that."""
    settings, load = run.settings, run.load
    problems = counted(len(run.problems.problems), "problem")
    assumed = " (assumed)" if run.problems.source is NOT_HERE else ""
    revision = f" at {run.model.revision[:12]}" if run.model and run.model.revision else ""
    seeds = f", {counted(settings.num_seeds, 'seed')}" if settings.num_seeds > 1 else ""
    yield f"results: {run.folder}"
    yield f"model: {settings.model}{revision}, a window of {settings.max_new_tokens:,} tokens"
    yield (
        f"work: {problems}{assumed} of {settings.dataset}{seeds}, "
        f"{counted(settings.reflex_size, 'step')}: {counted(load.rollouts, 'rollout')}"
    )
    yield f"prompts: {run.wording}"
    yield f"engine: {engine(run)}"
    if settings.engine == "vllm":
        yield f"first token: {first_token(run)}"
    yield f"time: {load.time} ({assumption(run)})"
    yield f"size: {load.size}"
    if settings.engine != "vllm":
        yield f"cost: {cost(load, run.price, settings.price is not None)}"


def assumption(run: Run) -> str:
    """What the time is reckoned with."""
    return "assumed" if run.settings.engine == "chat" else "as assumed of eight GPUs"


def engine(run: Run) -> str:
    """What replies, and the arguments that its size follows from."""
    if run.settings.engine != "vllm":
        urls = ", ".join(map(masked, run.settings.base_url))
        at_once = run.settings.max_concurrency
        limit = "" if at_once is None else f", {counted(at_once, 'request')} at a time"
        return f"{urls} (--engine {run.settings.engine}){limit}"
    vllm, arguments = recipes.installed(), run.engine.arguments
    version = f"vLLM {vllm.version if vllm else recipes.ASSUMED}"
    if vllm is not None and vllm.cpu:
        return f"{version} on this CPU"
    gpus = math.prod(size(arguments, kind) for kind in ("tensor", "pipeline", "data"))
    assumed = "" if vllm else "; that version is assumed, since none is installed here"
    return (
        f"{version}, recipe {run.settings.recipe}, {counted(gpus, 'GPU')}, "
        f"batches of {batch(arguments):,}{assumed}"
    )


def first_token(run: Run) -> str:
    """How long the engine takes to its first token, as far as its weights are known."""
    settings, vllm = run.settings, recipes.installed()
    weights = machine.weights(settings.model, run.model)
    total = weights.total or PUBLISHED_WEIGHTS.get(settings.model.name)
    if total is None or run.engine.arguments.get("load_format") == "dummy":
        return "not known without the weights"
    parts = []
    if (missing := total - weights.here) > 0 and not settings.model.is_folder:
        parts.append((f"{volume(missing)} downloaded at 200 MB/s", missing / DOWNLOAD))
    parts.append((f"{volume(total)} loaded at 1 GB/s", total / LOAD))
    cpu = vllm is not None and vllm.cpu
    parts.append(("the engine started", ON_CPU if cpu else STARTED))
    if not cpu and not run.engine.arguments.get("enforce_eager"):
        parts.append(("graphs captured", GRAPHS))
    words = ", ".join(f"{what} ({span(seconds)})" for what, seconds in parts if seconds >= 1)
    return f"after about {span(sum(seconds for _, seconds in parts))}: {words}; all assumed"


def cost(load: Workload, price: Price | None, by_flags: bool) -> str:
    """What rollouts cost: to be expected, and at most."""
    if price is None:
        return (
            f"no prices given: {counted(load.rollouts, 'rollout')}, about {millions(load.tokens)} "
            f"(at an assumed {load.tokens_per_rollout:,} each)"
        )
    most = price.higher * load.rollouts * load.window / 1e6
    whose = "the flags" if by_flags else "the server's list"
    return (
        f"about {money(price.higher * load.tokens / 1e6)} ({counted(load.rollouts, 'rollout')} of "
        f"an assumed {load.tokens_per_rollout:,} tokens), at most {money(most)} (of full windows); "
        f"by {whose}: {price}"
    )


def left_of(runs: Sequence[Run]) -> Workload:
    """What is still to do of runs that share an engine."""
    whole = runs[0].load
    for run in runs[1:]:
        whole += run.load
    return replace(whole, rollouts=sum(run.rollouts_left for run in runs))


def begin(runs: Sequence[Run], waiting: Sequence[Run]) -> None:
    """Say what the rollouts cost that are still to do, before the first of them is asked of a
    server. waiting: the runs that are not complete. Raises UserError where the limit that is set
    is reached, or could not be held."""
    settings, price = waiting[0].settings, waiting[0].price
    if settings.engine == "vllm":
        return
    spent, most = sum(run.find_cost() or 0.0 for run in runs), settings.max_cost
    if most is not None and price is None:
        raise UserError(
            "--max_cost cannot be held, since no server says what a token costs: give "
            "--prompt_price and --reply_price."
        )
    if most is not None and spent >= most:
        raise UserError(
            f"The cost so far is {money(spent)}, and --max_cost {most:g}: raise it to continue."
        )
    if price is not None or not all(map(on_this_machine, settings.addresses)):
        before = f"{money(spent)} so far, then " if spent else ""
        tell(f"Cost: {before}{cost(left_of(waiting), price, settings.price is not None)}")
