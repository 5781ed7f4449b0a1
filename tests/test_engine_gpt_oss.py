"""The truth, second half: the gpt-oss scripts on a tiny random gpt-oss in a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_runs import check, run, start
from kflow.answers import first_boxed
from kflow.engines.vllm import VllmEngine
from kflow.families.gpt_oss import HarmonyChat
from kflow.types import Prompt

pytestmark = pytest.mark.engine

WORDS = "[Summary]: so the answer is [Answer]: \\boxed{17} assistantfinal we try. But no"

GPT_OSS = ["--max_new_tokens", "2048", "--enforce_eager"]
GPT_OSS += ["--engine_args", '{"skip_tokenizer_init": true}']


OSS = [
    "vllm_kflow_oss",
    "vllm_kflow_oss24",
    "vllm_kflow_oss_knowledgeRegen",
    "vllm_kflow_oss_positiveKnowledge",
    "vllm_oss_markovian_thinking",
]


def tiny_model(folder: Path) -> None:
    """A random gpt-oss checkpoint that draws from the tokens of WORDS and soon stops.

    Every embedding and every weight of the output layer has the same large first component,
    positive for those tokens alone, so that it outweighs all that is random.
    """
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(0)
    config = GptOssConfig(
        num_hidden_layers=2,
        hidden_size=128,
        intermediate_size=128,
        num_local_experts=4,
        num_experts_per_tok=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        vocab_size=201088,
        layer_types=["sliding_attention", "full_attention"],
    )
    model = GptOssForCausalLM(config).to(torch.bfloat16)
    chat = HarmonyChat()
    likely = [chat.stop_token_ids[0], *chat.render(Prompt((), WORDS))[-chat.count(WORDS) :]]
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 10.0
        model.lm_head.weight[:, 0] = -1.0
        model.lm_head.weight[likely, 0] = 1.0
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def gpt_oss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VllmEngine, str]]:
    """An engine on it without a tokenizer: harmony's ids in, harmony's ids out."""
    folder = tmp_path_factory.mktemp("model") / "gpt-oss-tiny"
    tiny_model(folder)
    engine = start("vllm_kflow_oss", ["--model_name", str(folder), *GPT_OSS], HarmonyChat())
    yield engine, str(folder)
    engine.close()


@pytest.mark.parametrize("script", OSS)
def test_gpt_oss_scripts(script: str, gpt_oss: tuple[VllmEngine, str], tmp_path: Path) -> None:
    engine, model = gpt_oss
    flags = ["--model_name", model, *GPT_OSS, "--dataset", "quickstart", "--limit", "2"]
    flags += ["--reflex_size", "2", "--results_dir", str(tmp_path)]
    kept, steps = run(script, flags, engine)
    chat = HarmonyChat()
    check(kept, steps, chat)
    for request in kept.requests.values():
        text = chat.decode(list(request.prompt_ids), False)
        assert text.startswith("<|start|>system<|message|>")
        assert "Reasoning: high" in text
        assert text.endswith("<|end|><|start|>assistant")
    assert all("<|" not in record["pred_solution"] for _, *rs in steps for record in rs)
    assert any(record["finish_reason"] == "stop" for _, *rs in steps for record in rs)
    if script == "vllm_kflow_oss":
        for record in steps[0][1:]:
            assert record["predicted"] == first_boxed(record["pred_solution"])
