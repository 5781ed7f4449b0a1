"""The recipes against the installed vLLM's own classes."""

from __future__ import annotations

from typing import Any

import pytest
from test_recipes import B200, H100, eight_gpus, node, recipe  # noqa: F401, a fixture

from kflow.ground.hardware import Gpu


@pytest.mark.engine
@pytest.mark.parametrize("which", ["published", "throughput"])
@pytest.mark.parametrize("gpu", [H100, B200])
@pytest.mark.parametrize("name", ["gpt_oss", "qwen"])
def test_vllm_takes_the_arguments(name: str, gpu: Gpu, which: str) -> None:
    from vllm import EngineArgs

    args: dict[str, Any] = recipe(name, node("0.32.0", gpu), 480, which=which).arguments
    engine_args = EngineArgs(model="m", **args)
    passes = engine_args.compilation_config.pass_config
    if (name, which) == ("gpt_oss", "published"):
        assert (passes.fuse_allreduce_rms, passes.eliminate_noops) == (True, True)
        assert passes.fi_allreduce_fusion_max_size_mb == 8
        assert str(engine_args.attention_backend).endswith("TRITON_ATTN")
        assert engine_args.moe_backend == ("flashinfer_trtllm" if gpu == B200 else "auto")
    assert engine_args.compilation_config.max_cudagraph_capture_size == 960
