"""The rules of the preflight: what a run asks of a machine against what the machine has, looked up
without starting CUDA or reaching a network. What vLLM and the hub's library check themselves is
left to them; what cannot be known here is said, not guessed.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kflow.ground.files import read_regular
from kflow.ground.hardware import Gpu
from kflow.ground.hub import ModelName
from kflow.ground.terminal import counted
from kflow.results.manifest import Model
from kflow.types import Unreachable, UserError

OK, NOTE, NOT_CHECKED, WRONG = "checked", "note", "not checked", "wrong"
GB, GIB = 10**9, 2**30
MAX_NUM_SEQS = 128  # vLLM's own, through the engine of this program (its source, 0.10.2 to 0.32)
# Bytes of the published models' weights, as their hub pages list the files.
PUBLISHED_WEIGHTS = {
    "openai/gpt-oss-120b": 65 * GB,
    "Qwen/Qwen3-235B-A22B-Thinking-2507": 470 * GB,
}
LARGEST_INDEX = 1 << 26  # bytes
LONGEST_NAME = 255  # bytes, of a file or folder
WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
INDEX, ONE_FILE = "model.safetensors.index.json", "model.safetensors"


class Check(NamedTuple):
    """state: one of the four above. text: one sentence, without a full stop."""

    state: str
    text: str

    @classmethod
    def of(cls, error: UserError) -> Check:
        """What is wrong, or out of reach from here."""
        state = NOT_CHECKED if isinstance(error, Unreachable) else WRONG
        return cls(state, str(error).rstrip("."))


class Weights(NamedTuple):
    """A model's files of weights. here: bytes of those that are on this machine. missing: names of
    those that its index lists and that are not. total: bytes of all, None where that is not known.
    folder: where missing ones would go."""

    here: int
    missing: tuple[str, ...]
    total: int | None
    folder: Path


class Index(msgspec.Struct):
    """What an index of weights holds: the file of each tensor, and of all files their bytes."""

    weight_map: dict[str, str] = {}
    metadata: dict[str, Any] | None = None


def size(arguments: Mapping[str, object], kind: str) -> int:
    """How many of a kind of parallelism; what is no number is the engine's to refuse."""
    value = arguments.get(f"{kind}_parallel_size", 1)
    return value if isinstance(value, int) and value > 0 else 1


def gpus_needed(arguments: Mapping[str, object]) -> int:
    return math.prod(size(arguments, kind) for kind in ("tensor", "pipeline", "data"))


def batch(arguments: Mapping[str, object]) -> int:
    """How many rollouts the engine decodes at a time."""
    given = arguments.get("max_num_seqs")
    each = given if isinstance(given, int) and given > 0 else MAX_NUM_SEQS
    return each * size(arguments, "data")


def free(path: Path) -> int:
    """Bytes that can be written at a place that need not exist yet."""
    existing = path.absolute()
    while not existing.is_dir() and existing != existing.parent:
        existing = existing.parent
    return shutil.disk_usage(existing).free


def volume(size: float) -> str:
    """`90 kB`, `17 MB`, `0.17 GB`, `470 GB`"""
    for unit, length in (("kB", 10**3), ("MB", 10**6)):
        if size < 100 * length:
            return f"{size / length:.0f} {unit}"
    return f"{size / GB:,.0f} GB" if size >= 10 * GB else f"{size / GB:.2g} GB"


def disk(needed: int, free: int, folder: object) -> Check:
    """needed, free: bytes."""
    room = f"{folder} has {volume(free)} free for about {volume(needed)} of results"
    if free >= needed:
        return Check(OK, room)
    return Check(WRONG, f"{room}: make room, or give another --results_dir")


def writable(folder: Path) -> None:
    """Raises UserError where a folder cannot be made or written; writes nothing."""
    existing = folder
    while not os.path.lexists(existing):
        existing = existing.parent
    too_long = [part for part in folder.parts if len(os.fsencode(part)) > LONGEST_NAME]
    if too_long or not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(
            f"Cannot write results to {folder}: "
            + ("a name in it is too long" if too_long else f"{existing} cannot be written to")
            + "; give another --results_dir or --output_postfix."
        )


def devices(gpus: Sequence[Gpu], arguments: Mapping[str, object]) -> Check:
    needed = gpus_needed(arguments)
    if not gpus:
        return Check(NOT_CHECKED, f"{counted(needed, 'GPU')}: no NVIDIA driver answers here")
    present = f"{counted(len(gpus), 'GPU')} ({gpus[0].name}, {gpus[0].memory / GIB:.0f} GiB)"
    if needed > len(gpus) and arguments.get("distributed_executor_backend") != "ray":
        return Check(
            WRONG,
            f"the engine asks for {needed} and this machine has {present}: lower "
            "--tensor_parallel_size",
        )
    return Check(OK, f"{present}, of which the engine takes {needed}")


def sequences(arguments: Mapping[str, object], in_flight: int) -> Check:
    most = batch(arguments)
    if in_flight <= most:
        return Check(OK, f"all {in_flight:,} rollouts fit in a batch (max_num_seqs {most:,})")
    return Check(
        NOTE,
        f"of {in_flight:,} rollouts at a time, {in_flight - most:,} wait in the queue "
        f"(max_num_seqs {most:,}): raise --max_num_seqs as far as the KV cache has room",
    )


def stored(weights: Weights, free: int, local: bool, here: bool) -> Check:
    """The files of weights. free: bytes on their disk. local: of a folder, not the hub. here:
    whether the engine could run on this machine."""
    if not weights.missing and weights.here:
        return Check(OK, f"the weights are here, {volume(weights.here)}")
    if local:
        lacking = ", ".join(weights.missing[:3]) or "every file of weights"
        return Check(WRONG, f"{weights.folder} lacks {lacking}: copy the whole model there")
    if weights.total is None:
        return Check(NOT_CHECKED, f"the weights, which are not yet in {weights.folder}")
    left = weights.total - weights.here
    room = f"{volume(left)} of weights are still to be downloaded to {weights.folder}"
    if free < left:
        lacking = f"{room}, which has {volume(free)} free: set HF_HOME to a larger disk"
        return Check(WRONG if here else NOT_CHECKED, lacking)
    return Check(NOTE, f"{room}, which has room for them")


def find_weights(asked: ModelName, model: Model | None) -> Weights:
    """Which of a model's weights are on this machine. model: as it was identified."""
    index = read_index(file_of(asked, model, INDEX))
    shards, total = set(index.weight_map.values()), (index.metadata or {}).get("total_size")
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
    if shards and not missing:
        total = here
    elif not isinstance(total, (int, float)) or not 0 < total < 1 << 60:
        total = PUBLISHED_WEIGHTS.get(asked.name)
    return Weights(here, missing, None if total is None else int(total), folder)


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


def read_index(path: Path | None) -> Index:
    """An index as far as it can be read: vLLM is the one to refuse it."""
    if path is not None:
        with suppress(OSError, ValueError, RecursionError):
            return msgspec.json.decode(read_regular(path, LARGEST_INDEX), type=Index)
    return Index()
