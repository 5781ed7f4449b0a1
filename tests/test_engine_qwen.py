"""The truth, first half: the Qwen scripts on SmolLM2 in a real engine, from flags to files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import prepare_smollm2
from engine_runs import check, run, start
from kflow.engines.vllm import VllmEngine
from kflow.families.chat import TemplateChat
from kflow.types import Key, Message, Prompt, Request

pytestmark = pytest.mark.engine

QWEN = [
    "vllm_kflow_qwen",
    "vllm_kflow_qwen24",
    "vllm_kflow_qwen_knowledgeRegen",
    "vllm_kflow_qwen_positiveKnowledge",
    "vllm_qwen_markovian_thinking",
]


SMOLLM2 = ["--max_new_tokens", "2048", "--enforce_eager", "--force_sections"]


@pytest.fixture(scope="module")
def smollm2() -> Iterator[tuple[VllmEngine, str]]:
    folder = str(prepare_smollm2.prepare())
    flags = ["--model_name", folder, *SMOLLM2]
    engine = start("vllm_kflow_qwen", flags, TemplateChat(folder, False))
    yield engine, folder
    engine.close()


@pytest.mark.parametrize("script", QWEN)
def test_qwen_scripts(script: str, smollm2: tuple[VllmEngine, str], tmp_path: Path) -> None:
    engine, model = smollm2
    flags = ["--model_name", model, *SMOLLM2, "--dataset", "quickstart", "--limit", "2"]
    flags += ["--reflex_size", "2", "--results_dir", str(tmp_path)]
    kept, steps = run(script, flags, engine)
    chat = TemplateChat(model, False)
    check(kept, steps, chat)
    for request in kept.requests.values():
        assert chat.decode(list(request.prompt_ids), False).startswith("<|im_start|>system")
    if "markovian" not in script:
        assert all("missing_sections" not in record["update"] for record in steps[0][1:])


def test_a_seed_gives_the_same_reply_again(smollm2: tuple[VllmEngine, str]) -> None:
    engine, model = smollm2
    chat = TemplateChat(model, False)
    prompt = tuple(chat.render(Prompt((Message("user", "Tell me about rivers."),))))

    def reply(seed: int) -> str:
        engine.submit(Request(Key("p", seed, 0), prompt, 24, seed))
        (completion,) = engine.completions()
        return completion.text

    first = [reply(seed) for seed in (0, 1, 2)]
    assert [reply(seed) for seed in (2, 0, 1)] == [first[2], first[0], first[1]]
    assert len(set(first)) == 3


def test_a_refused_prompt_fails_its_rollout_only(smollm2: tuple[VllmEngine, str]) -> None:
    engine, _ = smollm2
    engine.submit(Request(Key("too long", 0, 0), tuple(range(3, 4000)), 8, 0))
    engine.submit(Request(Key("fine", 0, 0), (3, 4, 5), 8, 0))
    done = {}
    while completions := engine.completions():
        done |= {completion.key.problem: completion for completion in completions}
    assert done["too long"].failure
    assert done["fine"].failure is None
    assert done["fine"].tokens > 0
