"""What waiting costs, on a real engine: barrier against no barrier, and seeds in one engine.

    python benchmarks/schedule.py --model_name FOLDER [--draws 5]

Works N problems for S steps through the product's own loop, with replies of forced lengths drawn
from a lognormal distribution (sigma 0.8, independent between steps), the same for every schedule:

1. per draw, the barrier schedule and the free one in alternation in one engine;
2. K seeds in one engine without a barrier, against K barrier runs one after another;
3. the bound: the requests of 2., all at once, as if none depended on another.

The last line is JSON; times are seconds in the loop, without the engine's start.
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
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import vllm_kflow_qwen  # noqa: E402
from kflow import flow, problems  # noqa: E402
from kflow.chain import Chain, restore  # noqa: E402
from kflow.engines.vllm import VllmEngine  # noqa: E402
from kflow.families.chat import TemplateChat  # noqa: E402
from kflow.prompts import PromptText  # noqa: E402
from kflow.recipes import cpu_dtype  # noqa: E402
from kflow.rollout import Plan, sampling_seed  # noqa: E402
from kflow.sentences import TokenMeasure  # noqa: E402
from kflow.store import Store  # noqa: E402
from kflow.types import Completion, Key, Request  # noqa: E402

WINDOW = 2048
# Every prompt is the question alone: where a reply has 20,000 tokens, reading a prompt is a
# hundredth of writing a reply, and with prompts as long as these replies it would be half.
PROMPTS = {
    "qwen_mistakes_first": PromptText("[[QUESTION]]"),
    "qwen_mistakes_later": PromptText("[[QUESTION]]"),
    "qwen_opening": PromptText(""),
}


class Forced(VllmEngine):
    """The real engine with every reply as long as the draw says, whatever the model would do."""

    draw, median, sigma = 0, 0.0, 0.0
    inside = 0.0

    def length(self, key: Key) -> int:
        """Tokens: lognormal, the same for a (draw, problem, seed, step) under every schedule."""
        number = sampling_seed(self.draw * 1000 + key.seed, key.problem, key.step)
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


class Bench:
    """N problems, S steps, one engine; each measurement in a results folder of its own."""

    def __init__(self, engine: Forced, chat: TemplateChat, number: int, steps: int) -> None:
        self.engine = engine
        self._chat = chat
        measure = TokenMeasure(WINDOW, chat.count)
        self.plan = Plan(vllm_kflow_qwen.EXPERIMENT.method, PROMPTS, chat, measure, steps)
        self.problems = problems.load("quickstart", "train", number).problems
        self.requests: list[Request] = []

    def run(self, seeds: list[int], barrier: bool) -> float:
        """Seconds to work the chains of these seeds together."""
        self.requests = []
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder), [p.id for p in self.problems], max(seeds) + 2)
            store.begin({}, {})
            chains: list[Chain] = [
                c for seed in seeds for c in restore(self.plan, self.problems, store, seed)
            ]
            self.engine.forget()
            before = time.perf_counter()
            flow.run(self.plan, chains, self, store, lambda *_: None, barrier)
            seconds = time.perf_counter() - before
            store.close()
        return seconds

    def at_once(self, requests: list[Request]) -> float:
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


def benchmark(options: argparse.Namespace) -> dict[str, object]:
    chat = TemplateChat(options.model_name, False)
    args = {
        "model": options.model_name,
        "dtype": cpu_dtype(),
        "enforce_eager": True,
        "max_model_len": WINDOW,
        "max_num_seqs": options.problems * options.num_seeds,
        "enable_chunked_prefill": False,
        "enable_prefix_caching": True,
    }
    engine = Forced(args, {"temperature": 0.6}, partial(chat.decode, skip_special_tokens=True))
    engine.median, engine.sigma = options.median_tokens, options.sigma
    bench = Bench(engine, chat, options.problems, options.steps)
    engine.draw = -1
    bench.run([0], barrier=False)  # a warm-up, not counted

    draws = []
    for draw in range(options.draws):
        engine.draw = draw
        order = (True, False) if draw % 2 == 0 else (False, True)
        seconds = {barrier: bench.run([0], barrier) for barrier in order}
        draws.append({"barrier": round(seconds[True], 2), "free": round(seconds[False], 2)})
        print(json.dumps(draws[-1]), flush=True)
    ratios = [draw["barrier"] / draw["free"] for draw in draws]

    engine.draw = 0
    seeds = list(range(options.num_seeds))
    engine.inside = 0.0
    together = bench.run(seeds, barrier=False)
    outside = 1 - engine.inside / together
    requests = bench.requests
    one_by_one = sum(bench.run([seed], barrier=True) for seed in seeds)
    bound = bench.at_once(requests)
    tokens = sum(engine.length(request.key) for request in requests)
    engine.close()
    return {
        "benchmark": "schedule",
        "problems": options.problems,
        "steps": options.steps,
        "median_tokens": options.median_tokens,
        "sigma": options.sigma,
        "draws": draws,
        "barrier_to_free": [round(ratio, 2) for ratio in ratios],
        "barrier_to_free_median": round(statistics.median(ratios), 2),
        "num_seeds": options.num_seeds,
        "study_tokens": tokens,
        "study_seconds": round(together, 2),
        "study_one_by_one_seconds": round(one_by_one, 2),
        "study_speed_up": round(one_by_one / together, 2),
        "bound_seconds": round(bound, 2),
        "study_to_bound": round(together / bound, 3),
        "outside_engine_percent": round(100 * outside, 2),
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model_name", required=True)
    parser.add_argument("--problems", type=int, default=12)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--num_seeds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--median_tokens", type=float, default=60)
    parser.add_argument("--sigma", type=float, default=0.8)
    print(json.dumps(benchmark(parser.parse_args())))
