"""How a program that works a run ends on a signal: soon, and with every process it started."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

PATIENCE = 4.0  # seconds
INTERRUPTED, TERMINATED = 130, 143  # exit codes


class Terminated(BaseException):
    """SIGTERM arrived."""


def install() -> None:
    signal.signal(signal.SIGTERM, on_sigterm)
    signal.signal(signal.SIGINT, on_sigint)


def on_sigterm(signal_number: int, frame: object) -> None:
    """End the run; what is finished is on disk, so an engine slow to close is not waited for."""
    patience = threading.Timer(PATIENCE, end, [TERMINATED])
    patience.daemon = True
    patience.start()
    raise Terminated


def on_sigint(signal_number: int, frame: object) -> None:
    """The first Ctrl-C ends the run in good order, a second one at once."""
    signal.signal(signal.SIGINT, lambda *_: end(INTERRUPTED))
    raise KeyboardInterrupt


def end(code: int) -> None:
    """End the program at once. An engine's processes go first: they would keep the GPUs."""
    for process in descendants(os.getpid()):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os._exit(code)


def descendants(process: int) -> list[int]:
    """The processes that a process started, theirs included; none where /proc does not say."""
    processes: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = list(map(int, path.read_text().split()))
        except OSError:
            continue
        for child in children:
            processes += [child, *descendants(child)]
    return processes
