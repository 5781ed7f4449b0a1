"""Runs as session traces, which the Hugging Face hub shows in its trace viewer: a JSONL file per
chain, first the session, then each rollout's prompt and reply (its Session Trace Simple Format).
What the format does not name is ours, and the viewer ignores it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kflow.analysis.export.folder import list_facts, name_file, name_files, write_card
from kflow.results.rollout import Rollout, split
from kflow.results.rows import make_row
from kflow.results.runs import Placed, SavedRun

HARNESS = "knowledge-flow"


def write_traces(runs: Sequence[SavedRun], folder: Path) -> int:
    """The sessions, in a folder per run, with a card; the number of their rollouts."""
    total = 0
    for run, name in zip(runs, name_files(runs), strict=True):
        (folder / name).mkdir()
        for placed in run.records():
            chain = f"{name_file(placed.record.id, placed.problem)}_seed_{placed.seed}"
            with open(folder / name / f"{chain}.jsonl", "ab") as file:
                if not file.tell():
                    file.write(encode_line(describe_session(run, placed)))
                for slot in placed.record.new_slots:
                    file.writelines(map(encode_line, describe_turns(run, placed, slot)))
                    total += 1
    write_card(folder, runs, {"tags": [HARNESS, "agent-traces"]}, "One session per chain.")
    return total


def describe_session(run: SavedRun, placed: Placed) -> dict[str, Any]:
    problem, seed = placed.record.id, placed.seed
    return {
        "type": "session",
        "harness": HARNESS,
        "id": f"{run.name}/{problem}/{seed}",
        "name": f"{problem}, seed {seed}",
        "run": run.name,
        "problem": problem,
        "seed": seed,
        "gold": str(placed.record.gold),
    }


def describe_turns(
    run: SavedRun, placed: Placed, slot: Rollout
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A rollout's prompt and reply, with what is on record of it."""
    thinking, answer = split(slot)
    at = {"step": placed.step, "slot": slot.slot}
    reply = {
        "role": "assistant",
        "content": answer,
        **({"reasoningContent": thinking} if thinking else {}),
        "model": run.model,
    }
    facts = list_facts(make_row(run.name, placed.seed, placed.step, placed.record, slot))
    return (
        {"type": "message", "message": {"role": "user", "content": slot.question}, **at},
        {"type": "message", "message": reply, **facts},
    )


def encode_line(value: dict[str, Any]) -> bytes:
    """JSON, ASCII only, so that lone surrogates survive."""
    return json.dumps(value).encode() + b"\n"
