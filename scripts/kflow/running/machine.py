"""What this machine has, looked up without starting CUDA or reaching a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kflow.ground.files import read_regular
from kflow.ground.hub import ModelName
from kflow.results.manifest import Model

LARGEST_INDEX = 1 << 26  # bytes
WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
INDEX, ONE_FILE = "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True)
class Weights:
    """A model's files of weights. here: bytes of those that are on this machine. missing: names of
    those that its index lists and that are not. total: bytes of all, None where that is not known.
    folder: where missing ones would go."""

    here: int
    missing: tuple[str, ...]
    total: int | None
    folder: Path


def free(path: Path) -> int:
    """Bytes that can be written at a place that need not exist yet."""
    existing = path.absolute()
    while not existing.is_dir() and existing != existing.parent:
        existing = existing.parent
    return shutil.disk_usage(existing).free


def weights(asked: ModelName, model: Model | None) -> Weights:
    """Which of a model's weights are on this machine. model: as it was identified."""
    shards, total = read_index(file_of(asked, model, INDEX))
    if asked.is_folder:
        folder = Path(asked.name)
        shards = shards or {path.name for path in folder.iterdir() if path.suffix in WEIGHTS}
    else:
        from huggingface_hub import constants

        folder = Path(constants.HF_HUB_CACHE)
        if not shards and file_of(asked, model, ONE_FILE):
            shards = {ONE_FILE}
    paths = {shard: file_of(asked, model, shard) for shard in sorted(shards)}
    here = sum(path.stat().st_size for path in paths.values() if path)
    missing = tuple(shard for shard, path in paths.items() if path is None)
    return Weights(here, missing, here if shards and not missing else total, folder)


def file_of(asked: ModelName, model: Model | None, file: str) -> Path | None:
    """A file of a model where it is on this machine."""
    if asked.is_folder:
        path = Path(asked.name, file)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    try:
        revision = model.revision if model else asked.revision
        cached = try_to_load_from_cache(asked.name, file, revision=revision)
    except ValueError:  # no name that a hub could have
        return None
    return Path(cached) if isinstance(cached, str) else None


def read_index(index: Path | None) -> tuple[set[str], int | None]:
    """The files that an index of weights lists and their bytes, as far as it can be read."""
    content: Any = None
    if index is not None:
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads(read_regular(index, LARGEST_INDEX))
    content = content if isinstance(content, Mapping) else {}
    shards, metadata = content.get("weight_map"), content.get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    known = isinstance(size, (int, float)) and 0 < size < 1 << 60
    names = {str(name) for name in shards.values()} if isinstance(shards, dict) else set()
    return names, int(size) if known else None  # type: ignore[arg-type]
