"""Runs as logs of inspect_ai, one `.eval` file each, by its own writer: a problem is a sample, a
seed an epoch, the steps are its messages. A run's texts are in memory while its log is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kflow.analysis.chains import answered_right
from kflow.analysis.export.folder import encodable, list_facts, name_file, name_files
from kflow.ground.version import VERSION
from kflow.results import status
from kflow.results.recorded import part
from kflow.results.rollout import Rollout, split
from kflow.results.rows import as_text, make_row
from kflow.results.runs import Placed, SavedRun
from kflow.types import Answer, UserError

SCORER = "answer"
RIGHT, WRONG = "C", "I"
STOP_REASONS = {"stop": "stop", "length": "max_tokens"}
INSTALL = (
    "--to inspect needs inspect_ai, which cannot be installed beside vLLM: run python3 -m venv "
    ".venv-inspect && .venv-inspect/bin/pip install inspect_ai msgspec, then run this command with "
    ".venv-inspect/bin/python."
)
Json = dict[str, Any]


def write_logs(runs: Sequence[SavedRun], folder: Path) -> int:
    """A log per run; the number of their rollouts. Raises UserError where inspect_ai is not
    installed."""
    try:
        from inspect_ai.log import EvalLog, write_eval_log
    except ImportError as error:
        raise UserError(INSTALL) from error
    rollouts = 0
    for run, name in zip(runs, name_files(runs), strict=True):
        chains: dict[tuple[int, int], list[Placed]] = {}
        for placed in run.records(run.steps):
            chains.setdefault((placed.seed, placed.problem), []).append(placed)
        slots = [slot for chain in chains.values() for slot in list_rollouts(chain)]
        samples = [describe_sample(run, chains.pop(at)) for at in sorted(chains)]
        log = describe_log(run, samples, count_usage(run, slots))
        write_eval_log(EvalLog.model_validate(log), folder / f"{name}.eval")
        rollouts += len(slots)
    return rollouts


def list_rollouts(chain: Iterable[Placed]) -> list[Rollout]:
    return [slot for placed in chain for slot in placed.record.new_slots]


def describe_log(run: SavedRun, samples: Sequence[Json], usage: Json) -> Json:
    """What was evaluated, as far as run.json says, and what came of it."""
    ids = list(dict.fromkeys(sample["id"] for sample in samples))
    name, model = encodable(run.name), encodable(run.model)
    sampling = part(run.manifest, "sampling")
    chosen = {key: part(sampling, key) for key in ("temperature", "top_p", "top_k")}
    right = sum(sample["scores"][SCORER]["value"] == RIGHT for sample in samples)
    metrics = {"accuracy": {"name": "accuracy", "value": right / len(samples)}}
    return {
        "status": "success" if run.complete else "started",
        "eval": {
            "created": run.started,
            "task": name,
            "dataset": {"name": name, "samples": len(ids), "sample_ids": ids},
            "model": model,
            "model_generate_config": {
                k: v for k, v in chosen.items() if isinstance(v, (int, float))
            },
            "config": {"epochs": len({sample["epoch"] for sample in samples})},
            "packages": {"knowledge-flow": VERSION},
            "scorers": [{"name": SCORER}],
        },
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [{"name": SCORER, "scorer": SCORER, "metrics": metrics}],
        },
        "stats": {
            "started_at": run.started,
            "completed_at": find_end(run),
            "model_usage": usage,
        },
        "samples": samples,
    }


def describe_sample(run: SavedRun, chain: Sequence[Placed]) -> Json:
    """A chain. Its score is its answer after its last step, as compare_results.py counts it; its
    output is the reply of its last step that asks for an answer, else of its last."""
    first, model = chain[0], encodable(run.model)
    counted = [placed.record for placed in chain if placed.record.counted] or [first.record]
    rolled = [record for record in counted if record.new_slots] or [first.record]
    asked = [record for record in rolled if any(slot.asks_answer for slot in record.slots)]
    last, end = (asked or rolled)[-1], counted[-1]
    message = {"role": "assistant", "content": encodable(split(last)[1]), "model": model}
    reason = STOP_REASONS.get(last.finish_reason or "", "unknown")
    usage = count_usage(run, list_rollouts(chain))
    return {
        "id": name_file(first.record.id, first.problem),  # names its file in the log too
        "epoch": first.seed + 1,  # epochs begin at 1
        "input": encodable(first.record.slots[0].question),
        "target": encodable(str(last.gold)),
        "messages": [
            turn
            for placed in chain
            for slot in placed.record.new_slots
            for turn in describe_turns(run, placed, slot)
        ],
        "output": {
            "model": model,
            "choices": [{"message": message, "stop_reason": reason}],
            "usage": usage.get(model),
        },
        "scores": {
            SCORER: {
                "value": RIGHT if answered_right(end, run.ahead) else WRONG,
                "answer": clean(as_text(answered(end, run.ahead))),
            }
        },
        "metadata": {
            "problem": encodable(last.id),
            "seed": first.seed,
            "verdict": clean(as_text(end.verdict)),
            "verdict_correct": end.verdict_correct,
        },
        "model_usage": usage,
    }


def describe_turns(run: SavedRun, placed: Placed, slot: Rollout) -> tuple[Json, Json]:
    """A rollout's prompt and reply as inspect_ai's chat messages."""
    thinking, answer = map(encodable, split(slot))
    row = make_row(run.name, placed.seed, placed.step, placed.record, slot)
    content = [{"type": "text", "text": answer}]
    if thinking:
        content.insert(0, {"type": "reasoning", "reasoning": thinking})
    reply = {"role": "assistant", "content": content, "model": encodable(run.model)}
    return (
        {
            "role": "user",
            "content": encodable(slot.question),
            "metadata": {"step": placed.step, "slot": slot.slot},
        },
        {**reply, "metadata": {k: clean(v) for k, v in list_facts(row).items()}},
    )


def count_usage(run: SavedRun, rollouts: Sequence[Rollout]) -> Json:
    """Tokens by the model's name; {} where they are not on record."""
    if not run.measured:
        return {}
    prompts = sum(rollout.prompt_tokens for rollout in rollouts)
    replies = sum(rollout.completion_tokens for rollout in rollouts)
    total = prompts + replies
    counts = {"input_tokens": prompts, "output_tokens": replies, "total_tokens": total}
    return {encodable(run.model): counts}


def find_end(run: SavedRun) -> str:
    """When the program was last seen at work, as ISO 8601; the start where status.json does not
    say."""
    try:
        return status.read(run.folder).updated or run.started
    except (OSError, ValueError):
        return run.started


def clean(value: Any) -> Any:
    """A value whose texts have no lone surrogates."""
    if isinstance(value, tuple):
        return [clean(each) for each in value]
    return encodable(value) if isinstance(value, str) else value


def answered(record: Rollout, by_verdict: bool) -> Answer | None:
    """The answer of which `answered_right` says whether it is right."""
    own = any(slot.asks_answer for slot in record.slots)
    return record.predicted if own and not by_verdict else record.verdict
