"""Runs as logs of inspect_ai, one `.eval` file each: a problem is a sample, a seed an epoch, the
steps are its messages.

Such a file is a zip of JSON. While a run is read step by step, each chain's messages are gathered
in a file of their own, so that no chain is in memory as a whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from kflow.analysis.chains import answered, answered_right
from kflow.analysis.export.source import Source, StepRecord, encodable, file_name, file_names
from kflow.ground.version import VERSION
from kflow.results.published import measured
from kflow.results.recorded import part
from kflow.results.replies import split
from kflow.results.rollout import Rollout, without_texts
from kflow.results.rows import answer_text

SCHEMA = 2  # of inspect_ai's logs
SCORER = "answer"
RIGHT, WRONG = "C", "I"
STOP_REASONS = {"stop": "stop", "length": "max_tokens"}
LONGEST_INPUT = 1000  # characters, in the list of samples
Json = dict[str, Any]


@dataclass
class Sample:
    """A chain as far as it has been read. id: names its file in the zip too. messages: the file
    that gathers them. last: its last record that asks for an answer, else its last, without texts;
    completion: what that one's reply answers visibly. end: its last record that counts, without
    texts."""

    id: str
    epoch: int
    input: str
    messages: Path
    last: Rollout
    end: Rollout
    completion: str = ""
    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


def write(sources: Sequence[Source], folder: Path, texts: bool) -> int:
    """A log per run; the number of their rollouts."""
    return sum(
        log(source, folder / f"{name}.eval")
        for source, name in zip(sources, file_names(sources), strict=True)
    )


def log(source: Source, path: Path) -> int:
    gathered = path.with_name(f"{path.name}.messages")
    gathered.mkdir()
    samples: dict[tuple[int, int], Sample] = {}
    rollouts = 0
    for item in source.records():
        at = item.seed, item.place
        if at not in samples:
            samples[at] = new_sample(item, gathered / f"{item.seed}-{item.place}")
        rollouts += gather(samples[at], source, item)
    ordered = [samples[at] for at in sorted(samples)]
    with ZipFile(path, "x", ZIP_DEFLATED) as archive:
        start = {"version": SCHEMA, "eval": spec(source, ordered), "plan": {}}
        archive.writestr("_journal/start.json", encoded(start))
        for sample in ordered:
            name = f"samples/{sample.id}_epoch_{sample.epoch}.json"
            with archive.open(name, "w", force_zip64=True) as file:
                first, last = whole(sample, source)
                file.write(encoded(first)[:-1] + b', "messages": [')
                with open(sample.messages, "rb") as messages:
                    shutil.copyfileobj(messages, file)
                file.write(b"], " + encoded(last)[1:])
            sample.messages.unlink()
        archive.writestr("summaries.json", encoded([listed(sample, source) for sample in ordered]))
        archive.writestr("header.json", encoded(header(source, ordered)))
    gathered.rmdir()
    return rollouts


def new_sample(item: StepRecord, messages: Path) -> Sample:
    record, shown = item.record, without_texts(item.record)
    messages.touch(exist_ok=False)
    return Sample(
        file_name(record.id, item.place),
        item.seed + 1,  # epochs begin at 1
        encodable(record.slots[0].question),
        messages,
        shown,
        shown,
    )


def gather(sample: Sample, source: Source, item: StepRecord) -> int:
    """Put a step's turns behind the sample's others; the number of its rollouts."""
    slots = item.record.new_slots
    asks = any(slot.asks_answer for slot in slots)
    if item.record.counted:
        sample.end = without_texts(item.record)
    if item.record.counted and slots and (asks or not sample.last.asks_answer):
        sample.last = without_texts(item.record)
        sample.completion = encodable(split(item.record)[1])
    with open(sample.messages, "ab") as file:
        for slot in slots:
            for turn in turns(slot, source.model, item.step):
                file.write((b", " if file.tell() else b"") + encoded(turn))
            sample.turns += 2
            sample.input_tokens += slot.prompt_tokens
            sample.output_tokens += slot.completion_tokens
    return len(slots)


def turns(slot: Rollout, model: str, step: int) -> tuple[Json, Json]:
    """A rollout's prompt and reply as inspect_ai's chat messages."""
    thinking, answer = map(encodable, split(slot))
    place, known = {"step": step, "slot": slot.slot}, measured(slot)
    metadata = {
        **place,
        "predicted": optional(answer_text(slot.predicted)),
        "correct": slot.correct,
        "finish_reason": optional(slot.finish_reason),
        "failure": optional(slot.failure),
        "prompt_tokens": slot.prompt_tokens if known else None,
        "completion_tokens": slot.completion_tokens if known else None,
    }
    content = [{"type": "text", "text": answer}]
    if thinking:
        content.insert(0, {"type": "reasoning", "reasoning": thinking})
    return (
        {"role": "user", "content": encodable(slot.question), "metadata": place},
        {"role": "assistant", "content": content, "model": model, "metadata": metadata},
    )


def whole(sample: Sample, source: Source) -> tuple[Json, Json]:
    """What stands in a sample before its messages, and behind them."""
    message = {"role": "assistant", "content": sample.completion, "model": source.model}
    reason = STOP_REASONS.get(sample.last.finish_reason or "", "unknown")
    tokens = usage([sample], source)
    return {**identity(sample), "input": sample.input}, {
        "output": {
            "model": source.model,
            "choices": [{"message": message, "stop_reason": reason}],
            "usage": tokens.get(source.model),
        },
        "scores": scores(sample, source),
        "metadata": metadata(sample),
        "model_usage": tokens,
    }


def listed(sample: Sample, source: Source) -> Json:
    """The entry of a sample in the log's list."""
    return {
        **identity(sample),
        "input": sample.input[:LONGEST_INPUT],
        "scores": scores(sample, source),
        "metadata": metadata(sample),
        "model_usage": usage([sample], source),
        "completed": True,
        "message_count": sample.turns,
    }


