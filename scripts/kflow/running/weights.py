"""What identifies the content of a model's folder, without reading all of it.

Config and tokenizer files are hashed whole. Of a large file of weights its header, its first and
last block and evenly spaced blocks between them are; two checkpoints of one training run differ in
nearly every block.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import BinaryIO

from kflow.ground.files import open_regular

WHOLE_UP_TO = 1 << 26  # bytes
BLOCK = 1 << 20  # bytes
SAMPLES, SAMPLE = 32, 1 << 16  # blocks between the first and the last, and their size in bytes
LONGEST_HEADER = 1 << 28  # bytes, of a .safetensors file
SILENT = (".md", ".png", ".jpg", ".gitattributes", ".gitignore")


def fingerprint(folder: Path) -> str:
    """One hash over the names and digests of a model folder's files, but for texts about it. Raises
    OSError for a file that cannot be read."""
    digests = {
        path.name: digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.suffix not in SILENT
    }
    text = json.dumps(digests, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def digest(path: Path) -> str:
    """The hash of a file's size and content, or of the parts named above of a large one."""
    with open(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        state = hashlib.sha256(str(size).encode())
        for start, length in parts(file, path.suffix, size):
            file.seek(start)
            while length > 0 and (block := file.read(min(length, BLOCK))):
                state.update(block)
                length -= len(block)
    return state.hexdigest()


def parts(file: BinaryIO, suffix: str, size: int) -> list[tuple[int, int]]:
    """Where to read of a file, as (start, length) in bytes."""
    if size <= WHOLE_UP_TO:
        return [(0, size)]
    header = 0
    if suffix == ".safetensors":
        header = min(8 + int.from_bytes(file.read(8), "little"), LONGEST_HEADER, size)
    first, last = header + BLOCK, size - BLOCK
    step = (last - first) // SAMPLES
    between = [(first + number * step, SAMPLE) for number in range(SAMPLES)] if step > 0 else []
    return [(0, first), *between, (last, BLOCK)]
