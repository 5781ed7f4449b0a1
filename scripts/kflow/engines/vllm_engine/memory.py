"""How much of a model's KV cache a GPU holds: arithmetic on a model's config.json, before anything
is loaded. After the start vLLM reports the real size; this is what can be known without it.

All sizes in bytes. vLLM shards weights and KV heads over the tensor parallel GPUs, and gives every
GPU a KV head of its own, replicated, where there are fewer heads than GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIB = 2**30
# Of each GPU, besides weights and KV cache: activations of the largest batch, CUDA graphs, NCCL.
OVERHEAD = int(2.5 * GIB)
ELEMENT = {"float32": 4, "bfloat16": 2, "float16": 2, "half": 2, "float": 4}
# Bytes per weight of a layer's matrices, and of its experts: fp8 keeps a byte, MXFP4 four bits and
# a scale of eight bits for each 32 weights, for experts alone.
QUANTIZED = {"fp8": (1.0, 1.0), "mxfp4": (2.0, 17 / 32)}


@dataclass(frozen=True)
class Model:
    """What of a model takes memory. layers: those whose KV cache grows with the text; sliding ones
    keep a window of it, which is small beside a long chain's. kv_element: bytes of one number in
    the KV cache. weights: bytes, over all GPUs."""

    layers: int
    sliding_layers: int
    heads: int
    kv_heads: int
    head_size: int
    kv_element: int
    weights: int


def facts(
    config: Mapping[str, Any], dtype: str | None = None, kv_cache_dtype: str = "auto"
) -> Model | None:
    """A model by its config.json; None where that does not say enough, as with latent attention or
    a quantization that is not known here, or has another shape.

    dtype: of the weights, where it is not the config's. kv_cache_dtype: vLLM's argument.
    """
    config = config.get("text_config") or config
    try:
        kinds = config.get("layer_types") or ["full_attention"] * config["num_hidden_layers"]
        size = ELEMENT[str(dtype or config.get("dtype") or config.get("torch_dtype"))]
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        model = Model(
            layers=kinds.count("full_attention"),
            sliding_layers=kinds.count("sliding_attention"),
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_size=config.get("head_dim") or hidden // heads,
            kv_element=1 if kv_cache_dtype.startswith("fp8") else size,
            weights=weight_bytes(config, size),
        )
    except (KeyError, TypeError, AttributeError, ZeroDivisionError):
        return None
    known = model.layers > 0 and model.layers + model.sliding_layers == len(kinds)
    return model if known and "kv_lora_rank" not in config else None


def weight_bytes(config: Mapping[str, Any], size: int) -> int:
    """A decoder's matrices, to a percent or so; norms, biases and routers are left out.

    size: bytes of an unquantized weight. Raises KeyError for what the config does not say.
    """
    hidden, layers, heads = (
        config[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")
    )
    head_size = config.get("head_dim") or hidden // heads
    kv_heads = config.get("num_key_value_heads") or heads
    method = (config.get("quantization_config") or {}).get("quant_method")
    matrix, expert = QUANTIZED[method] if method else (size, size)
    attention = 2 * hidden * head_size * (heads + kv_heads)
    experts = config.get("num_experts") or config.get("num_local_experts")
    width = (experts and config.get("moe_intermediate_size")) or config["intermediate_size"]
    feed_forward = 3 * hidden * width * (experts or 1) * (expert if experts else matrix)
    embeddings = config["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return int(layers * (attention * matrix + feed_forward) + embeddings * size)


def kv_bytes_per_token(model: Model, tensor_parallel: int) -> int:
    """What a token of context takes of each GPU."""
    heads = max(1, -(-model.kv_heads // tensor_parallel))
    return 2 * model.layers * heads * model.head_size * model.kv_element


def kv_tokens(model: Model, gpu_bytes: int, tensor_parallel: int, utilization: float) -> int:
    """Tokens of context that an engine's KV cache holds at a time, 0 where the weights do not fit.

    gpu_bytes: the memory of one GPU. utilization: vLLM's gpu_memory_utilization.
    """
    left = gpu_bytes * utilization - model.weights / tensor_parallel - OVERHEAD
    return max(0, int(left / kv_bytes_per_token(model, tensor_parallel)))
