"""What report.py makes of a large run: the page's size, and the time and memory it takes.

    python benchmarks/report_page.py [--problems 30] [--steps 64] [--reply 400000]

Writes a run of made-up replies, of that many characters each, to a temporary folder (0.8 GB at the
defaults), runs scripts/report.py on it, and opens the page, and then a rollout in it, in Chromium
where there is one. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SYLLABLES = ("al", "be", "co", "di", "en", "fa", "gu", "he", "in", "jo", "ka", "le", "mo", "qui")


def words(number: int, draw: random.Random) -> str:
    """Text that compresses about as well as reasoning does: a few thousand words, some frequent."""
    known = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 5))) for _ in range(4000)]
    often = [1 / (rank + 1) for rank in range(len(known))]
    chosen = draw.choices(known, often, k=number)
    return " ".join(w if n % 9 else f"{w}, {n % 977} = x^{n % 7}." for n, w in enumerate(chosen))


def write_run(folder: Path, problems: int, steps: int, reply: int) -> None:
    draw = random.Random(0)
    pool = words(1_000_000, draw)

    def text(characters: int) -> str:
        start = draw.randrange(max(1, len(pool) - characters))
        return pool[start : start + characters]

    folder.mkdir(parents=True)
    entries: list[list[str]] = [[] for _ in range(problems)]
    for step in range(steps):
        records: list[dict[str, object]] = []
        for problem in range(problems):
            listed = "\n\n".join(
                f"**Wrong Answer {n}**: {entry}" for n, entry in enumerate(entries[problem], 1)
            )
            prompt = f"What is it?\n\n## Empirical Mistakes List\n{listed or 'N/A'}\n\n"
            prompt += f"## Reference Solution\n{text(3000)}\n\n## Instructions\n{text(1500)}"
            visible = f"[Summary]: {text(2500)}\n\n[Answer]: \\boxed{{{step % 3}}}"
            added = text(700)
            entries[problem] = [added, *entries[problem]][:10]
            records.append(
                {
                    "question": prompt,
                    "gold": 1,
                    "predicted": step % 3,
                    "pred_solution": f"analysis{text(reply)}assistantfinal{visible}",
                    "id": f"problem-{problem}",
                    "finish_reason": "stop",
                    "update": {"added": added, "under_answer": step},
                }
            )
        summary = {"accuracy": 0, "total": problems, "correct": 0}
        path = folder / f"predictions_{step}.json"
        path.write_text(json.dumps([summary, *records]))


def seconds_to_open(page: Path) -> dict[str, object]:
    """Seconds until the page has loaded and shows its map, and from a click to a rollout's text."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return {"browser": None}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page()
        before = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="load")
        tab.wait_for_selector(".heat a")
        opened = time.perf_counter()
        tab.locator(".heat a").last.click()
        tab.wait_for_selector("#sides article")
        clicked = time.perf_counter()
        version = chromium.version
        chromium.close()
    return {
        "browser": version,
        "seconds_to_open": round(opened - before, 2),
        "seconds_to_a_rollout": round(clicked - opened, 2),
    }


def benchmark(problems: int, steps: int, reply: int, folder: Path) -> dict[str, object]:
    run, page = folder / "vllm_131072_big" / "model", folder / "report.html"
    write_run(run, problems, steps, reply)
    before = time.perf_counter()
    script = ROOT / "scripts" / "report.py"
    subprocess.run([sys.executable, script, run, "-o", page], check=True)
    seconds = time.perf_counter() - before
    return {
        "benchmark": "report",
        "rollouts": problems * steps,
        "reply_characters": reply,
        "run_mb": round(sum(f.stat().st_size for f in run.iterdir()) / 1e6),
        "page_mb": round(page.stat().st_size / 1e6, 1),
        "build_seconds": round(seconds, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        **seconds_to_open(page),
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=30)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--reply", type=int, default=400_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures = benchmark(options.problems, options.steps, options.reply, Path(temporary))
    print(json.dumps(figures))
