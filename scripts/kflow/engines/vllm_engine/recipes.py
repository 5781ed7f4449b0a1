"""What vLLM is started with, version by version; looked up without importing it.

A recipe is written as vLLM 0.10.2 names its arguments and variables; RENAMES says what newer
versions call them, so what a run was given can be read without knowing which vLLM it met.
"""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from kflow.ground import hardware
from kflow.ground.hardware import Gpu
from kflow.ground.version import version_of
from kflow.types import UserError

ASSUMED = "0.10.2"  # of a plan, where none is installed
CPU_INFO = Path("/proc/cpuinfo")
GPU_ONLY = ("gpu_memory_utilization", "async_scheduling", "cuda_graph_sizes", "compilation_config")
# What the throughput recipe keeps of the published arguments: kernels and fusions are vLLM's own
# choice there, none of them less exact than the published ones.
KEPT = ("dtype", "gpu_memory_utilization", "async_scheduling", "enable_prefix_caching")
# What a CPU build is started with where the user has not set it. vLLM's own share for the KV cache
# is more memory than a machine that is in use has free; 2 GiB are 60,000 tokens and more of models
# that a CPU is quick enough for.
ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TOKENIZERS_PARALLELISM": "false",
}
# Before torch is imported, which warns of what a CPU lacks: NUMA nodes, Triton.
QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR", "TORCH_LOGS": "-torch._library"}
# vllm.LLM's own limit on large GPUs; LLMEngine, which a run uses, has 128 and 2,048 tokens.
MOST_SEQUENCES = 1024
BATCHED_TOKENS = 8192
LARGEST_GRAPH, VLLMS_GRAPH = 2048, 512
# vLLM's pull requests 26385 and 26866: a preempted rollout keeps its reply, and a constraint holds
# for the token it was made for, with async_scheduling too.
ASYNC_KEEPS_REPLIES, ASYNC_CONSTRAINS = (0, 11, 2), (0, 11, 1)
# On a CPU; before, vLLM requires an xgrammar whose mask for logits takes float32 alone there.
BFLOAT16_CONSTRAINS = (0, 14)

ATTENTION = "VLLM_ATTENTION_BACKEND"
FUSION = "VLLM_FLASHINFER_ALLREDUCE_FUSION_THRESHOLDS_MB"
MXFP8 = "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8"
COMPILATION = "compilation_config"
PASSES = f"{COMPILATION}.pass_config"
GRAPHS = {"cuda_graph_sizes", "cudagraph_capture_sizes", "max_cudagraph_capture_size"}
# Arguments with which a user says what a variable of the recipe says.
INSTEAD = {
    ATTENTION: {"attention_backend", "attention_config"},
    FUSION: {COMPILATION},
    MXFP8: {"moe_backend", "quantization_config", "kernel_config"},
}


class Rename(NamedTuple):
    """since: the version that calls it otherwise. old, new: an argument, with dots where it is
    inside another one, or a variable. convert: value, tensor parallel GPUs -> value, None for none.
    """

    since: tuple[int, ...]
    old: str
    new: str
    convert: Callable[[Any, int], Any] = lambda value, gpus: value


def single(sizes: object) -> bool:
    return isinstance(sizes, list) and len(sizes) == 1


# By the sources of the versions in tests/data/vllm_names.json. A variable moves to its argument
# before vLLM ignores it; without those of MXFP8 vLLM has chosen bfloat16 activations by then.
RENAMES = (
    Rename((0, 11), ATTENTION, ATTENTION, lambda v, _: v.removesuffix("_VLLM_V1")),
    Rename((0, 11, 2), FUSION, f"{PASSES}.fi_allreduce_fusion_max_size_mb",
           lambda v, gpus: json.loads(v).get(str(gpus))),
    Rename((0, 13), ATTENTION, "attention_backend"),
    Rename((0, 13), "cuda_graph_sizes", f"{COMPILATION}.max_cudagraph_capture_size",
           lambda v, _: v[0] if single(v) else None),
    Rename((0, 13), "cuda_graph_sizes", f"{COMPILATION}.cudagraph_capture_sizes",
           lambda v, _: None if single(v) else v),
    Rename((0, 13), f"{PASSES}.enable_fi_allreduce_fusion", f"{PASSES}.fuse_allreduce_rms"),
    Rename((0, 13), f"{PASSES}.enable_noop", f"{PASSES}.eliminate_noops"),
    Rename((0, 24), MXFP8, "moe_backend", lambda *_: "flashinfer_trtllm"),
    Rename((0, 24), MXFP8, "quantization_config", lambda *_: {"moe": {"activation": "mxfp8"}}),
)  # fmt: skip


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
    """Where an engine runs. vllm: None without one; arguments are then those of the assumed one.
    gpus: as the driver knows them, none where it does not say."""

    vllm: Installed | None
    gpus: tuple[Gpu, ...] = ()
    flashinfer: bool = False

    @property
    def release(self) -> tuple[int, ...]:
        return self.vllm.release if self.vllm else Installed("vllm", ASSUMED).release

    @property
    def version(self) -> str:
        return self.vllm.version if self.vllm else ASSUMED

    @property
    def blackwell(self) -> bool:
        return any(gpu.capability[0] == 10 for gpu in self.gpus)