def identity(sample: Sample) -> Json:
    return {"id": sample.id, "epoch": sample.epoch, "target": encodable(str(sample.last.gold))}


def metadata(sample: Sample) -> Json:
    verdict = optional(answer_text(sample.end.verdict))
    return {
        "problem": encodable(sample.last.id),
        "seed": sample.epoch - 1,
        "verdict": verdict,
        "verdict_correct": sample.end.verdict_correct,
    }


def scores(sample: Sample, source: Source) -> Json:
    """The chain's answer after its last step, as compare_results.py counts it."""
    answer = optional(answer_text(answered(sample.end, source.ahead)))
    right = answered_right(sample.end, source.ahead)
    return {SCORER: {"value": RIGHT if right else WRONG, "answer": answer}}


def usage(samples: Sequence[Sample], source: Source) -> Json:
    """Tokens by the model's name; {} where they are not on record."""
    if not all(measured(sample.last) for sample in samples):
        return {}
    prompts = sum(sample.input_tokens for sample in samples)
    replies = sum(sample.output_tokens for sample in samples)
    total = prompts + replies
    return {
        source.model: {"input_tokens": prompts, "output_tokens": replies, "total_tokens": total}
    }


def spec(source: Source, samples: Sequence[Sample]) -> Json:
    """What was evaluated, as far as run.json says."""
    ids = list(dict.fromkeys(sample.id for sample in samples))
    name = encodable(source.name)
    number = hashlib.sha256(f"{name}\0{source.started}".encode()).hexdigest()[:22]
    sampling = part(source.manifest, "sampling")
    chosen = {key: part(sampling, key) for key in ("temperature", "top_p", "top_k")}
    return {
        "eval_id": number,
        "run_id": number,
        "task_id": number,
        "created": source.started,
        "task": name,
        "dataset": {"name": name, "samples": len(ids), "sample_ids": ids},
        "model": source.model,
        "model_generate_config": {k: v for k, v in chosen.items() if isinstance(v, (int, float))},
        "config": {"epochs": len({sample.epoch for sample in samples})},
        "packages": {"knowledge-flow": VERSION},
        "scorers": [{"name": SCORER}],
    }


def header(source: Source, samples: Sequence[Sample]) -> Json:
    accuracy = sum(answered_right(each.end, source.ahead) for each in samples) / len(samples)
    metric = {"accuracy": {"name": "accuracy", "value": accuracy}}
    return {
        "version": SCHEMA,
        "status": "success" if source.complete else "started",
        "eval": spec(source, samples),
        "plan": {},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [{"name": SCORER, "scorer": SCORER, "metrics": metric}],
        },
        "stats": {
            "started_at": source.started,
            "completed_at": source.ended,
            "model_usage": usage(samples, source),
        },
    }


def optional(text: str | None) -> str | None:
    return None if text is None else encodable(text)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()
