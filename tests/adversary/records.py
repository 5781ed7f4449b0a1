"""What the harness knows of the program's files, in one place, and a run to make them with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The fields of a record on disk that the tables edit or compare. The first four are published.
QUESTION, GOLD, PREDICTED, SOLUTION = "question", "gold", "predicted", "pred_solution"
CONFIG = '{"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"]}'
WEIGHTS = b"\2" + bytes(7) + b"{}"  # a safetensors file of no tensors
PUBLISHED = (QUESTION, GOLD, PREDICTED, SOLUTION)
CORRECT, ID, FAILURE, SEED, START = "correct", "id", "failure", "sampling_seed", "reply_start"
FINISH, PROMPT_TOKENS, TOKENS = "finish_reason", "prompt_tokens", "completion_tokens"
BUDGET, SLOT, LIST, DIGEST, FAMILY = "max_tokens", "slot", "knowledge", "digest", "family"
FIELDS = (
    *(*PUBLISHED, CORRECT, ID, FAILURE, SEED, START, FINISH, PROMPT_TOKENS, TOKENS, BUDGET),
    *(SLOT, LIST, DIGEST, FAMILY),
)
# What a step did to its chain: of a published record, and of the line that follows its rollout's.
NOTE, VERDICT, VERDICT_RIGHT = "note", "verdict", "verdict_correct"
# A journal's lines are objects with one of these.
ROLLOUT, OUTCOME = "rollout", "outcome"
SETTINGS, SESSIONS = "settings", "sessions"  # of run.json

SCRIPT, MODEL, WINDOW = "vllm_kflow_oss", "gpt-oss-120b", 8192
FOLDER = Path("results", f"vllm_{WINDOW}_", MODEL)
PROBLEMS = [
    {"id": f"p{n}", "problem": f"Which road leads to house {n}?", "answer": 100 + n}
    for n in range(3)
]


def prepare(folder: Path, problems: int, steps: int) -> list[str]:
    """Put a model and a data set into a folder; the arguments of a run from there."""
    (folder / MODEL).mkdir(parents=True)
    (folder / MODEL / "config.json").write_text(CONFIG)
    (folder / MODEL / "model.safetensors").write_bytes(WEIGHTS)
    rows = "".join(json.dumps(row) + "\n" for row in PROBLEMS[:problems])
    (folder / "problems.jsonl").write_text(rows)
    return [
        *("--model_name", MODEL, "--dataset", "problems.jsonl", "--reflex_size", str(steps)),
        *("--max_new_tokens", str(WINDOW), "--engine", "openai", "--served_model_name", "m"),
    ]


Record = dict[str, Any]


def steps(folder: Path) -> dict[int, list[Record]]:
    """The records of every predictions file of a run, by step."""
    return {
        int(path.stem.rpartition("_")[2]): json.loads(path.read_bytes())[1:]
        for path in sorted(folder.glob("predictions_*.json"))
    }


def journalled(folder: Path) -> Iterator[tuple[int, Record]]:
    """The step and record of every whole line of the journals of unfinished steps."""
    for path in sorted(folder.glob("rollouts_*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            if ROLLOUT in (parsed := json.loads(line)):
                yield int(path.stem.rpartition("_")[2]), parsed[ROLLOUT]


def finished(folder: Path) -> list[tuple[int, Record]]:
    """Every rollout on disk and its step."""
    published = [(step, record) for step, records in steps(folder).items() for record in records]
    return [*published, *journalled(folder)]


def failed(folder: Path) -> int:
    return sum(record[FAILURE] is not None for _, record in finished(folder))


def published(folder: Path) -> dict[int, list[Record]]:
    """What a run says in the published fields alone."""
    return {
        step: [{name: record[name] for name in PUBLISHED} for record in records]
        for step, records in steps(folder).items()
    }


def journal(step: int) -> Path:
    return FOLDER / f"rollouts_{step}.jsonl"


def predictions(step: int) -> Path:
    return FOLDER / f"predictions_{step}.json"


RUN = FOLDER / "run.json"