@dataclass(frozen=True)
class Load:
    """What an engine is asked for. in_flight: rollouts at a time at most, None where it is not
    known. mxfp4: the model's experts are quantized so. sections: replies are constrained."""

    in_flight: int | None = None
    mxfp4: bool = False
    sections: bool = False


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


def quieten(environ: MutableMapping[str, str]) -> None:
    """Keep a CPU build from warning of what a CPU lacks, unless the user has set what it says."""
    if is_cpu_build():
        for name, value in QUIET.items():
            environ.setdefault(name, value)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep a CPU build's imports from warning of each other, unless the user asks for warnings."""
    with warnings.catch_warnings():
        if is_cpu_build() and not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


def is_cpu_build() -> bool:
    vllm = installed()
    return vllm is not None and vllm.cpu


def gpu_count() -> int:
    """GPUs this process may use (CUDA_VISIBLE_DEVICES counts); starts no CUDA context."""
    import torch

    return int(torch.cuda.device_count())


def cpu_dtype(release: tuple[int, ...], cpu_info: Path = CPU_INFO) -> str:
    """The dtype in which this CPU is fast: bfloat16 where it has instructions for it, else float32,
    which without them decodes four times as fast. float32 too where this release of vLLM cannot
    constrain replies otherwise."""
    if release < BFLOAT16_CONSTRAINS:
        return "float32"
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
    variable of the recipe with a value of the user's own is left alone. Raises UserError for what
    this vLLM does not support.
    """
    if node.vllm is not None and node.vllm.cpu:
        # Chunked prefill rewinds a seeded request's torch.Generator; a CPU's cannot be rewound.
        kept = {key: value for key, value in published.items() if key not in GPU_ONLY}
        kept |= {"enable_chunked_prefill": False, "dtype": cpu_dtype(node.release), **given}
        environment: dict[str, str | None] = dict.fromkeys(variables)
        environment |= {name: value for name, value in ON_CPU.items() if name not in environ}
        return Recipe(renamed(parallel(kept, 0), node.release), environment)
    if name == "throughput":
        published = {key: value for key, value in published.items() if key in KEPT}
    if gives_graphs(given):
        published = {key: value for key, value in published.items() if key not in GRAPHS}
    args = parallel(
        {**published, **batch(published, given, load), **given}, gpu_count() if node.vllm else 0
    )
    args, deviations = without_unsafe_async(args, given, node, load)
    own = {key for key, value in variables.items() if environ.get(key) not in (None, value)}
    asked = {}
    for variable, value in variables.items():
        moved = any(r.old == variable != r.new and node.release >= r.since for r in RENAMES)
        if variable in own:
            deviations += (f"{variable} is {environ[variable]}, not {value}.",)
        elif name == "published" and not (moved and INSTEAD[variable] & given.keys()):
            asked[variable] = value
    if not (node.blackwell and load.mxfp4) and node.release >= (0, 24):
        asked.pop(MXFP8, None)
    args = renamed(args | asked, node.release)
    environment = {name: args.pop(name, None) for name in variables if name not in own}
    used = kernels(args, environment, node, load)
    if used.get("allreduce") == "not fused":  # vLLM itself only warns
        experts = "the experts have bfloat16 activations, and " if load.mxfp4 else ""
        deviations += (f"flashinfer is not installed: {experts}allreduce is not fused.",)
    return Recipe(args, environment, used, deviations)


def gives_graphs(given: Mapping[str, Any]) -> bool:
    """Whether the sizes of CUDA graphs are among the arguments given."""
    compilation = given.get(COMPILATION)
    inner = compilation.keys() if isinstance(compilation, Mapping) else set()
    return bool(GRAPHS & (given.keys() | inner))


def batch(published: Mapping[str, Any], given: Mapping[str, Any], load: Load) -> dict[str, Any]:
    """The batch that holds so many rollouts, and graphs for twice of it, as vLLM's own rule has it,
    up to the published size."""
    if load.in_flight is None:
        return {}
    sequences = given.get("max_num_seqs", min(load.in_flight, MOST_SEQUENCES))
    if not isinstance(sequences, int) or sequences < 1:
        return {}  # vLLM's to refuse
    sized: dict[str, Any] = {"max_num_seqs": sequences}
    if given.get("enable_chunked_prefill") is not False:  # else a batch must hold the window
        sized["max_num_batched_tokens"] = max(BATCHED_TOKENS, sequences)
    graphs = min(2 * sequences, LARGEST_GRAPH)
    if not gives_graphs(given) and ("cuda_graph_sizes" in published or graphs > VLLMS_GRAPH):
        sized["cuda_graph_sizes"] = [graphs]
    return sized


def parallel(args: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    """Arguments with tensor parallel over all GPUs unless they say otherwise: over those that the
    other kinds of parallelism leave."""
    sizes = [args.get(f"{kind}_parallel_size", 1) for kind in ("pipeline", "data")]
    groups = math.prod(size for size in sizes if isinstance(size, int) and size > 0)
    return {"tensor_parallel_size": max(1, gpus // groups), **args}


def without_unsafe_async(
    args: dict[str, Any], given: Mapping[str, Any], node: Node, load: Load
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Turns async_scheduling off where this vLLM loses replies with it, unless it was given
    (docs/method.md, "Deviations"), and the deviation as a sentence. Raises UserError for
    constrained replies with it."""
    deviations: tuple[str, ...] = ()
    if (loses := loses_replies(args, node)) and "async_scheduling" not in given:
        deviations = (f"async_scheduling is off: {loses}.",)
        args = args | {"async_scheduling": False}
    if load.sections and args.get("async_scheduling") and node.release < ASYNC_CONSTRAINS:
        raise UserError(
            f"vLLM {node.version} does not support --force_sections with async_scheduling: "
            "give --engine_args '{\"async_scheduling\": false}', or install a newer vLLM."
        )
    return args, deviations


