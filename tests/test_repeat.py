"""benchmarks/repeat.py: what it counts, and a folder that is none of a run's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from scripted import ROOT

EXAMPLE = ROOT / "results" / "vllm_512_example" / "SmolLM2-135M-Instruct"


def repeat(first: Path, second: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "repeat.py"), str(first), str(second)]
    return subprocess.run(command, capture_output=True, text=True)


def test_replies_to_other_prompts_do_not_count(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(EXAMPLE, other)
    path = other / "predictions_2.json"
    _, first, second, *_ = step = json.loads(path.read_bytes())
    first["pred_solution"] += "."
    second["question"] += "."
    second["pred_solution"] += "."
    path.write_text(json.dumps(step))
    done = repeat(EXAMPLE, other)
    counts = {"rollouts": 96, "asked_the_same": 95, "replies_differ": 1}
    assert json.loads(done.stdout) == {"benchmark": "repeat", **counts}


def test_a_folder_without_predictions_is_refused(tmp_path: Path) -> None:
    for folders in ((tmp_path, EXAMPLE), (EXAMPLE, EXAMPLE.parent)):
        done = repeat(*folders)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "holds no predictions_*.json: name the folder of a model" in done.stderr
