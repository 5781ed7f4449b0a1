"""What the loop costs outside the engine: a run with an engine that answers at once.

    python tests/benchmarks/overhead.py [--script NAME] [--problems 30] [--num_seeds 1] [--steps 64]

Runs a real gpt-oss script (the mistakes list; `vllm_oss_parallel_thinking` has all its rollouts in
flight at once), harmony and all, from flags to files, in a temporary folder (0.8 GB at the
defaults); replies are text of the given length ending in complete sections, and arrive in random
order. Then resumes the run in a new process, with the last step removed: the time from there to the
first request, and the peak memory.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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


def most_resident() -> int:
    """The most memory this process has held, in bytes; what its parent held does not count."""
    status = Path("/proc/self/status").read_text()
    peak = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert peak is not None
    return int(peak[1]) * 1024


def start(script: str, flags: list[str], engine: Instant) -> float:
    """Run a script to its end; seconds from its start to the engine's first question."""
    experiment: Experiment = importlib.import_module(script).EXPERIMENT
    before = time.perf_counter()
    try:
        with contextlib.redirect_stderr(io.StringIO()) as log:
            run_main(experiment, flags, lambda *_: engine)
    except SystemExit as ended:
        if ended.code:
            sys.exit(f"the run ended with code {ended.code}: {log.getvalue()}")
    return engine.times[0] - before


def resume(script: str, flags: list[str], tokens: int) -> tuple[float, int]:
    """Seconds from the start to the first request, and the most memory until the end in bytes."""
    return start(script, flags, Instant(tokens)), most_resident()


def benchmark(
    script: str, problems: int, seeds: int, steps: int, tokens: int, folder: Path
) -> dict[str, object]:
    data, model = folder / "problems.jsonl", folder / "model"
    rows = [{"problem": f"What is {n} + {n}?", "answer": 2 * n} for n in range(problems)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model.mkdir()
    (model / "config.json").write_text("{}")
    flags = ["--model_name", str(model), "--dataset", str(data), "--results_dir", str(folder)]
    flags += ["--reflex_size", str(steps), "--num_seeds", str(seeds)]
    engine = Instant(tokens)
    start(script, flags, engine)
    rollouts = problems * seeds * steps
    seconds = engine.times[-1] - engine.times[0]
    quarter = rollouts // 4
    first = engine.times[quarter] - engine.times[0]
    last = engine.times[rollouts] - engine.times[rollouts - quarter]
    (results,) = folder.glob("vllm_*/model")
    size = sum(file.stat().st_size for file in results.rglob("predictions_*.json"))
    for path in results.rglob(f"predictions_{steps - 1}.json"):
        path.unlink()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as other:
        seconds_to_resume, memory = other.submit(resume, script, flags, tokens).result()
    assert len(list(results.rglob("predictions_*.json"))) == seeds * steps
    return {
        "benchmark": "overhead",
        "script": script,
        "rollouts": rollouts,
        "most_in_flight": engine.most_in_flight,
        "reply_tokens": engine.tokens,
        "longest_prompt_tokens": engine.prompt_tokens,
        "ms_per_rollout": round(1000 * seconds / rollouts, 2),
        "last_quarter_to_first": round(last / first, 2),
        "memory_mb_after_first_quarter": engine.memory[len(engine.memory) // 4] // 2**20,
        "memory_mb_at_the_end": engine.memory[-1] // 2**20,
        "results_mb": size // 2**20,
        "resume_seconds": round(seconds_to_resume, 2),
        "resume_memory_mb": memory // 2**20,
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--script", default="vllm_kflow_oss")
    parser.add_argument("--problems", type=int, default=30)
    parser.add_argument("--num_seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--reply_tokens", type=int, default=100_000)
    options = parser.parse_args()
    sizes = options.problems, options.num_seeds, options.steps, options.reply_tokens
    with tempfile.TemporaryDirectory() as temporary:
        figures = benchmark(options.script, *sizes, Path(temporary))
    print(json.dumps(figures))
