"""report.py on a large run: the page's size, and the time and memory it takes.

    python benchmarks/report_page.py [--problems 30] [--steps 64] [--reply 400000]

Writes a run of synthetic replies, of that many characters each, to a temporary folder (0.8 GB at
the defaults), runs scripts/report.py on it, and opens the page, and then a rollout in it, in
Chromium if installed. The last line is JSON.
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
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from kflow.method import LeftOut, Note  # noqa: E402
from kflow.results.rollout import Rollout, digest_of, to_json  # noqa: E402
from kflow.types import Entry  # noqa: E402

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
    lists: list[tuple[Entry, ...]] = [() for _ in range(problems)]
    for step in range(steps):
        lines = [json.dumps({"accuracy": 0.0, "total": problems}).encode()]
        for problem in range(problems):
            listed = "\n\n".join(entry.text for entry in lists[problem])
            prompt = f"What is it?\n\n{listed}\n\n{text(3000)}\n\n{text(1500)}"
            visible = f"[Summary]: {text(2500)}\n\n[Answer]: \\boxed{{{step % 3}}}"
            added = Entry(text(700), (step - 1) % 3)
            record = Rollout(
                question=prompt,
                gold=1,
                predicted=step % 3,
                pred_solution=f"analysis{text(reply)}assistantfinal{visible}",
                correct=step % 3 == 1,
                id=f"problem-{problem}",
                slot=0,
                family="gpt_oss",
                finish_reason="stop",
                prompt_tokens=len(prompt) // 4,
                completion_tokens=reply // 4,
                max_tokens=reply,
                sampling_seed=0,
                reply_start=0,
                asks_answer=True,
                sections=("Summary", "Answer"),
                missing_sections=(),
                unreadable_box=False,
                knowledge=lists[problem],
                carried_tokens=None,
                left_out=LeftOut(),
                failure=None,
                digest="",
                verdict=step % 3,
                verdict_correct=step % 3 == 1,
                note=Note(added=(added,), dropped=lists[problem][9:]),
            )
            lines.append(to_json(replace(record, digest=digest_of(record))))
            lists[problem] = (added, *lists[problem][:9])
        (folder / f"predictions_{step}.json").write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n")


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
