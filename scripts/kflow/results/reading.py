"""The records of a results folder, one in memory at a time (docs/method.md, "Output").

A file of ours holds one record a line and is read by line, however large; a file of another layout
is read whole. What belongs to the published code or an earlier format is published.py's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from kflow.ground.files import READ, open_regular
from kflow.ground.terminal import first_line
from kflow.results import published, rollout
from kflow.results.rollout import Outcome, Rollout

LARGEST_FILE = 2 << 30  # bytes
LARGEST_LINE = 128 << 20
LARGEST_WHOLE = 256 << 20
LARGEST_MANIFEST = 16 << 20
MOST_RECORDS = 100_000
DEEPEST = 32  # levels of a manifest

UNREADABLE = (ValueError, RecursionError, msgspec.MsgspecError)


class Damaged(Exception):
    """A file that cannot be read as a step's records; its text says why."""


class Line(msgspec.Struct):
    """What a line of a journal holds."""

    rollout: msgspec.Raw = msgspec.Raw()
    outcome: Outcome | None = None


def records(path: Path) -> Iterator[Rollout]:
    """The records of a step's file, in its order, texts and all. Raises Damaged, OSError."""
    for number, element in enumerate(elements(path), -1):
        if number == -1:
            summary = parsed(element)
            if not isinstance(summary, dict) or "accuracy" not in summary:
                raise Damaged("its first element is not a summary")
        elif number >= MOST_RECORDS:
            raise Damaged(f"it holds more than {MOST_RECORDS:,} records")
        else:
            try:
                yield record(element, number)
            except UNREADABLE as error:
                raise Damaged(f"record {number}: {first_line(error)}") from error


def record(element: bytes | object, number: int) -> Rollout:
    """Raises ValueError or one of its kind for what is no record."""
    if isinstance(element, bytes):
        if b'"digest"' in element:
            return rollout.from_json(element)
        element = parsed(element)
    if isinstance(element, dict) and "digest" in element:
        return rollout.from_json(json.dumps(element).encode())
    return published.rollout(element, number)


def elements(path: Path) -> Iterator[bytes | object]:
    """The elements of a file that holds a JSON list: as bytes where each has a line of its own."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST_FILE:
            raise Damaged(f"it is larger than {LARGEST_FILE >> 20:,} MiB")
        second = file.readline(LARGEST_LINE) if file.readline(3) == b"[\n" else b""
        if second.startswith(b"{") and second.endswith((b"},\n", b"}\n")):
            yield from lines(second, file)
            return
        if size > LARGEST_WHOLE:
            mebibytes = f"{LARGEST_WHOLE >> 20:,} MiB"
            raise Damaged(f"it does not hold a record per line and is larger than {mebibytes}")
        file.seek(0)
        whole = parsed(file.read())
    if not isinstance(whole, list) or len(whole) < 2:
        raise Damaged("it is not a list of a summary and records")
    yield from whole


def lines(line: bytes, file: BinaryIO) -> Iterator[bytes]:
    """The elements from `line` on, up to the list's end."""
    while line.endswith(b",\n"):
        yield line[:-2]
        line = file.readline(LARGEST_LINE)
    if not line.endswith(b"\n") or file.read(3) not in (b"]", b"]\n"):
        raise Damaged("its list is incomplete, or a line is not a record")
    yield line[:-1]


def parsed(text: bytes | object) -> object:
    """JSON as Python has it, integers of any length. Raises Damaged."""
    if not isinstance(text, bytes):
        return text
    try:
        # Not msgspec, which refuses a lone surrogate and NaN: others write them.
        return json.loads(text)
    except UNREADABLE as error:
        raise Damaged(f"it is not JSON ({first_line(error)})") from error


def journal(path: Path) -> Iterator[Rollout]:
    """The rollouts of an incomplete step, in the order they came, each slot by itself; where a
    step of one slot is folded, with its outcome. A torn last line is left out. Raises Damaged,
    OSError."""
    outcomes = {
        line.outcome.id: line.outcome for line in journal_lines(path) if line.outcome is not None
    }
    for line in journal_lines(path):
        if not memoryview(line.rollout).nbytes:
            continue
        try:
            record = rollout.from_json(memoryview(line.rollout))
        except UNREADABLE as error:
            raise Damaged(first_line(error)) from error
        outcome = outcomes.get(record.id)
        single = outcome is not None and len(outcome.predicted) == 1
        yield rollout.merged((record,), outcome) if single and outcome else record


def journal_lines(path: Path) -> Iterator[Line]:
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_FILE:
            raise Damaged(f"it is larger than {LARGEST_FILE >> 20:,} MiB")
        while (line := file.readline(LARGEST_LINE)).endswith(b"\n"):
            try:
                yield msgspec.json.decode(line, type=Line)
            except UNREADABLE as error:
                raise Damaged(f"it is not a journal ({first_line(error)})") from error


def manifest(path: Path) -> dict[str, Any]:
    """run.json, an earlier format's in today's shape. Raises Damaged, OSError."""
    with opened(path) as file:
        run = parsed(file.read(LARGEST_MANIFEST))
    if not isinstance(run, dict):
        raise Damaged("it is not an object")
    if too_deep(run):
        raise Damaged("it is nested too deeply")
    return published.manifest(run)


def opened(path: Path) -> BinaryIO:
    """A regular file that is no link, which could lead out of the folder. Raises OSError."""
    return open(open_regular(path, READ | os.O_NOFOLLOW), "rb")


def too_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)
