"""A results folder: every file in it appears whole or not at all.

run.json says what was run. A finished rollout is one fsynced line of `rollouts_<step>.jsonl`;
when a step's last rollout is in, `predictions_<step>.json` takes that file's place (METHOD.md,
"Output"). Nothing else is saved: a chain's state is the fold of its replies.
"""

from __future__ import annotations

import errno
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import orjson

from .metrics import summary
from .types import Key, Record, UserError

INDENTED = orjson.OPT_INDENT_2
LONGEST_NAME = 255  # bytes, of a file or folder


def dump(value: object, indented: bool = False) -> bytes:
    """JSON as UTF-8 and a line's end. A lone surrogate, which UTF-8 cannot hold, becomes a question
    mark. orjson writes a long reply ten times as fast as json, but no integer over 64 bits."""
    try:
        return orjson.dumps(value, option=INDENTED if indented else None) + b"\n"
    except TypeError:
        separators, indent = ((",", ": "), 2) if indented else ((",", ":"), None)
        text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
        return text.encode("utf-8", "replace") + b"\n"


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Put a file in place in one atomic move, on disk before this returns."""
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """The files of one run: `problems` are the ids in data-set order, shared by all its seeds.

    With several seeds, those of chain k are in the folder `seed_<k>`.
    """

    def __init__(self, folder: Path, problems: Sequence[str], num_seeds: int = 1) -> None:
        self.folder = folder
        several = [folder / f"seed_{seed}" for seed in range(num_seeds)]
        self._folders = several if num_seeds > 1 else [folder]
        self._problems = list(problems)
        self._done: dict[tuple[int, int], dict[str, Line]] = defaultdict(dict)
        self._lock_descriptor: int | None = None

    def check(self, settings: Record | None) -> None:
        """Before the engine is started: may a run with these settings write here, or continue
        what is here? None asks for a new start, whatever is here.

        Raises UserError naming every setting that differs from the run in the folder.
        """
        self._check_writable()
        if settings is None:
            if self.folder.exists():
                self._lock()
            return
        if not self._run_file.exists():
            if self.folder.is_dir() and any(self.folder.rglob("predictions_*.json")):
                raise UserError(
                    f"{self.folder} holds results without a run.json: move them away, or give "
                    "--output_postfix a new name."
                )
            return
        self._lock()
        before = self._read_run().get("settings")
        differing = differences(before, plain(settings))
        if differing:
            raise UserError(
                f"{self.folder} holds a run with other settings ({'; '.join(differing)}): give "
                "--output_postfix a new name, or --overwrite to move it aside."
            )

    def _check_writable(self) -> None:
        """Raises UserError where the folder cannot be made or written; writes nothing."""
        existing = self.folder
        while not os.path.exists(existing):
            existing = existing.parent
        too_long = [part for part in self.folder.parts if len(os.fsencode(part)) > LONGEST_NAME]
        if too_long or not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(
                f"Cannot write results to {self.folder}: "
                + ("a name in it is too long" if too_long else f"{existing} cannot be written to")
                + "; give another --results_dir or --output_postfix."
            )

    def begin(self, settings: Record, session: Record) -> None:
        """Make the folder, claim it, and note this start of the program in run.json."""
        unseen = self._lock_descriptor is None
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._lock()
        if unseen and self._run_file.exists():
            raise UserError(
                f"Another run began in {self.folder} while this one was starting: start it again, "
                "or give --output_postfix a new name."
            )
        run = self._read_run() if self._run_file.exists() else {"settings": settings}
        sessions = [*run.get("sessions", []), session]  # type: ignore[misc]
        write_whole(self._run_file, dump({**run, "sessions": sessions}, indented=True))

    def move_aside(self) -> None:
        """Put what is in the folder under the next free name beside it."""
        if not self.folder.exists():
            return
        self._lock()
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.old-{number}")).exists():
            number += 1
        self.folder.rename(aside)
        self.close()

    @property
    def _run_file(self) -> Path:
        return self.folder / "run.json"

    def _read_run(self) -> Record:
        try:
            run = json.loads(self._run_file.read_bytes())
        except ValueError as error:
            raise UserError(f"{self._run_file} is damaged ({error}): move it away.") from error
        return run if isinstance(run, dict) else {}

    def _lock(self) -> None:
        """Hold the folder for this process; the system lets go of it however the process ends."""
        if self._lock_descriptor is not None:
            return
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UserError(
                f"Another process is working on {self.folder}: wait for it, or give "
                "--output_postfix a new name."
            ) from error
        self._lock_descriptor = descriptor

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def predictions(self, seed: int, step: int) -> Path:
        return self._folders[seed] / f"predictions_{step}.json"

    def journal(self, seed: int, step: int) -> Path:
        return self._folders[seed] / f"rollouts_{step}.jsonl"

    def read(self, seed: int, step: int) -> list[Record]:
        """The records of one step that are on disk, in no particular order.

        A last line torn by a crash is cut off the file, and a step whose last rollout was in when
        the run ended is published. Raises UserError for a damaged file.
        """
        path = self.predictions(seed, step)
        published = path.exists()
        if not published:
            path = self.journal(seed, step)
        try:
            if published:
                records: list[Record] = json.loads(path.read_bytes())[1:]
                if {record["id"] for record in records} != set(self._problems):
                    raise ValueError("it does not hold every problem")
                self.journal(seed, step).unlink(missing_ok=True)
                for record in records:
                    check_record(record)
            else:
                lines = read_journal(path) if path.exists() else []
                self._done[seed, step] = {str(line.record["id"]): line for line in lines}
                records = [line.record for line in self._done[seed, step].values()]
                if self._done[seed, step].keys() - set(self._problems):
                    raise ValueError("it holds other problems")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(
                f"{path} is damaged ({error}): move it and the files of all later steps away to "
                "have them worked again."
            ) from error
        if not published:
            self._done[seed, step] = {i: line.short() for i, line in self._done[seed, step].items()}
            if len(records) == len(self._problems):
                self._publish(seed, step)
        return records

    def append(self, key: Key, record: Record) -> Record | None:
        """One line, on disk before this returns. A step's last one publishes the step's file and
        returns its summary."""
        path = self.journal(key.seed, key.step)
        line = dump(record)
        done = self._done[key.seed, key.step]
        with open(path, "ab", buffering=0) as file:
            before = file.tell()
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
        if not done:
            sync_folder(path.parent)
        done[key.problem] = Line(before, len(line) - 1, record).short()
        if len(done) < len(self._problems):
            return None
        return self._publish(key.seed, key.step)

    def _publish(self, seed: int, step: int) -> Record:
        """Put a complete step's lines, in data-set order, into its predictions file."""
        journal, done = self.journal(seed, step), self._done.pop((seed, step))
        lines = [done[problem] for problem in self._problems]
        first, content = summary([line.record for line in lines]), memoryview(journal.read_bytes())
        rows = (part for line in lines for part in (b",\n", content[line.start :][: line.length]))
        write_whole(self.predictions(seed, step), b"[\n", dump(first).rstrip(), *rows, b"\n]\n")
        journal.unlink()
        return first


