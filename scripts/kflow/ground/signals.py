"""How a program that works a run ends on a signal: soon, and with every process it started."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from kflow.ground.program import INTERRUPTED, SENTENCES, TERMINATED, Terminated, finish
from kflow.ground.streams import prepare

PATIENCE, DYING = 4.0, 2.0  # seconds: for an engine to close, for a killed process to be gone


def install() -> None:
    prepare()
    signal.signal(signal.SIGTERM, on_sigterm)
    signal.signal(signal.SIGINT, on_sigint)


def on_sigterm(signal_number: int, frame: object) -> None:
    """End the run; what is finished is on disk, so an engine slow to close is not waited for."""
    patience = threading.Timer(PATIENCE, end_at_once, [TERMINATED])
    patience.daemon = True
    patience.start()
    raise Terminated


def on_sigint(signal_number: int, frame: object) -> None:
    """The first Ctrl-C ends the run in good order, a second one at once."""
    signal.signal(signal.SIGINT, lambda *_: end_at_once(INTERRUPTED))
    raise KeyboardInterrupt


def end_at_once(code: int) -> None:
    """End the program at once. An engine's processes go first: they would keep the GPUs."""
    processes = descendants(os.getpid())
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    until = time.monotonic() + DYING
    while any(map(is_running, processes)) and time.monotonic() < until:
        time.sleep(0.01)
    with suppress(OSError):
        os.write(2, f"{SENTENCES[code]}\n".encode())
    os._exit(code)


def is_running(process: int) -> bool:
    """Whether a process is there, and not only waits for its parent to learn of its end."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False
    return after_name.split()[0] not in ("Z", "X")


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


def end(action: Callable[[], object]) -> NoReturn:
    """Do what a program is for and end it with one of the codes above, on a signal soon."""
    install()
    sys.exit(finish(action))
