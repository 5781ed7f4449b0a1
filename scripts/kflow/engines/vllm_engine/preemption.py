"""Whether vLLM may have to preempt rollouts, before it is started: an estimate that shows that it
will not, or why that cannot be shown. Once it runs, it counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kflow.engines.vllm_engine import memory
from kflow.ground.hardware import Gpu

# The share of the KV cache's estimated size that is counted on.
SURE = 0.8


def preemption(
    args: Mapping[str, Any],
    gpus: Sequence[Gpu],
    in_flight: int | None,
    config: Mapping[str, Any],
) -> str:
    """Why rollouts may be preempted, as the end of a sentence; "" where the KV cache is estimated
    to hold the whole window of all that run at a time.

    args: vLLM's. in_flight: rollouts at most, None where it is not known. config: the model's.
    """
    if in_flight is None:
        return "how many rollouts run at a time is not known"
    if not gpus:
        return "the memory of the GPUs is not known"
    dtype, kv_dtype = args.get("dtype", "auto"), str(args.get("kv_cache_dtype", "auto"))
    model = memory.facts(config, None if dtype == "auto" else dtype, kv_dtype)
    if model is None:
        return "the model's config does not say how large its KV cache is"
    if args.get("disable_hybrid_kv_cache_manager"):  # all layers keep the whole text then
        model = replace(model, layers=model.layers + model.sliding_layers)
    smallest = min(gpu.memory for gpu in gpus)
    utilization = args.get("gpu_memory_utilization", 0.9)
    window = args.get("max_model_len")
    try:
        running = min(in_flight, args["max_num_seqs"])
        tokens = memory.kv_tokens(model, smallest, args["tensor_parallel_size"], utilization)
        holds = running * window <= SURE * tokens  # type: ignore[operator]
    except (KeyError, TypeError, ZeroDivisionError):  # what --engine_args may hold
        return "the arguments do not say how large the KV cache is"
    if holds:
        return ""
    return (
        f"the KV cache, an estimated {tokens:,} tokens, may not hold {running:,} windows of "
        f"{window:,}"
    )
