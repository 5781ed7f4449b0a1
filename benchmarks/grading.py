"""What grading costs: extracting, making canonical and comparing the answers of a run.

    python benchmarks/grading.py [--steps 64] [--characters 100000]

A run's worth of long replies for 30 problems, whose answers are the known equivalents and near
misses of tests/data/expressions.jsonl, graded as in the loop: extract, find the chain's
earliest equal answer, compare with the gold answer. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from kflow import answers as kinds  # noqa: E402
from kflow.types import Answer  # noqa: E402

THOUGHT = r"So $x = \frac{a_{n}}{2}$, and the sum is \left\{1, 2\right\}; we check the next case. "


@dataclass(frozen=True)
class Problem:
    gold: Answer
    written: list[str]


def expressions() -> list[Problem]:
    lines = (ROOT / "tests" / "data" / "expressions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [Problem(r["answer"], [r["answer"], *r["same"], *r["different"]]) for r in rows]


def chains(problems: list[Problem], steps: int, length: int) -> Iterator[tuple[Answer, list[str]]]:
    """For each problem its gold answer and replies of `length` characters."""
    rng = random.Random(0)
    thinking = THOUGHT * (length // len(THOUGHT) + 1)
    for problem in problems:
        answers = [rng.choice(problem.written) for _ in range(steps)]
        boxes = [rf"\boxed{{{answer}}}" for answer in answers]
        yield problem.gold, [thinking[: length - len(box)] + box for box in boxes]


def grade(
    kind: kinds.AnswerType, problems: list[Problem], steps: int, length: int
) -> dict[str, float]:
    """Seconds, milliseconds per rollout (mean, of which extraction, and of the slowest)."""
    times, extracting, correct = [], 0.0, 0
    for gold, replies in chains(problems, steps, length):
        same = kinds.Sameness(kind)
        earlier: list[Answer] = []
        for reply in replies:
            start = time.perf_counter()
            answer = kind.extract(reply, kinds.LAST_BOXED_OR_LAST)
            extracting += time.perf_counter() - start
            canonical = same.canonical(answer, earlier)
            correct += canonical is not None and same(gold, canonical)
            times.append(time.perf_counter() - start)
            if canonical is not None and canonical not in earlier:
                earlier.append(canonical)
    rollouts = len(times)
    return {
        "seconds": round(sum(times), 2),
        "ms_per_rollout": round(1000 * sum(times) / rollouts, 2),
        "ms_of_it_extracting": round(1000 * extracting / rollouts, 2),
        "slowest_ms": round(1000 * max(times)),
        "accuracy": round(correct / rollouts, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--characters", type=int, default=100_000)
    flags = parser.parse_args()
    numbers = [Problem(n, [str(n), str(n + 1)]) for n in range(30)]
    letters = [Problem("B", list("ABCD")) for _ in range(30)]
    types: list[tuple[kinds.AnswerType, list[Problem]]] = [
        (kinds.Integer(), numbers),
        (kinds.Choice(), letters),
        (kinds.Expression(), expressions()),
    ]
    start = time.perf_counter()
    kinds.Expression().same("1", "2")
    figures: dict[str, object] = {
        "benchmark": "grading",
        "rollouts": 30 * flags.steps,
        "characters": flags.characters,
        "worker_start_seconds": round(time.perf_counter() - start, 2),
    }
    for kind, problems in types:
        figures[kind.name] = grade(kind, problems, flags.steps, flags.characters)
    figures["comparisons"] = kinds.worker.same.cache_info().misses
    print(json.dumps({**figures, "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
