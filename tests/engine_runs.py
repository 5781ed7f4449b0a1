"""Entry scripts on a real engine: starting one, lending it to runs, checking their files."""

from __future__ import annotations

import importlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kflow.engines.vllm import VllmEngine
from kflow.experiment import Experiment, main
from kflow.launch import engine_arguments
from kflow.settings import from_flags
from kflow.types import Chat, Completion, Key, Request


class Kept:
    """A real engine that outlives the runs it is lent to, and what it was asked and answered."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self.requests: dict[Key, Request] = {}
        self.completed: dict[Key, Completion] = {}

    def submit(self, request: Request) -> None:
        self.requests[request.key._replace(run="")] = request
        self._engine.submit(request)

    def completions(self) -> list[Completion]:
        done = self._engine.completions()
        self.completed |= {each.key._replace(run=""): each for each in done}
        return done

    def close(self) -> None:
        pass


def experiment_of(script: str) -> Experiment:
    experiment: Experiment = importlib.import_module(script).EXPERIMENT
    return experiment


def start(script: str, flags: list[str], chat: Chat) -> VllmEngine:
    """The engine as `main` would start it with these flags."""
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    experiment = experiment_of(script)
    settings, _ = from_flags(flags, None, experiment.method, experiment.defaults)
    decode = partial(chat.decode, skip_special_tokens=True)
    arguments = engine_arguments(experiment.family, settings, None)
    return VllmEngine(arguments, settings.sampling(chat.stop_token_ids), decode)


def run(script: str, flags: list[str], engine: VllmEngine) -> tuple[Kept, list[list[Any]]]:
    """Two steps of a script; what the engine saw, and the two predictions files."""
    kept = Kept(engine)
    with pytest.raises(SystemExit) as ended:
        main(experiment_of(script), flags, lambda *_: kept)
    assert ended.value.code == 0
    folder = Path(flags[flags.index("--results_dir") + 1])
    files = sorted(folder.rglob("predictions_*.json"))
    assert [path.name for path in files] == ["predictions_0.json", "predictions_1.json"]
    assert not list(folder.rglob("rollouts_*.jsonl"))
    return kept, [json.loads(path.read_text()) for path in files]


def check(kept: Kept, steps: list[list[Any]], chat: Chat) -> None:
    """What is in the files is what went into the engine and came out of it."""
    assert len(kept.requests) == len(kept.completed) == 2 * len(steps[0][1:])
    for step, (summary, *records) in enumerate(steps):
        assert summary["total"] == len(records)
        for record in records:
            key = Key("", record["id"], 0, step)
            request, completion = kept.requests[key], kept.completed[key]
            prompt = chat.decode(list(request.prompt_ids), skip_special_tokens=False)
            assert record["question"] == prompt
            assert record["prompt_tokens"] == len(request.prompt_ids)
            assert record["pred_solution"][record["reply_start"] :] == completion.text
            assert record["completion_tokens"] == completion.tokens <= request.max_tokens
            assert record["finish_reason"] in ("stop", "length")
            assert record["failure"] is None
