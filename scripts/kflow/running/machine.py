"""What this machine has, looked up without starting CUDA or reaching a network."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kflow.ground.files import read_regular
from kflow.ground.hardware import Gpu
from kflow.ground.hub import split
from kflow.results.manifest import Model

LARGEST_CONFIG = 1 << 26  # bytes
WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Weights:
    """A model's files of weights. here: bytes of those that are on this machine. missing: names of
    those that its index lists and that are not. total: bytes of all, None where that is not known.
    folder: where missing ones would go."""

    here: int
    missing: tuple[str, ...]
    total: int | None
    folder: Path


def visible(gpus: Sequence[Gpu], named: str | None) -> tuple[Gpu, ...]:
    """The GPUs that this process may use. named: CUDA_VISIBLE_DEVICES, which may name them by place
    or by identifiers that the driver's list lacks; those are counted."""
    if named is None:
        return tuple(gpus)
    names = [name.strip() for name in named.split(",") if name.strip()]
    if all(name.isdecimal() for name in names):
        return tuple(gpu for place, gpu in enumerate(gpus) if str(place) in names)
    return tuple(gpus[: len(names)])


def free(path: Path) -> int:
    """Bytes that can be written at a place that need not exist yet."""
    existing = path.absolute()
    while not existing.is_dir() and existing != existing.parent:
        existing = existing.parent
    return shutil.disk_usage(existing).free


def parsed(path: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(read_regular(path, LARGEST_CONFIG))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def file_of(model_name: str, model: Model | None, file: str) -> Path | None:
    """A file of a model where it is on this machine."""
    name, revision = split(model_name)
    if os.path.isdir(name):
        path = Path(name, file)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(name, file, revision=model.revision if model else revision)
    except ValueError:  # no name that a hub could have
        return None
    return Path(cached) if isinstance(cached, str) else None


def weights(model_name: str, model: Model | None) -> Weights:
    """Which of a model's weights are on this machine."""
    name, _ = split(model_name)
    local = os.path.isdir(name)
    index = file_of(model_name, model, INDEX)
    listed = parsed(index) if index else None
    shards, total = shards_in(listed), size_in(listed)
    if not shards and local:
        shards = {path.name for path in Path(name).iterdir() if path.suffix in WEIGHTS}
        total = None
    if not shards and not local and file_of(model_name, model, "model.safetensors"):
        shards = {"model.safetensors"}
    paths = {shard: file_of(model_name, model, shard) for shard in sorted(shards)}
    here = sum(path.stat().st_size for path in paths.values() if path)
    missing = tuple(shard for shard, path in paths.items() if path is None)
    if shards and not missing:
        total = here
    return Weights(here, missing, total, Path(name) if local else hub_cache())


def shards_in(index: Mapping[str, Any] | None) -> set[str]:
    shards = (index or {}).get("weight_map")
    return {str(each) for each in shards.values()} if isinstance(shards, dict) else set()


def size_in(index: Mapping[str, Any] | None) -> int | None:
    metadata = (index or {}).get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    return int(size) if isinstance(size, (int, float)) and 0 < size < 1 << 60 else None


def hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
