"""How a program that works a run ends: with one sentence and a code, and on a signal soon and with
every process it started.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from kflow.ground.terminal import brief, prepare
from kflow.ground.version import TITLE
from kflow.types import RunEnded, RunFailed, UserError

PATIENCE, DYING = 4.0, 2.0  # seconds: for an engine to close, for a killed process to be gone
INTERRUPTED, TERMINATED = 130, 143  # exit codes
RESUME = "Run the same command again to resume."
SENTENCES = {INTERRUPTED: f"Interrupted. {RESUME}", TERMINATED: f"Terminated. {RESUME}"}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with --version, whose errors are one short sentence and exit code 2."""

    def __init__(self, description: str | None, **more: Any) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **more,
        )
        self.add_argument("--version", action="version", version=TITLE)

    def error(self, message: str) -> NoReturn:
        self.exit(2, brief(f"{self.prog}: {message}; see --help.") + "\n")


class Terminated(BaseException):
    """SIGTERM arrived."""


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


def finish(action: Callable[[], object]) -> int:
    """Do what a program is for: its exit code, with a sentence where that is not 0."""
    try:
        action()
    except UserError as error:
        return fail(2, str(error))
    except RunFailed as error:
        return fail(1, f"{str(error).rstrip('.')}.")
    except RunEnded as error:
        return fail(1, f"{str(error).rstrip('.')}. {RESUME}")
    except OSError as error:
        return fail(1, f"Cannot use {error.filename or 'a file'} ({error.strerror or error}).")
    except KeyboardInterrupt:
        return fail(INTERRUPTED, SENTENCES[INTERRUPTED])
    except Terminated:
        return fail(TERMINATED, SENTENCES[TERMINATED])
    return 0


def fail(code: int, sentence: str) -> int:
    try:
        print(brief(sentence), file=sys.stderr)
    except OSError:  # a closed pipe, a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return code
