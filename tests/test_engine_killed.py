"""kill -9 on the real engine: the run goes on where it was and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import prepare_smollm2

pytestmark = pytest.mark.engine

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "vllm_kflow_qwen.py"
FLAGS = [
    "--dataset",
    "quickstart",
    "--limit",
    "3",
    "--reflex_size",
    "3",
    "--max_new_tokens",
    "1024",
]
# Greedy, one rollout at a time: what else is in a batch changes the last bits of a logit.
FLAGS += ["--temperature", "0", "--max_num_seqs", "1", "--force_sections", "--enforce_eager"]


def start(results: Path) -> subprocess.Popen[str]:
    model = str(prepare_smollm2.prepare())
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--model_name", model, *FLAGS, "--results_dir", str(results)],
        env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def lines_on_disk(results: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in results.rglob("rollouts_*.jsonl"))


def test_killed_in_the_middle(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0

    process = start(killed)
    while process.poll() is None and not lines_on_disk(killed):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = lines_on_disk(killed)
    assert 0 < finished < 9
    process = start(killed)
    out, _ = process.communicate()
    assert process.returncode == 0

    steps = [path.relative_to(whole) for path in sorted(whole.rglob("predictions_*.json"))]
    assert len(steps) == 3
    for path in steps:
        assert (killed / path).read_bytes() == (whole / path).read_bytes()
    (run,) = killed.rglob("run.json")
    assert len(json.loads(run.read_bytes())["sessions"]) == 2

    process = start(killed)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert "is complete: 3 steps" in out
