"""What waiting costs, on a real engine: barriers, seeds in one engine, and arms in one engine.

    python tests/benchmarks/schedule.py --model_name FOLDER [--parts draws,seeds,parallel,arms]

Works N problems for S rollouts each through the real loop, with replies of forced lengths
drawn from a lognormal distribution (sigma 0.8, independent between rollouts), the same for every
schedule:

draws     per draw, the barrier schedule and the free one in alternation
seeds     per draw, K seeds side by side without a barrier, against K barrier runs one after
          another and against the bound: the same requests all at once, as if independent
parallel  per draw, parallel thinking against the same requests all at once
arms      the mistakes list, refinement, parallel thinking and recursive self-aggregation (N = 3,
          K = 2) side by side, against the four one after another, each without a barrier, and
          against the same requests all at once

The batch holds all that a part's free schedule has in flight. The last line is JSON; times are
seconds in the loop, without the engine's start.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

import vllm_kflow_qwen  # noqa: E402
import vllm_qwen_parallel_thinking  # noqa: E402
import vllm_qwen_refine  # noqa: E402
import vllm_qwen_rsa  # noqa: E402
from helpers.fakes import FixedPlan  # noqa: E402
from kflow.engines.vllm_engine.recipes import cpu_dtype, node  # noqa: E402
from kflow.engines.vllm_engine.vllm import VllmEngine  # noqa: E402
from kflow.experiment import Experiment  # noqa: E402
from kflow.families.chat import TemplateChat  # noqa: E402
from kflow.loop import flow  # noqa: E402
from kflow.loop.chain import Chain, restore  # noqa: E402
from kflow.loop.prompts import PromptText  # noqa: E402
from kflow.method import at_once, within  # noqa: E402
from kflow.methods.rsa import Rsa  # noqa: E402
from kflow.problems import problems  # noqa: E402
from kflow.results.rollout import Rollout, Summary, sampling_seed  # noqa: E402
from kflow.results.store import Store  # noqa: E402
from kflow.running.settings import Settings  # noqa: E402
from kflow.types import Completion, Key, Request  # noqa: E402

WINDOW = 2048
PARTS = ("draws", "seeds", "parallel", "arms")
PARALLEL = vllm_qwen_parallel_thinking.EXPERIMENT
MISTAKES = vllm_kflow_qwen.EXPERIMENT
WIDE = vllm_qwen_rsa.EXPERIMENT
SMALLER = replace(cast(Rsa, WIDE.method), rollouts_per_step=3, aggregate=2)
ARMS = (MISTAKES, vllm_qwen_refine.EXPERIMENT, PARALLEL, replace(WIDE, method=SMALLER))


class Forced(VllmEngine):
    """The real engine with every reply as long as the draw says, whatever the model would do."""

    draw, median, sigma = 0, 0.0, 0.0
    inside = 0.0

    def length(self, key: Key) -> int:
        """Tokens: lognormal, the same for a (draw, key) under every schedule."""
        name = f"{key.run}/{key.problem}"
        number = sampling_seed(self.draw, key.seed, name, key.step, key.slot)
        drawn = random.Random(number).lognormvariate(0.0, self.sigma)
        return max(1, min(WINDOW // 2, round(self.median * drawn)))

    def _params(self, request: Request):  # type: ignore[no-untyped-def]
        params = super()._params(request)
        params.ignore_eos = True
        params.max_tokens = params.min_tokens = self.length(request.key)
        return params

    def forget(self) -> None:
        """Drop cached prompts, so that no measurement reads what an earlier one has prefilled."""
        if not self._engine.reset_prefix_cache():
            raise RuntimeError("The engine did not drop its prefix cache: the times would lie.")

    def submit(self, request: Request) -> None:
        before = time.perf_counter()
        super().submit(request)
        self.inside += time.perf_counter() - before

    def completions(self) -> list[Completion]:
        before = time.perf_counter()
        done = super().completions()
        self.inside += time.perf_counter() - before
        return done


class Quiet:
    """An observer that shows nothing."""

    def rollout(self, key: Key, rollout: Rollout) -> None: ...

    def step(self, key: Key, summary: Summary) -> None: ...

    def stopped(self, key: Key, reason: str) -> None:
        raise RuntimeError(f"{key} was not answered: {reason}")


class Bench:
    """N problems and one engine; each measurement in results folders of its own.

    requests: what the last `run` asked.
    """

    def __init__(self, engine: Forced, chat: TemplateChat, number: int, rollouts: int) -> None:
        self.engine, self._chat, self._rollouts = engine, chat, rollouts
        self._data = problems.load("quickstart", "train", number)
        self.requests: list[Request] = []

    def plan(self, experiment: Experiment) -> FixedPlan:
        """An experiment whose every prompt is the question alone: where a reply has 20,000 tokens,
        reading a prompt is a hundredth of writing a reply, and with prompts as long as these
        replies it would be half."""
        method, steps = experiment.method, within(experiment.method, self._rollouts)[1]
        return FixedPlan(
            name=experiment.prefix,
            settings=Settings(max_new_tokens=WINDOW, reflex_size=steps),
            method=method,
            templates={
                name: PromptText("[[QUESTION]]" if "QUESTION" in slots else "")
                for name, slots in method.prompts.items()
            },
            chat=self._chat,
            family=experiment.family.name,
            answers=self._data.answers,
        )

    def run(
        self, arms: Sequence[Experiment], seeds: Collection[int] = (0,), barrier: bool = False
    ) -> float:
        """Seconds to work the chains of these experiments and seeds together."""
        self.requests = []
        chains: list[Chain] = []
        ids, number = [problem.id for problem in self._data.problems], max(seeds) + 1
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stores:
            for plan in map(self.plan, arms):
                path = Path(folder) / plan.name
                store = stores.enter_context(closing(Store(path, ids, number)))
                store.begin(lambda before: {"settings": {}, "sessions": [{}]})
                restored = restore(plan, self._data.problems, store, number)
                chains += (chain for chain in restored if chain.seed in seeds)
            self.engine.forget()
            before = time.perf_counter()
            flow.run(chains, self, Quiet(), barrier)
            return time.perf_counter() - before

    def at_once(self, requests: Sequence[Request]) -> float:
        """Seconds to answer requests that are all there from the start."""
        self.engine.forget()
        before = time.perf_counter()
        for request in requests:
            self.engine.submit(request)
        while self.engine.completions():
            pass
        return time.perf_counter() - before

    def submit(self, request: Request) -> None:
        self.requests.append(request)
        self.engine.submit(request)

    def completions(self) -> list[Completion]:
        return self.engine.completions()

    def close(self) -> None:
        self.engine.close()


def draws(bench: Bench, number: int) -> dict[str, object]:
    measured = []
    for draw in range(number):
        bench.engine.draw = draw
        order = (True, False) if draw % 2 == 0 else (False, True)
        seconds = {barrier: bench.run([MISTAKES], barrier=barrier) for barrier in order}
        measured.append({"barrier": round(seconds[True], 2), "free": round(seconds[False], 2)})
        print(json.dumps(measured[-1]), flush=True)
    ratios = [draw["barrier"] / draw["free"] for draw in measured]
    return {
        "draws": measured,
        "barrier_to_free": [round(ratio, 2) for ratio in ratios],
        "barrier_to_free_median": round(statistics.median(ratios), 2),
    }


def seeds(bench: Bench, number: int, draws: int) -> dict[str, object]:
    measured = []
    for draw in range(draws):
        bench.engine.draw, bench.engine.inside = draw, 0.0
        together = bench.run([MISTAKES], range(number))
        outside = 1 - bench.engine.inside / together
        requests = bench.requests
        one_by_one = sum(bench.run([MISTAKES], [seed], barrier=True) for seed in range(number))
        bound = bench.at_once(requests)
        measured.append(
            {
                "tokens": sum(bench.engine.length(request.key) for request in requests),
                "seconds": round(together, 2),
                "one_by_one_seconds": round(one_by_one, 2),
                "bound_seconds": round(bound, 2),
                "speed_up": round(one_by_one / together, 2),
                "to_bound": round(together / bound, 3),
                "outside_engine_percent": round(100 * outside, 2),
            }
        )
        print(json.dumps(measured[-1]), flush=True)
    medians = ("speed_up", "to_bound", "outside_engine_percent")
    return {
        "num_seeds": number,
        "seeds": measured,
        **{f"seeds_{name}": statistics.median(draw[name] for draw in measured) for name in medians},
    }


def parallel(bench: Bench, draws: int) -> dict[str, object]:
    ratios = []
    for draw in range(draws):
        bench.engine.draw = draw
        alone = bench.run([PARALLEL])
        ratios.append(round(alone / bench.at_once(bench.requests), 3))
        print(json.dumps({"parallel_seconds": round(alone, 2), "to_bound": ratios[-1]}), flush=True)
    return {"parallel_to_bound": ratios, "parallel_to_bound_median": statistics.median(ratios)}


def arms(bench: Bench) -> dict[str, object]:
    bench.engine.draw, bench.engine.inside = 0, 0.0
    together = bench.run(ARMS)
    outside = 1 - bench.engine.inside / together
    requests = bench.requests
    alone = {arm.prefix: round(bench.run([arm]), 2) for arm in ARMS}
    bound = bench.at_once(requests)
    return {
        "arms_rollouts": len(requests),
        "arms_tokens": sum(bench.engine.length(request.key) for request in requests),
        "arms_seconds": round(together, 2),
        "arms_alone_seconds": alone,
        "arms_to_one_by_one": round(together / sum(alone.values()), 3),
        "arms_bound_seconds": round(bound, 2),
        "arms_to_bound": round(together / bound, 3),
        "arms_outside_engine_percent": round(100 * outside, 2),
    }


def in_flight(arm: Experiment, rollouts: int) -> int:
    """The most rollouts that a chain of an experiment has in flight."""
    return at_once(arm.method, within(arm.method, rollouts)[1])


def benchmark(options: argparse.Namespace) -> dict[str, object]:
    chat = TemplateChat(options.model_name)
    chains = {
        "draws": 1,
        "seeds": options.num_seeds,
        "parallel": in_flight(PARALLEL, options.rollouts),
        "arms": sum(in_flight(arm, options.rollouts) for arm in ARMS),
    }
    args = {
        "model": options.model_name,
        "dtype": cpu_dtype(node().release),
        "enforce_eager": True,
        "max_model_len": WINDOW,
        "max_num_seqs": options.max_num_seqs
        or options.problems * max(chains[part] for part in options.parts),
        "enable_chunked_prefill": False,
        "enable_prefix_caching": True,
    }
    engine = Forced(args, {"temperature": 0.6}, partial(chat.decode, skip_special_tokens=True))
    engine.median, engine.sigma, engine.draw = options.median_tokens, options.sigma, -1
    bench = Bench(engine, chat, options.problems, options.rollouts)
    with closing(engine):
        bench.run([MISTAKES])  # a warm-up, not counted
        figures: dict[str, object] = {}
        if "draws" in options.parts:
            figures |= draws(bench, options.draws)
        if "seeds" in options.parts:
            figures |= seeds(bench, options.num_seeds, options.draws)
        if "parallel" in options.parts:
            figures |= parallel(bench, options.draws)
        if "arms" in options.parts:
            figures |= arms(bench)
    return {
        "benchmark": "schedule",
        "problems": options.problems,
        "rollouts": options.rollouts,
        "median_tokens": options.median_tokens,
        "sigma": options.sigma,
        "max_num_seqs": args["max_num_seqs"],
        **figures,
        "cpus": os.cpu_count(),
    }


def some_parts(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no parts of this benchmark: {', '.join(unknown)}")
    return chosen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model_name", required=True)
    parser.add_argument("--parts", type=some_parts, default=list(PARTS), help=",".join(PARTS))
    parser.add_argument("--problems", type=int, default=12)
    parser.add_argument("--rollouts", type=int, default=6, help="per problem, seed and arm")
    parser.add_argument("--num_seeds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--median_tokens", type=float, default=60)
    parser.add_argument("--sigma", type=float, default=0.8)
    parser.add_argument("--max_num_seqs", type=int, help="room for less than all that is asked")
    print(json.dumps(benchmark(parser.parse_args())))
