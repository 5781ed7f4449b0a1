"""compare_results.py and report.py on a large study: time, memory, the page's size.

    python benchmarks/scale.py [--arms 6] [--seeds 16] [--steps 64] [--problems 30] [--reply 300]

Writes synthetic runs, with replies of that many characters, to a temporary folder (0.4 GB at the
defaults), compares them, and makes one page of them. --export FORM exports them instead (use
--arms 1 and a larger --reply to measure its memory). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(Path(__file__).parent)]

from report_page import words  # noqa: E402

from kflow.method import LeftOut, Note  # noqa: E402
from kflow.results.rollout import Rollout, digest_of, to_json  # noqa: E402
from kflow.types import Entry  # noqa: E402

PREFIXES = ("vllm", "vllm_refine", "vllm_parallel", "vllm_markov", "vllm_regen", "vllm_posK")
ENTRIES, ENTRY, PROMPT, SUMMARY = 3, 80, 300, 100  # entries of a list, then characters


def write_arm(folder: Path, arm: int, options: argparse.Namespace, pool: str) -> None:
    """One run; its arm's number decides how often its answers are right."""
    draw = random.Random(arm)

    def text(characters: int) -> str:
        start = draw.randrange(max(1, len(pool) - characters))
        return pool[start : start + characters]

    ahead = PREFIXES[arm % len(PREFIXES)] == "vllm_parallel"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        json.dumps(
            {
                "experiment": {"prefix": folder.parent.name, "ahead": ahead, "fields": {}},
                "answers": "integer",
                "settings": {"max_new_tokens": 131072, "reflex_size": options.steps, "seed": arm},
                "sessions": [{"commit": "c", "started": "2026-01-01T00:00:00+00:00"}],
            }
        )
    )
    for seed in range(options.seeds):
        place = folder / f"seed_{seed}" if options.seeds > 1 else folder
        place.mkdir(exist_ok=True)
        lists: list[tuple[Entry, ...]] = [() for _ in range(options.problems)]
        for step in range(options.steps):
            lines = [json.dumps({"accuracy": 0.0, "total": options.problems}).encode()]
            for problem in range(options.problems):
                chance = 0.3 + 0.1 * arm + 0.5 * problem / options.problems * step / options.steps
                own = 70 if draw.random() < chance else draw.randrange(1000)
                added = Entry(text(ENTRY), own)
                record = Rollout(
                    question=f"What is it?\n\n{text(PROMPT)}",
                    gold=70,
                    predicted=own,
                    pred_solution=f"{text(options.reply)}</think>{text(SUMMARY)} \\boxed{{{own}}}",
                    correct=own == 70,
                    id=f"problem-{problem}",
                    slot=0,
                    family="qwen",
                    finish_reason="stop",
                    prompt_tokens=PROMPT // 4 + draw.randrange(100),
                    completion_tokens=options.reply // 4 + draw.randrange(100),
                    max_tokens=options.reply,
                    sampling_seed=draw.randrange(1 << 32),
                    reply_start=0,
                    asks_answer=True,
                    sections=("Summary", "Answer"),
                    missing_sections=(),
                    unreadable_box=False,
                    knowledge=() if ahead else lists[problem],
                    carried_tokens=None,
                    left_out=LeftOut(),
                    failure=None,
                    digest="",
                    verdict=own,
                    verdict_correct=own == 70,
                    note=Note() if ahead else Note(added=(added,)),
                )
                lists[problem] = (added, *lists[problem][: ENTRIES - 1])
                lines.append(to_json(replace(record, digest=digest_of(record))))
            path = place / f"predictions_{step}.json"
            path.write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n")


def measured(*arguments: object) -> tuple[float, int]:
    """Seconds that a script takes, and the most memory of it, in MB."""
    before = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{arguments[0]} failed")
    return round(time.perf_counter() - before, 1), usage.ru_maxrss // 1024


def benchmark(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    pool = words(1_000_000, random.Random(0))
    runs = [
        folder / f"{PREFIXES[arm % len(PREFIXES)]}_131072_{arm}" / "model"
        for arm in range(options.arms)
    ]
    for arm, run in enumerate(runs):
        write_arm(run, arm, options, pool)
    scripts, page = ROOT / "scripts", folder / "report.html"
    figures: dict[str, object] = {
        "benchmark": "scale",
        "rollouts": options.arms * options.seeds * options.steps * options.problems,
        "reply_characters": options.reply,
        "runs_mb": round(sum(p.stat().st_size for p in folder.rglob("*.json")) / 1e6),
        "cpus": os.cpu_count(),
    }
    if options.export:
        output = folder / "exported"
        seconds, peak = measured(
            scripts / "export_results.py", *runs, "--to", options.export, "--output", output
        )
        size = sum(p.stat().st_size for p in output.rglob("*") if p.is_file())
        return {
            **figures,
            "export": options.export,
            "export_seconds": seconds,
            "export_peak_mb": peak,
            "exported_mb": round(size / 1e6),
        }
    table_seconds, table_peak = measured(scripts / "compare_results.py", *runs)
    page_seconds, page_peak = measured(scripts / "report.py", *runs, "-o", page)
    return {
        **figures,
        "table_seconds": table_seconds,
        "table_peak_mb": table_peak,
        "page_seconds": page_seconds,
        "page_peak_mb": page_peak,
        "page_mb": round(page.stat().st_size / 1e6, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--problems", type=int, default=30)
    parser.add_argument("--reply", type=int, default=300, help="characters")
    parser.add_argument("--export", choices=("parquet", "inspect", "traces"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(benchmark(options, Path(temporary))))
