"""How far two runs with the same requests agree: what batching does to the last bits of a logit.

    python benchmarks/repeat.py RESULTS_A RESULTS_B

Both are folders of predictions files made with the same settings and seeds. Counts the rollouts
asked with the same prompt and seed in both, and those of them whose replies differ; a rollout
after a differing one has a different prompt and does not count. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def records(folder: Path) -> dict[tuple[str, str], dict[str, object]]:
    """(file name, problem id) -> record, over all steps."""
    return {
        (path.name, record["id"]): record
        for path in folder.glob("predictions_*.json")
        for record in json.loads(path.read_bytes())[1:]
    }


def compare(first: Path, second: Path) -> dict[str, object]:
    one, other = records(first), records(second)
    asked = ("question", "sampling_seed")
    same = [k for k in one.keys() & other.keys() if all(one[k][f] == other[k][f] for f in asked)]
    differing = [k for k in same if one[k]["pred_solution"] != other[k]["pred_solution"]]
    return {
        "benchmark": "repeat",
        "rollouts": len(one),
        "asked_the_same": len(same),
        "replies_differ": len(differing),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    options = parser.parse_args()
    for folder in (options.first, options.second):
        if not any(folder.glob("predictions_*.json")):
            parser.exit(
                2,
                f"{parser.prog}: {folder} holds no predictions_*.json: name the folder of a model "
                "in a run's results.\n",
            )
    print(json.dumps(compare(options.first, options.second)))
