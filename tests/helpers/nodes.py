"""Machines for the tests: GPUs as the driver reports them, a node of eight, a model's folder."""

from __future__ import annotations

import json
from pathlib import Path

from kflow.engines.vllm_engine.recipes import Installed, Node
from kflow.ground.hardware import Gpu
from kflow.running import checks

H100, H200, B200 = (
    Gpu(name, mebibytes * 2**20, capability)
    for name, mebibytes, capability in (
        ("NVIDIA H100", 81_559, (9, 0)),
        ("NVIDIA H200", 143_771, (9, 0)),
        ("NVIDIA B200", 183_359, (10, 0)),
    )
)


def node(version: str, gpu: Gpu = H100, flashinfer: bool = True) -> Node:
    return Node(Installed("vllm", version), (gpu,) * 8, flashinfer)


def index(folder: Path, **sizes: int) -> None:
    """A model's index of shards, of which those with a size are there."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = {f"layer.{name}": f"{name}.safetensors" for name in sizes}
    content = {"metadata": {"total_size": 1000}, "weight_map": shards}
    (folder / checks.INDEX).write_text(json.dumps(content))
    for name, size in sizes.items():
        if size:
            (folder / f"{name}.safetensors").write_bytes(bytes(size))
