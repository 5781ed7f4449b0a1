"""Reading and writing files in folders that others can write to.

A file is written under a random name that must not exist and is then moved into place: it appears
whole or not at all, and a link planted under a guessed name is never followed.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # without O_NONBLOCK, opening a FIFO waits
SUFFIX = ".part"


def write_whole(
    path: Path, parts: Iterable[bytes | memoryview], mode: int = 0o666, sync: bool = True
) -> None:
    """Put a file in place in one atomic move, on disk before this returns. mode: permissions
    before the umask."""
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}{SUFFIX}")
    try:
        with open(os.open(temporary, FRESH, mode), "wb") as file:
            file.writelines(parts)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path, flags: int = READ, follow: bool = True) -> int:
    """A descriptor of a regular file. Raises OSError for anything else: reading a pipe or a device
    may never end. follow: whether the file may be reached through a link."""
    descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return descriptor


def read_regular(path: Path, most: int | None = None, follow: bool = True) -> bytes:
    """The content of a regular file. Raises OSError for anything else, and for one of more than
    `most` bytes."""
    with open(open_regular(path, follow=follow), "rb") as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise OSError(f"{path} is larger than {most} bytes")
        return file.read()
