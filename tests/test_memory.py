"""The KV cache's arithmetic, against the published models' configs and three kinds of GPU."""

from __future__ import annotations

from typing import Any

import pytest

from kflow.engines.vllm_engine.memory import GIB, Model, facts, kv_bytes_per_token, kv_tokens

QWEN = {
    "hidden_size": 4096, "num_hidden_layers": 94, "num_attention_heads": 64, "head_dim": 128,
    "num_key_value_heads": 4, "num_experts": 128, "moe_intermediate_size": 1536,
    "intermediate_size": 12288, "vocab_size": 151936, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "sliding_window": None,
}  # fmt: skip
OSS: dict[str, Any] = {
    "hidden_size": 2880, "num_hidden_layers": 36, "num_attention_heads": 64, "head_dim": 64,
    "num_key_value_heads": 8, "num_local_experts": 128, "intermediate_size": 2880,
    "vocab_size": 201088, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 18,
    "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip
DENSE = {
    "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "vocab_size": 49152,
    "num_key_value_heads": 3, "intermediate_size": 1536, "tie_word_embeddings": True,
    "dtype": "bfloat16",
}  # fmt: skip
# What the driver reports of one GPU, in MiB.
H100, H200, B200 = (size * 2**20 for size in (81_559, 143_771, 183_359))


def known(config: dict[str, Any], **arguments: str) -> Model:
    model = facts(config, **arguments)
    assert model is not None
    return model


@pytest.mark.parametrize(
    ("config", "tensor_parallel", "expected"),
    [
        (QWEN, 8, 48_128),  # one head of four, replicated
        (QWEN, 4, 48_128),
        (QWEN, 2, 2 * 48_128),
        (QWEN, 3, 2 * 48_128),  # no worse than what the fullest GPU holds
        (OSS, 8, 4_608),  # half of the layers slide
        (OSS, 1, 8 * 4_608),
    ],
)
def test_bytes_per_token(config: dict[str, Any], tensor_parallel: int, expected: int) -> None:
    assert kv_bytes_per_token(known(config), tensor_parallel) == expected


@pytest.mark.parametrize(
    ("config", "gpu", "millions"),
    [(QWEN, H100, 0.32), (QWEN, H200, 1.5), (QWEN, B200, 2.3), (OSS, H100, 14)],
)
def test_tokens_on_eight_gpus(config: dict[str, Any], gpu: int, millions: float) -> None:
    tokens = kv_tokens(known(config), gpu, 8, 0.9)
    assert tokens / 1e6 == pytest.approx(millions, rel=0.05)


def test_weights_that_do_not_fit_leave_no_room() -> None:
    assert kv_tokens(known(QWEN), H100, 4, 0.9) == 0


@pytest.mark.parametrize(
    ("config", "gib"),
    [
        (QWEN, 438),
        (OSS, 60.8),
        (DENSE, 134.5e6 * 2 / GIB),
        (QWEN | {"torch_dtype": "float32"}, 876),
    ],
)
def test_weights(config: dict[str, Any], gib: float) -> None:
    assert known(config).weights / GIB == pytest.approx(gib, rel=0.01)


def test_other_types_take_other_room() -> None:
    assert kv_bytes_per_token(known(QWEN, dtype="float32"), 8) == 2 * 48_128
    assert kv_bytes_per_token(known(QWEN, kv_cache_dtype="fp8_e4m3"), 8) == 48_128 // 2
    fp8 = QWEN | {"quantization_config": {"quant_method": "fp8"}}
    assert known(fp8).weights == pytest.approx(known(QWEN).weights / 2, rel=0.01)
    assert kv_bytes_per_token(known(fp8), 8) == 48_128


def test_a_config_of_several_models_is_read_for_its_text() -> None:
    assert facts({"text_config": QWEN, "vision_config": {}}) == facts(QWEN)


@pytest.mark.parametrize(
    "unknown",
    [
        {"kv_lora_rank": 512},
        {"layer_types": ["linear_attention", "full_attention"]},
        {"quantization_config": {"quant_method": "awq"}},
        {"torch_dtype": "auto"},
        {"num_attention_heads": None},
        {"head_dim": None, "num_attention_heads": 0},
        {"num_hidden_layers": "94"},
        {"hidden_size": []},
        {"layer_types": ["sliding_attention"]},
        {"quantization_config": "fp8"},
    ],
)
def test_what_the_config_does_not_say_is_not_made_up(unknown: dict[str, Any]) -> None:
    config = {name: value for name, value in (QWEN | unknown).items() if value is not None}
    assert facts(config) is None


def test_an_empty_config_says_nothing() -> None:
    assert facts({}) is None
