"""The GPUs of this machine, asked of the driver's own tool: no CUDA context is started here."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

COLUMNS = "name,memory.total,compute_cap"
MIB = 2**20


class Gpu(NamedTuple):
    """memory: bytes. capability: (9, 0) for Hopper, (10, 0) for Blackwell."""

    name: str
    memory: int
    capability: tuple[int, int]


def gpus() -> tuple[Gpu, ...]:
    """All of the machine, those too that CUDA_VISIBLE_DEVICES hides; none where no driver says."""
    command = ["nvidia-smi", f"--query-gpu={COLUMNS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return tuple(map(gpu, done.stdout.splitlines())) if done.returncode == 0 else ()
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ()


def gpu(line: str) -> Gpu:
    name, memory, capability = (cell.strip() for cell in line.rsplit(",", 2))
    major, minor = map(int, capability.split("."))
    return Gpu(name, int(memory) * MIB, (major, minor))