@dataclass(frozen=True)
class Line:
    """A record and where it stands in its journal, in bytes, without the line's end."""

    start: int
    length: int
    record: Record

    def short(self) -> Line:
        """Without the texts, which a step's summary does not need, so that memory stays flat."""
        kept = self.record.keys() - {"question", "pred_solution"}
        return replace(self, record={name: self.record[name] for name in kept})


def read_journal(path: Path) -> list[Line]:
    """The whole lines of a journal; what is left of a torn last one is cut off the file."""
    content = path.read_bytes()
    whole, _, torn = content.rpartition(b"\n")
    if torn:
        os.truncate(path, len(content) - len(torn))
    lines, start = [], 0
    for text in whole.split(b"\n"):
        if text:
            record = json.loads(text)
            check_record(record)
            lines.append(Line(start, len(text), record))
        start += len(text) + 1
    return lines


def check_record(record: Record) -> None:
    """Raises ValueError or KeyError for a record that a run cannot be continued from."""
    text, start = record["pred_solution"], record["reply_start"]
    if not isinstance(text, str) or not isinstance(start, int) or not 0 <= start <= len(text):
        raise ValueError("a record's pred_solution and reply_start do not go together")
    if not isinstance(record["failure"], (str, type(None))) or "update" not in record:
        raise ValueError("a record lacks its failure or update")


def plain(value: object) -> object:
    """A value as it comes back from JSON."""
    return json.loads(dump(value))


def differences(before: object, now: object, name: str = "") -> list[str]:
    """What differs between two settings, each as `name: before -> now`."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted(before.keys() | now.keys())
            for line in differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{name}: {json.dumps(before)} -> {json.dumps(now)}"]
