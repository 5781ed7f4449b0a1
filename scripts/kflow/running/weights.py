"""What identifies the content of a model's folder, without reading all of it.

Config and tokenizer files are hashed whole. Of a large file of weights its header, its first and
last block and evenly spaced blocks between them are; two checkpoints of one training run differ in
nearly every block. Digests are kept by path, size and times of change, so that a slow disk is read
once.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from kflow.ground.files import open_regular, read_regular, write_whole

WHOLE_UP_TO = 1 << 26  # bytes
BLOCK = 1 << 20  # bytes
SAMPLES, SAMPLE = 32, 1 << 16  # blocks between the first and the last, and their size in bytes
LONGEST_HEADER = 1 << 28  # bytes, of a .safetensors file
SETTLED = 2.0  # seconds; a file changed since may change again without a new time
SILENT = (".md", ".png", ".jpg", ".gitattributes", ".gitignore")


def fingerprint(folder: Path, cache: Path | None = None) -> str:
    """One hash over the names and digests of a model folder's files, but for texts about it.
    cache: the folder of kept digests. Raises OSError for a file that cannot be read."""
    kept_in = (cache or cache_folder()) / f"{short(os.path.realpath(folder))}.json"
    before, digests, now = kept(kept_in), {}, {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix in SILENT or not path.is_file():
            continue
        status = path.stat()
        seen = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        name, old = path.name, before.get(path.name)
        known = old[3] if isinstance(old, list) and len(old) == 4 and old[:3] == seen else None
        digests[name] = known if isinstance(known, str) else digest(path)
        if time.time() - max(status.st_mtime, status.st_ctime) >= SETTLED:
            now[name] = [*seen, digests[name]]
    if now != before:
        with suppress(OSError):  # it is only slower without
            kept_in.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept_in, [json.dumps(now).encode()], 0o600, sync=False)
    return short(json.dumps(digests, sort_keys=True))


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kflow" / "weights"


def kept(path: Path) -> dict[str, Any]:
    try:
        digests = json.loads(read_regular(path, 1 << 24))
    except (OSError, ValueError, RecursionError):
        return {}
    return digests if isinstance(digests, dict) else {}


def short(text: str) -> str:
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
