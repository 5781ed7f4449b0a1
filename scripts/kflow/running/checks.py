"""The rules of the preflight: what a run asks of a machine against what the machine has. What vLLM
checks itself is left to it; what cannot be known here is said, not guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kflow.ground.hardware import Gpu
from kflow.ground.hub import TRANSFER, uses_transfer
from kflow.ground.terminal import counted
from kflow.running.machine import Weights
from kflow.running.workload import GB, Workload, volume

OK, NOTE, NOT_CHECKED, WRONG = "checked", "note", "not checked", "wrong"
GIB = 2**30
MAX_NUM_SEQS = 128  # vLLM's own, through the engine of this program (its source, 0.10.2 to 0.32)
# Bytes of the published models' weights, as their hub pages list the files.
PUBLISHED_WEIGHTS = {
    "openai/gpt-oss-120b": 65 * GB,
    "Qwen/Qwen3-235B-A22B-Thinking-2507": 470 * GB,
}


class Check(NamedTuple):
    """state: one of the four above. text: one sentence, without a full stop."""

    state: str
    text: str


def size(arguments: Mapping[str, object], kind: str) -> int:
    """How many of a kind of parallelism; what is no number is the engine's to refuse."""
    value = arguments.get(f"{kind}_parallel_size", 1)
    return value if isinstance(value, int) and value > 0 else 1


def disk(load: Workload, free: int, folder: object) -> Check:
    needed = load.result_bytes
    state = OK if free >= needed else WRONG
    remedy = "" if free >= needed else ": make room, or give another --results_dir"
    return Check(
        state,
        f"{folder} has {volume(free)} free for about {volume(needed)} of results{remedy}",
    )


def devices(gpus: Sequence[Gpu], arguments: Mapping[str, object]) -> Check:
    needed = math.prod(size(arguments, kind) for kind in ("tensor", "pipeline", "data"))
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


def batch(arguments: Mapping[str, object]) -> int:
    """How many rollouts the engine decodes at a time."""
    given = arguments.get("max_num_seqs")
    each = given if isinstance(given, int) and given > 0 else MAX_NUM_SEQS
    return each * size(arguments, "data")


def sequences(arguments: Mapping[str, object], load: Workload) -> Check:
    most = batch(arguments)
    if load.in_flight <= most:
        return Check(OK, f"all {load.in_flight:,} rollouts fit in a batch (max_num_seqs {most:,})")
    return Check(
        NOTE,
        f"of {load.in_flight:,} rollouts at a time, {load.in_flight - most:,} wait in the queue "
        f"(max_num_seqs {most:,}): raise --max_num_seqs as far as the KV cache has room",
    )


def stored(weights: Weights, known: int | None, free: int, local: bool, here: bool) -> Check:
    """The files of weights. known: the bytes of a published model's. free: bytes on their disk.
    local: of a folder, not the hub. here: whether the engine could run on this machine."""
    if not weights.missing and weights.here:
        return Check(OK, f"the weights are here, {volume(weights.here)}")
    if local:
        lacking = ", ".join(weights.missing[:3]) or "every file of weights"
        return Check(WRONG, f"{weights.folder} lacks {lacking}: copy the whole model there")
    total = weights.total or known
    if total is None:
        return Check(NOT_CHECKED, f"the weights, which are not yet in {weights.folder}")
    left = total - weights.here
    room = f"{volume(left)} of weights are still to be downloaded to {weights.folder}"
    if free < left:
        lacking = f"{room}, which has {volume(free)} free: set HF_HOME to a larger disk"
        return Check(WRONG if here else NOT_CHECKED, lacking)
    return Check(NOTE, f"{room}, which has room for them")


def downloads(
    environment: Mapping[str, str], installed: Mapping[str, str | None]
) -> Iterator[Check]:
    """Whether the hub's library can download at all. installed: version by package."""
    asked = environment.get(TRANSFER, "") in ("1", "true", "True")
    needed = uses_transfer(installed.get("huggingface-hub"))
    if asked and needed and installed.get("hf_transfer") is None:
        yield Check(
            WRONG,
            f"{TRANSFER} is set but hf_transfer is not installed, so nothing can be downloaded: "
            "install it, or unset the variable",
        )