def loses_replies(args: Mapping[str, Any], node: Node) -> str:
    """What this vLLM loses with such arguments, as a sentence without its end; "" for nothing."""
    if not args.get("async_scheduling") or node.release >= ASYNC_KEEPS_REPLIES:
        return ""
    return f"vLLM {node.version} loses the reply of a preempted rollout with it"


def renamed(args: Mapping[str, Any], release: tuple[int, ...]) -> dict[str, Any]:
    """Arguments, and variables among them, under the names that a version has for them."""
    values, gone = dict(flat(args)), set()
    for rename in RENAMES:
        old, new = tuple(rename.old.split(".")), tuple(rename.new.split("."))
        if release >= rename.since and old in values:
            value = rename.convert(values[old], args["tensor_parallel_size"])
            if old == new:
                values[old] = value
                continue
            gone.add(old)
            # A bare level in the place of compilation_config is vLLM's to read.
            if value is not None and new[:-1] not in values:
                values.setdefault(new, value)
    result: dict[str, Any] = {}
    for place, value in values.items():
        if place not in gone:
            inner = result
            for name in place[:-1]:
                inner = inner.setdefault(name, {})
            inner[place[-1]] = value
    return result


def flat(args: Mapping[str, Any], *outer: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every argument by its place, as RENAMES has them with dots."""
    for name, value in args.items():
        place = (*outer, name)
        if ".".join(place) in (COMPILATION, PASSES) and isinstance(value, Mapping):
            yield from flat(value, *place)
        else:
            yield place, value


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
        else:
            activations = "MXFP8" if environment.get(MXFP8) else "bfloat16"
            used["experts"] = f"flashinfer, {activations} activations"
    elif args.get("moe_backend"):
        used["experts"] = str(args["moe_backend"])
    fused = ("enable_fi_allreduce_fusion", "fuse_allreduce_rms")
    if node.vllm is not None and any(place[-1] in fused and value for place, value in flat(args)):
        used["allreduce"] = "flashinfer, fused" if node.flashinfer else "not fused"
    return used
