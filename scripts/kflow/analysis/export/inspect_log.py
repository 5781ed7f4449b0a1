"""Runs as logs of inspect_ai, one `.eval` file each, by its own writer: a problem is a sample, a
seed an epoch, the steps are its messages. A run's texts are in memory while its log is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kflow.analysis.chains import answered_right
from kflow.analysis.export.folder import name_file, name_files
from kflow.ground.version import VERSION
from kflow.results import status
from kflow.results.recorded import part
from kflow.results.rollout import Rollout, split, without_texts
from kflow.results.rows import as_text, encodable, list_facts, make_row
from kflow.results.runs import Placed, SavedRun
from kflow.types import Answer, UserError

SCORER = "answer"
RIGHT, WRONG = "C", "I"
STOP_REASONS = {"stop": "stop", "length": "max_tokens"}
INSTALL = (
    "--to inspect needs inspect_ai, which does not install beside vLLM: python3 -m venv "
    ".venv-inspect && .venv-inspect/bin/pip install inspect_ai msgspec, then run this command with "
    ".venv-inspect/bin/python."
)
Json = dict[str, Any]


@dataclass
class Sample:
    """A chain as far as it has been read."""

    id: str
    """names its file in the log too"""
    seed: int
    input: str
    last: Rollout
    """its last record that asks for an answer, else its last, without texts"""
    end: Rollout
    """its last record that counts, without texts"""
    completion: str = ""
    """what the reply of `last` answers visibly"""
    messages: list[Json] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0


def write_logs(runs: Sequence[SavedRun], folder: Path) -> int:
    """A log per run; the number of their rollouts. Raises UserError where inspect_ai is not
    installed."""
    try:
        from inspect_ai.log import EvalLog, write_eval_log
    except ImportError as error:
        raise UserError(INSTALL) from error
    rollouts = 0
    for run, name in zip(runs, name_files(runs), strict=True):
        samples: dict[tuple[int, int], Sample] = {}
        for placed in run.records():
            at = placed.seed, placed.problem
            if at not in samples:
                samples[at] = begin_sample(placed)
            rollouts += add_step(samples[at], run, placed)
        log = describe_log(run, [samples[at] for at in sorted(samples)])
        write_eval_log(EvalLog.model_validate(log), folder / f"{name}.eval")
    return rollouts


def begin_sample(placed: Placed) -> Sample:
    record, numbers = placed.record, without_texts(placed.record)
    name = name_file(record.id, placed.problem)
    question = encodable(record.slots[0].question)
    return Sample(name, placed.seed, question, numbers, numbers)


def add_step(sample: Sample, run: SavedRun, placed: Placed) -> int:
    """Put a step's turns behind the sample's others; the number of its rollouts."""
    record, slots = placed.record, placed.record.new_slots
    asks = any(slot.asks_answer for slot in slots)
    if record.counted:
        sample.end = without_texts(record)
    if record.counted and slots and (asks or not sample.last.asks_answer):
        sample.last = without_texts(record)
        sample.completion = encodable(split(record)[1])
    for slot in slots:
        sample.messages += describe_turns(run, placed, slot)
        sample.input_tokens += slot.prompt_tokens
        sample.output_tokens += slot.completion_tokens
    return len(slots)


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


def describe_log(run: SavedRun, samples: Sequence[Sample]) -> Json:
    """What was evaluated, as far as run.json says, and what came of it."""
    ids = list(dict.fromkeys(sample.id for sample in samples))
    name, model = encodable(run.name), encodable(run.model)
    sampling = part(run.manifest, "sampling")
    chosen = {key: part(sampling, key) for key in ("temperature", "top_p", "top_k")}
    right = sum(answered_right(each.end, run.ahead) for each in samples) / len(samples)
    metrics = {"accuracy": {"name": "accuracy", "value": right}}
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
            "config": {"epochs": len({sample.seed for sample in samples})},
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
            "model_usage": count_usage(run, samples),
        },
        "samples": [describe_sample(run, sample) for sample in samples],
    }


def describe_sample(run: SavedRun, sample: Sample) -> Json:
    """A chain. Its score is its answer after its last step, as compare_results.py counts it."""
    message = {
        "role": "assistant",
        "content": sample.completion,
        "model": encodable(run.model),
    }
    reason = STOP_REASONS.get(sample.last.finish_reason or "", "unknown")
    right = answered_right(sample.end, run.ahead)
    answer = clean(as_text(answered(sample.end, run.ahead)))
    usage = count_usage(run, [sample])
    return {
        "id": sample.id,
        "epoch": sample.seed + 1,  # epochs begin at 1
        "input": sample.input,
        "target": encodable(str(sample.last.gold)),
        "messages": sample.messages,
        "output": {
            "model": encodable(run.model),
            "choices": [{"message": message, "stop_reason": reason}],
            "usage": usage.get(encodable(run.model)),
        },
        "scores": {SCORER: {"value": RIGHT if right else WRONG, "answer": answer}},
        "metadata": {
            "problem": encodable(sample.last.id),
            "seed": sample.seed,
            "verdict": clean(as_text(sample.end.verdict)),
            "verdict_correct": sample.end.verdict_correct,
        },
        "model_usage": usage,
    }


def count_usage(run: SavedRun, samples: Sequence[Sample]) -> Json:
    """Tokens by the model's name; {} where they are not on record."""
    if not run.measured:
        return {}
    prompts = sum(sample.input_tokens for sample in samples)
    replies = sum(sample.output_tokens for sample in samples)
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
