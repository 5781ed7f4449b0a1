"""The plan of runs in words: what they ask of an engine, how long that takes, what it costs. What
cannot be known is assumed in round numbers, and the words say so; none of them is a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kflow.engines.openai_engine.network import on_this_machine
from kflow.engines.vllm_engine import recipes
from kflow.ground.price import money
from kflow.ground.redaction import masked
from kflow.ground.streams import tell
from kflow.ground.terminal import counted
from kflow.results.status import duration
from kflow.running.checks import GB, batch, find_weights, gpus_needed, volume
from kflow.running.policy import check_cost
from kflow.running.run import NOT_HERE, Run
from kflow.types import UserError

# Tokens of a prompt and its reply; per second, of a node of eight GPUs; per second, of one rollout,
# however few there are.
ASSUMED_TOKENS, ASSUMED_SPEED, FASTEST = 20_000, 5_000, 200
BYTES_PER_TOKEN = 4.5  # of a record, its prompt included
DOWNLOAD, LOAD = 200 * 10**6, GB  # bytes per second: from the hub, from a disk to GPUs
STARTED, GRAPHS = 60.0, 120.0  # seconds: of processes and profiling, of compiling and capturing


@dataclass(frozen=True)
class Workload:
    """What runs side by side ask. in_flight: the most rollouts at a time. rollouts: still to do.
    window: tokens. steps: of the longest chain, one after another. assumed: tokens of a prompt and
    its reply; speed: tokens per second, of all together."""

    in_flight: int
    rollouts: int
    window: int
    steps: int = 1
    assumed: int = ASSUMED_TOKENS
    speed: float = ASSUMED_SPEED

    @property
    def tokens_per_rollout(self) -> int:
        return min(self.assumed, self.window)

    @property
    def tokens(self) -> int:
        return self.rollouts * self.tokens_per_rollout

    @property
    def result_bytes(self) -> int:
        return int(self.tokens * BYTES_PER_TOKEN)

    @property
    def seconds(self) -> float:
        """As long as all tokens take together, or those of a chain one after another."""
        return max(self.tokens / self.speed, self.steps * self.tokens_per_rollout / FASTEST)

    @property
    def time(self) -> str:
        speed = f"{self.tokens / self.seconds:,.0f} tokens/s" if self.seconds else "any speed"
        return f"{millions(self.tokens)} at {speed} in total: {duration(self.seconds)}"


def load_of(runs: Sequence[Run]) -> Workload:
    """All that runs side by side ask, as if nothing of it were done."""
    settings, in_flight = runs[0].settings, sum(run.in_flight for run in runs)
    speed: float = ASSUMED_SPEED
    if settings.engine == "chat":  # a service has room for as many as are sent
        speed = FASTEST * min(in_flight, settings.max_concurrency or in_flight)
    return Workload(
        in_flight,
        sum(run.rollouts for run in runs),
        settings.max_new_tokens,
        max(1 if run.method.ahead else run.settings.reflex_size for run in runs),
        speed=speed,
    )


def left_of(runs: Sequence[Run]) -> Workload:
    """What is still to do of runs that share an engine."""
    return replace(load_of(runs), rollouts=sum(run.rollouts_left for run in runs))


def of_run(run: Run) -> Iterator[str]:
    """The plan of one run; what it holds of the prompt is left to who shows that."""
    settings, load = run.settings, load_of([run])
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
    yield from of_engine(run, load)


def of_study(runs: Sequence[Run], assumed: int, speed: int) -> Iterator[str]:
    """The plan of runs that share an engine. assumed, speed: as of a `Workload`."""
    for run in runs:
        settings, number = run.settings, len(run.problems.problems)
        yield (
            f"{run.folder}: {counted(settings.reflex_size, 'step')}, "
            f"{counted(number, 'problem')}, {counted(settings.num_seeds, 'seed')}, "
            f"{counted(run.rollouts, 'rollout')}"
        )
    load = replace(load_of(runs), assumed=assumed, speed=speed)
    yield (
        f"together: {counted(load.rollouts, 'rollout')} of an assumed "
        f"{load.tokens_per_rollout:,} tokens"
    )
    yield from of_engine(runs[0], load)


def of_engine(run: Run, load: Workload) -> Iterator[str]:
    """What replies, and what all of the load takes of it."""
    of_vllm = run.settings.engine == "vllm"
    yield f"engine: {engine(run)}"
    if of_vllm:
        yield f"first token: {first_token(run)}"
    hardware = "assumed" if run.settings.engine == "chat" else "assumed for eight GPUs"
    yield f"time: {load.time} ({hardware})"
    yield f"size: {millions(load.tokens)}, {volume(load.result_bytes)} of results"
    if not of_vllm:
        yield f"cost: {cost(run, load)}"


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
    assumed = "" if vllm else "; that version is assumed, since none is installed here"
    return (
        f"{version}, recipe {run.settings.recipe}, {counted(gpus_needed(arguments), 'GPU')}, "
        f"batches of {batch(arguments):,}{assumed}"
    )


def first_token(run: Run) -> str:
    """How long the engine takes to its first token, as far as its weights are known."""
    model = run.settings.model
    weights = find_weights(model, run.model)
    if weights.total is None or run.engine.arguments.get("load_format") == "dummy":
        return "not known without the weights"
    parts = []
    if (missing := weights.total - weights.here) > 0 and not model.is_folder:
        parts.append((f"{volume(missing)} downloaded at 200 MB/s", missing / DOWNLOAD))
    parts.append((f"{volume(weights.total)} loaded at 1 GB/s", weights.total / LOAD))
    parts.append(("the engine started", STARTED))
    if not recipes.is_cpu_build() and not run.engine.arguments.get("enforce_eager"):
        parts.append(("graphs captured", GRAPHS))
    words = ", ".join(f"{what} ({duration(seconds)})" for what, seconds in parts if seconds >= 1)
    return f"after about {duration(sum(seconds for _, seconds in parts))}: {words}; all assumed"


def cost(run: Run, load: Workload) -> str:
    """What rollouts cost: to be expected, and at most."""
    price = run.price
    if price is None:
        return (
            f"no prices given: {counted(load.rollouts, 'rollout')}, about {millions(load.tokens)} "
            f"(at an assumed {load.tokens_per_rollout:,} each)"
        )
    most = price.higher * load.rollouts * load.window / 1e6
    whose = "the server's list" if run.settings.price is None else "the flags"
    return (
        f"about {money(price.higher * load.tokens / 1e6)} ({counted(load.rollouts, 'rollout')} of "
        f"an assumed {load.tokens_per_rollout:,} tokens), at most {money(most)} (of full windows); "
        f"by {whose}: {price}"
    )


def say_cost(runs: Sequence[Run], waiting: Sequence[Run]) -> None:
    """Say what the rollouts cost that are still to do, before the first of them is asked of a
    server. waiting: the runs that are not complete. Raises UserError where the limit that is set
    is reached, or could not be held."""
    first = waiting[0]
    settings = first.settings
    if settings.engine == "vllm":
        return
    check_priced(first)
    spent = sum(run.find_cost() or 0.0 for run in runs)
    check_cost(settings.max_cost, spent, UserError)
    if first.price is not None or not all(map(on_this_machine, settings.addresses)):
        before = f"{money(spent)} so far, then " if spent else ""
        tell(f"Cost: {before}{cost(first, left_of(waiting))}")


def check_priced(run: Run) -> None:
    """Raises UserError where what a run may cost is limited, and nothing says what it costs."""
    if run.settings.max_cost is not None and run.price is None:
        raise UserError(
            "--max_cost cannot be enforced, since not every server says what a token costs: give "
            "--prompt_price and --reply_price."
        )


def millions(tokens: float) -> str:
    """`90,000 tokens`, `1.5 million tokens`, `38 million tokens`"""
    if tokens < 10**6:
        return f"{tokens:,.0f} tokens"
    return f"{tokens / 1e6:,.{0 if tokens >= 10**7 else 1}f} million tokens"
