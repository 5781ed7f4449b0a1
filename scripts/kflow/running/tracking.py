"""Experiment trackers (--track): a process per run that logs each step whose file is written.

The process reads the results folder by itself (analysis/tracked.py), so all that a run hands on is
that there is something new: a tracker that fails, hangs or floods costs it nothing but a warning.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from kflow.ground.terminal import shortened
from kflow.types import UserError

KINDS = ("trackio", "wandb")
PROJECT = "knowledge-flow"
PROGRAM = "kflow.analysis.export.tracked"
FINISH = 30.0  # seconds for the last steps to be logged once a run has ended


def wrong(track: str) -> str:
    """What a value of --track must be, "" for one that is right."""
    kind, colon, project = track.partition(":")
    if kind not in KINDS or (colon and not project) or not track.isprintable():
        return f"must be {' or '.join(KINDS)}, or one of them with :PROJECT, not {shortened(track)}"
    return ""


def check(track: str | None) -> None:
    """Raises UserError for a tracker that is not installed."""
    kind = track.partition(":")[0] if track else ""
    if kind and find_spec(kind) is None:
        raise UserError(f"--track {kind} needs a package that is not installed: pip install {kind}")


class Tracker:
    """The process that tracks one run. warn: takes the one sentence about a tracker that failed."""

    def __init__(self, track: str, folder: Path, warn: Callable[[str], None]) -> None:
        kind, _, project = track.partition(":")
        self._warn, self._kind, self._killed = warn, kind, False
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        # In a session of its own: Ctrl-C is for the run.
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, kind, project or PROJECT, str(folder.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Say that a step's file is written. What the pipe has no room for is no loss: each look
        finds all that is new."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone or behind; the thread warns where it is gone
            os.write(self._process.stdin.fileno(), b"\n")

    def close(self) -> None:
        """Let the process log what is left, for as long as it may take."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._thread.join(FINISH)
            late = self._thread.is_alive()
        finally:
            self._killed = True
            self._process.kill()
        self._thread.join()
        if late:
            self._say(f"it was not finished after {FINISH:g} seconds")

    def _wait(self) -> None:
        """Until the process ends, which says why on its stdout where that is no good end."""
        assert self._process.stdout is not None
        reason = self._process.stdout.read(1000).decode("utf-8", "replace").strip()
        code = self._process.wait()
        if code and not self._killed:
            self._say(reason or f"it ended with code {code}")

    def _say(self, reason: str) -> None:
        self._warn(
            f"--track {self._kind} has stopped ({reason}); the run continues, and its results are "
            "complete."
        )
