"""Entry scripts on a real engine: starting one, lending it to runs, checking their files."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from helpers.fakes import K
from helpers.scripted import write_problems
from kflow.engines.vllm_engine.vllm import VllmEngine
from kflow.experiment import Experiment, main, parse_flags
from kflow.running.engine import recipe_of
from kflow.types import Chat, Completion, Key, Message, Prompt, Request

# The shared engine's; a run may have a smaller window, and the smaller the quicker.
SMOLLM2 = ["--max_new_tokens", "1408", "--enforce_eager", "--force_sections"]
# Its KV cache, so small that a few long rollouts at a time do not fit: blocks as large as vLLM's
# are on a CPU (in tokens), for 42, and one that vLLM keeps for itself. test_engine_qwen.py reckons
# with two that are left over where each of four prompts has a quarter of them.
BLOCK, BLOCKS = 128, 43
# Short, so that a prompt is hardly more than its instructions.
QUESTIONS = (
    ("apples", "How many apples are 17 apples and 25 apples?", 42),
    ("dogs", "How many legs do 9 dogs have?", 36),
)
RIVERS = Prompt((Message("user", "Tell me about rivers."),), 0.9)


class SmolLM2(NamedTuple):
    engine: VllmEngine
    model: str
    chat: Chat


class Kept:
    """A real engine that outlives the runs it is lent to, and what it was asked and answered."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self.progress, self.kv_cache = engine.progress, engine.kv_cache
        self.requests: dict[Key, Request] = {}
        self.completed: dict[Key, Completion] = {}

    def submit(self, request: Request) -> None:
        self.requests[request.key] = request
        self._engine.submit(request)

    def completions(self) -> list[Completion]:
        done = self._engine.completions()
        self.completed |= {each.key: each for each in done}
        return done

    def close(self) -> None:
        pass


def experiment_of(script: str) -> Experiment:
    experiment: Experiment = importlib.import_module(script).EXPERIMENT
    return experiment


def start(script: str, flags: list[str], chat: Chat) -> VllmEngine:
    """The engine as `main` would start it with these flags."""
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    experiment, settings = parse_flags(experiment_of(script), flags)
    decode = partial(chat.decode, skip_special_tokens=True)
    arguments = recipe_of(experiment.family, settings, None, None).arguments
    return VllmEngine(arguments, settings.sampling(chat.stop_token_ids), decode)


def draw_from(network: Any, tokens: Sequence[int], weight: float = 10.0) -> None:
    """Have a random model draw from these tokens: every embedding and every weight of the output
    layer gets the same large first component, positive for them alone, so that it outweighs what is
    random."""
    import torch

    with torch.no_grad():
        network.model.embed_tokens.weight[:, 0] = weight
        network.lm_head.weight[:, 0] = -1.0
        network.lm_head.weight[list(tokens), 0] = 1.0


def problems(folder: Path) -> list[str]:
    """Flags: two of our own problems, and a place for results."""
    folder.mkdir(exist_ok=True)
    file = write_problems(folder / "problems.jsonl", QUESTIONS)
    return ["--dataset", str(file), "--results_dir", str(folder / "results")]


def run(script: str, flags: list[str], engine: VllmEngine) -> Kept:
    """A script from its flags to its end, with the engine lent to it."""
    kept = Kept(engine)
    with pytest.raises(SystemExit) as ended:
        main(experiment_of(script), flags, lambda *_: kept)
    assert ended.value.code == 0
    return kept


def steps_of(folder: Path) -> list[list[Any]]:
    """The steps in a results folder, or in the only one below a folder: summary, then records."""
    assert not list(folder.rglob("rollouts_*.jsonl"))
    count = len(list(folder.rglob("predictions_*.json")))
    (run_folder,) = {path.parent for path in folder.rglob("predictions_*.json")}
    return [json.loads((run_folder / f"predictions_{n}.json").read_bytes()) for n in range(count)]


def slots_of(records: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    for record in records:
        for slot, rollout in enumerate(record.get("rollouts", [record])):
            yield rollout, slot


def check(kept: Kept, steps: list[list[Any]], chat: Chat, widths: Sequence[int] = (1, 1)) -> None:
    """What is in the files of one run is what went into the engine and came out of it."""
    assert len(steps) == len(widths)
    (run,) = {key.run for key in kept.requests}
    completed = kept.requests.keys() & kept.completed.keys()
    assert len(kept.requests) == len(completed) == len(QUESTIONS) * sum(widths)
    for step, (summary, *records) in enumerate(steps):
        assert summary["total"] == len(records) == len(QUESTIONS)
        assert len(list(slots_of(records))) == len(QUESTIONS) * widths[step]
        for record, slot in slots_of(records):
            key = Key(run, record["id"], 0, step, slot)
            request, completion = kept.requests[key], kept.completed[key]
            prompt = chat.decode(list(request.prompt_ids), skip_special_tokens=False)
            assert record["slot"] == slot
            assert record["question"] == prompt
            assert record["prompt_tokens"] == len(request.prompt_ids)
            assert record["pred_solution"][record["reply_start"] :] == completion.text
            assert record["completion_tokens"] == completion.tokens <= request.max_tokens
            assert record["finish_reason"] in ("stop", "length")
            assert record["failure"] is None


def check_sections(steps: list[list[Any]]) -> None:
    """Forced to its sections, a reply that is not truncated has all of them; a small model that
    counts in a circle is truncated now and then."""
    rollouts = [rollout for _, *records in steps for rollout, _ in slots_of(records)]
    ended = [rollout for rollout in rollouts if rollout["finish_reason"] == "stop"]
    assert ended
    assert all(rollout["missing_sections"] == [] for rollout in ended)


def check_seeds(small: SmolLM2) -> None:
    """A seed gives the same reply again, whatever was asked before, and another seed another."""
    prompt = tuple(small.chat.render(RIVERS))

    def reply(seed: int) -> str:
        small.engine.submit(Request(K("p", seed, 0), prompt, 24, seed))
        (completion,) = small.engine.completions()
        return completion.text

    first = [reply(seed) for seed in (0, 1, 2)]
    assert [reply(seed) for seed in (2, 0, 1)] == [first[2], first[0], first[1]]
    assert len(set(first)) == 3


def check_refusal(small: SmolLM2, window: int) -> None:
    """A prompt that does not fit fails its own rollout, and no other."""
    small.engine.submit(Request(K("too long", 0, 0), tuple(range(3, 3 + 2 * window)), 8, 0))
    small.engine.submit(Request(K("fine", 0, 0), (3, 4, 5), 8, 0))
    done: dict[str, Completion] = {}
    while completions := small.engine.completions():
        done |= {completion.key.problem: completion for completion in completions}
    assert done["too long"].failure
    assert done["fine"].failure is None
    assert done["fine"].tokens > 0
