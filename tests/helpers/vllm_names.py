"""The names that a recipe uses, as the sources of a vLLM have them; tests/data/vllm_names.json is
what this found in each version.

    python tests/helpers/vllm_names.py VERSION=FOLDER [...]    # folders that hold vllm/
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

from kflow.engines.vllm_engine.arguments import ENTRY

# Of each kind, those that a recipe of some version uses.
USED = {
    "EngineArgs": (
        "dtype", "gpu_memory_utilization", "async_scheduling", "enable_prefix_caching",
        "enable_chunked_prefill", "cuda_graph_sizes", "compilation_config", "max_num_seqs",
        "max_num_batched_tokens", "max_model_len", "tensor_parallel_size", "data_parallel_size",
        "attention_backend", "moe_backend", "quantization_config",
    ),
    "CompilationConfig": (
        "pass_config", "custom_ops", "cudagraph_mode", "max_cudagraph_capture_size",
        "cudagraph_capture_sizes",
    ),
    "PassConfig": (
        "enable_fi_allreduce_fusion", "enable_noop", "fuse_allreduce_rms", "eliminate_noops",
        "fi_allreduce_fusion_max_size_mb",
    ),
    "variables": (
        "VLLM_ATTENTION_BACKEND", "VLLM_FLASHINFER_ALLREDUCE_FUSION_THRESHOLDS_MB",
        "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8",
    ),
}  # fmt: skip
FILES = {
    "EngineArgs": "engine/arg_utils.py",
    "CompilationConfig": "config/compilation.py",
    "PassConfig": "config/compilation.py",
}


def fields_of(package: Path, name: str) -> set[str]:
    """The annotated names in the body of a class."""
    tree = ast.parse((package / FILES[name]).read_text())
    (definition,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name
    )
    statements = (node for node in definition.body if isinstance(node, ast.AnnAssign))
    return {node.target.id for node in statements if isinstance(node.target, ast.Name)}


def names(package: Path) -> dict[str, list[str]]:
    """package: the folder vllm/."""
    fields = {kind: fields_of(package, kind) for kind in FILES}
    fields["variables"] = set(ENTRY.findall((package / "envs.py").read_text()))
    return {kind: [name for name in USED[kind] if name in fields[kind]] for kind in USED}


if __name__ == "__main__":
    pairs = (word.split("=", 1) for word in sys.argv[1:])
    table = {version: names(Path(folder) / "vllm") for version, folder in pairs}
    print(json.dumps(table, indent=1))
