"""The truth, second half: the gpt-oss scripts on a tiny random gpt-oss in a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from helpers.engine_runs import check, draw_from, problems, run, slots_of, start, steps_of
from kflow.answers import FIRST_BOXED, Integer
from kflow.engines.vllm_engine.vllm import VllmEngine
from kflow.families.gpt_oss import HarmonyChat
from kflow.types import Chat, Prompt

pytestmark = pytest.mark.engine

WORDS = "[Summary]: so the answer is [Answer]: \\boxed{17} assistantfinal we try. But no"

GPT_OSS = ["--max_new_tokens", "1408", "--enforce_eager"]
GPT_OSS += ["--engine_args", '{"skip_tokenizer_init": true}']
RSA = ("--rollouts_per_step", "2", "--aggregate", "2")
# Script -> the widths of its first two steps, and its own flags.
OSS: dict[str, tuple[tuple[int, int], tuple[str, ...]]] = {
    "vllm_kflow_oss": ((1, 1), ()),
    "vllm_kflow_oss24": ((1, 1), ()),
    "vllm_kflow_oss_knowledgeRegen": ((1, 1), ()),
    "vllm_kflow_oss_positiveKnowledge": ((1, 1), ()),
    "vllm_oss_markovian_thinking": ((1, 1), ()),
    "vllm_oss_parallel_thinking": ((1, 1), ()),
    "vllm_oss_refine": ((1, 1), ()),
    "vllm_oss_rsa": ((2, 2), RSA),
    "vllm_oss_trt": ((1, 2), ()),
    "vllm_oss_rse": ((2, 2), ("--attempts", "2")),
    "vllm_oss_pacore": ((2, 1), ("--rounds", "2")),
}


def tiny_model(folder: Path, chat: HarmonyChat) -> None:
    """A random gpt-oss checkpoint that draws from the tokens of WORDS and soon stops."""
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
    likely = [chat.stop_token_ids[0], *chat.render(Prompt((), 0.9, WORDS))[-chat.count(WORDS) :]]
    draw_from(model, likely)
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def gpt_oss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VllmEngine, str, Chat]]:
    """An engine on it without a tokenizer: harmony's ids in, harmony's ids out."""
    folder, chat = tmp_path_factory.mktemp("model") / "gpt-oss-tiny", HarmonyChat()
    tiny_model(folder, chat)
    with closing(start("vllm_kflow_oss", ["--model_name", str(folder), *GPT_OSS], chat)) as engine:
        yield engine, str(folder), chat


@pytest.mark.parametrize("script", OSS)
def test_gpt_oss_scripts(
    script: str, gpt_oss: tuple[VllmEngine, str, Chat], tmp_path: Path
) -> None:
    (engine, model, chat), (widths, own) = gpt_oss, OSS[script]
    flags = ["--model_name", model, *GPT_OSS, "--reflex_size", "2", *own, *problems(tmp_path)]
    kept = run(script, flags, engine)
    steps = steps_of(tmp_path)
    check(kept, steps, chat, widths)
    for request in kept.requests.values():
        text = chat.decode(list(request.prompt_ids), False)
        assert text.startswith("<|start|>system<|message|>")
        assert "Reasoning: high" in text
        assert text.endswith("<|end|><|start|>assistant")
    rollouts = [rollout for _, *records in steps for rollout, _ in slots_of(records)]
    assert all("<|" not in rollout["pred_solution"] for rollout in rollouts)
    assert any(rollout["finish_reason"] == "stop" for rollout in rollouts)
    if script == "vllm_kflow_oss":
        for record in steps[0][1:]:
            assert record["predicted"] == Integer().extract(record["pred_solution"], FIRST_BOXED)
