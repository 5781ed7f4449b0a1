"""The files of a results folder, read with care: a step's elements one in memory at a time, and
run.json (docs/method.md, "Output").

A file of ours holds one record a line and is read by line, however large; a file of another layout
is read whole. Either may be compressed with gzip.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from kflow.ground.files import READ, open_regular
from kflow.ground.terminal import first_line

COMPRESSED = ".gz"
LARGEST_FILE = 2 << 30  # bytes, compressed or not
TOO_LARGE = f"it holds more than {LARGEST_FILE >> 20:,} MiB"
LARGEST_LINE = 128 << 20
LARGEST_WHOLE = 256 << 20
LARGEST_MANIFEST = 64 << 20
DEEPEST = 32  # levels of a manifest

Readable = BinaryIO | gzip.GzipFile
UNREADABLE = (ValueError, RecursionError, msgspec.MsgspecError)


class Damaged(ValueError):
    """A file that cannot be read as what its name says; the text says why."""


def read_elements(path: Path) -> Iterator[bytes]:
    """The elements of a file that holds a JSON list, the summary first. Raises Damaged, OSError."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_FILE:
            raise Damaged(TOO_LARGE)
        content = gzip.GzipFile(fileobj=file) if path.suffix == COMPRESSED else file
        try:
            yield from read_list(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Damaged(f"its compressed data is damaged: {first_line(error)}") from error


def read_list(file: Readable) -> Iterator[bytes]:
    second = file.readline(LARGEST_LINE) if file.readline(3) == b"[\n" else b""
    if second.startswith(b"{") and second.endswith((b"},\n", b"}\n")):
        yield from read_lines(second, file)
        return
    file.seek(0)
    content = file.read(LARGEST_WHOLE + 1)
    if len(content) > LARGEST_WHOLE:
        raise Damaged(f"it has no record per line and more than {LARGEST_WHOLE >> 20} MiB")
    whole = parse(content)
    if not isinstance(whole, list) or len(whole) < 2:
        raise Damaged("it is not a list of a summary and records")
    for element in whole:
        yield json.dumps(element).encode()


def read_lines(line: bytes, file: Readable) -> Iterator[bytes]:
    """The elements from `line` on, up to the list's end."""
    size = len(line)
    while line.endswith(b",\n"):
        yield line[:-2]
        line = file.readline(LARGEST_LINE)
        size += len(line)
        if size > LARGEST_FILE:
            raise Damaged(TOO_LARGE)
    if not line.endswith(b"\n") or file.read(3) not in (b"]", b"]\n"):
        raise Damaged("its list is incomplete, or a line is not a record")
    yield line[:-1]


def parse(text: bytes) -> object:
    """JSON as Python has it, integers of any length. Raises Damaged."""
    try:
        # Not msgspec, which refuses a lone surrogate and NaN: others write them.
        return json.loads(text)
    except UNREADABLE as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise Damaged(f"it is not JSON ({first_line(Exception(reason))})") from error


def read_manifest(path: Path) -> dict[str, Any]:
    """run.json, as it is on disk. Raises Damaged, OSError."""
    with open_file(path) as file:
        run = parse(file.read(LARGEST_MANIFEST))
    if not isinstance(run, dict):
        raise Damaged("it is not an object")
    if is_too_deep(run):
        raise Damaged("it is nested too deeply")
    sessions = run.get("sessions")
    sound = isinstance(sessions, list) and all(isinstance(session, dict) for session in sessions)
    if not sessions or not sound or not isinstance(run.get("settings"), dict):
        raise Damaged("its settings or sessions are malformed")
    return run


def open_file(path: Path) -> BinaryIO:
    """A regular file that is no link, which could lead out of the folder. Raises OSError."""
    return open(open_regular(path, READ | os.O_NOFOLLOW), "rb")


def is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)
