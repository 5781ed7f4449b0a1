"""What the loop costs outside the engine: a run with an engine that answers at once.

    python benchmarks/overhead.py [--script NAME] [--problems 30] [--steps 64] [--reply_tokens N]

Runs a real gpt-oss script (the mistakes list; `vllm_oss_parallel_thinking` has all its rollouts in
flight at once), harmony and all, from flags to files, in a temporary folder (0.8 GB at the
defaults); replies are text of the given length ending in good sections, and come in a random order.
Then starts the finished run once more to time how long its folder takes to read, with the last
step taken away so that there is something to resume. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from kflow.experiment import Experiment  # noqa: E402
from kflow.experiment import main as run_main  # noqa: E402
from kflow.families.gpt_oss import HarmonyChat  # noqa: E402
from kflow.types import Completion, Key, Request  # noqa: E402

THOUGHT = "We check the case again: if x = {n}, then 2x + 3 is odd, so no such pair exists. "


class Instant:
    """An engine that costs nothing: every rollout is finished when it is asked for. Its answers go
    round three numbers, so each reply adds to the list, with 650 tokens of report and summary."""

    def __init__(self, tokens: int) -> None:
        chat = HarmonyChat()
        thought = THOUGHT.format(n=12345)
        self._thinking = thought * (tokens // chat.count(thought))
        self.tokens = chat.count(self._thinking)
        self._random = random.Random(0)
        self._asked: list[Key] = []
        self.most_in_flight = 0
        self.times: list[float] = []
        self.memory: list[int] = []
        self.prompt_tokens = 0

    def submit(self, request: Request) -> None:
        self.prompt_tokens = max(self.prompt_tokens, len(request.prompt_ids))
        self._asked.append(request.key)
        self.most_in_flight = max(self.most_in_flight, len(self._asked))

    def _text(self, key: Key) -> str:
        sections = "\n".join(
            [
                f"[Why the reference solution is wrong?]: {THOUGHT.format(n=key.step) * 8}",
                f"[Summary]: {THOUGHT.format(n=key.problem) * 15}",
                f"[Answer]: \\boxed{{{key.step % 3}}}",
            ]
        )
        return f"analysis{self._thinking}assistantfinal{sections}"

    def completions(self) -> list[Completion]:
        self.times.append(time.perf_counter())
        if len(self.times) % 100 == 1:  # asking takes a while
            self.memory.append(resident())
        if not self._asked:
            return []
        key = self._asked.pop(self._random.randrange(len(self._asked)))
        return [Completion(key, self._text(key), self.tokens, "stop")]

    def close(self) -> None:
        self.times.append(time.perf_counter())
        self.memory.append(resident())


def resident() -> int:
    """Memory this process holds now, in bytes."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def start(experiment: Experiment, flags: list[str], engine: Instant) -> float:
    """Run a script to its end; seconds from its start to the engine's first question."""
    before = time.perf_counter()
    try:
        with contextlib.redirect_stderr(io.StringIO()) as log:
            run_main(experiment, flags, lambda *_: engine)
    except SystemExit as ended:
        if ended.code:
            sys.exit(f"the run ended with code {ended.code}: {log.getvalue()}")
    return engine.times[0] - before


def benchmark(
    experiment: Experiment, problems: int, steps: int, tokens: int, folder: Path
) -> dict[str, object]:
    data, model = folder / "problems.jsonl", folder / "model"
    rows = [{"problem": f"What is {n} + {n}?", "answer": 2 * n} for n in range(problems)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model.mkdir()
    (model / "config.json").write_text("{}")
    flags = ["--model_name", str(model), "--dataset", str(data), "--results_dir", str(folder)]
    flags += ["--reflex_size", str(steps)]
    engine = Instant(tokens)
    start(experiment, flags, engine)
    rollouts = problems * steps
    seconds = engine.times[-1] - engine.times[0]
    quarter = rollouts // 4
    first = engine.times[quarter] - engine.times[0]
    last = engine.times[rollouts] - engine.times[rollouts - quarter]
    results = next(folder.glob("vllm_*/model"))
    (results / f"predictions_{steps - 1}.json").unlink()
    again = Instant(tokens)
    resume = start(experiment, flags, again)
    assert len(list(results.glob("predictions_*.json"))) == steps
    return {
        "benchmark": "overhead",
        "experiment": experiment.prefix,
        "rollouts": rollouts,
        "most_in_flight": engine.most_in_flight,
        "reply_tokens": engine.tokens,
        "longest_prompt_tokens": engine.prompt_tokens,
        "ms_per_rollout": round(1000 * seconds / rollouts, 2),
        "last_quarter_to_first": round(last / first, 2),
        "memory_mb_after_first_quarter": engine.memory[len(engine.memory) // 4] // 2**20,
        "memory_mb_at_the_end": engine.memory[-1] // 2**20,
        "resume_seconds": round(resume, 2),
        "results_mb": sum(f.stat().st_size for f in results.iterdir()) // 2**20,
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--script", default="vllm_kflow_oss")
    parser.add_argument("--problems", type=int, default=30)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--reply_tokens", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        experiment = importlib.import_module(options.script).EXPERIMENT
        figures = benchmark(
            experiment, options.problems, options.steps, options.reply_tokens, Path(temporary)
        )
    print(json.dumps(figures))
