"""Comparing expressions in a process of its own, which hostile ones can neither hang nor fill.

math-verify's own time limit needs signals and fails off the main thread. Here any thread may ask;
one comparison runs at a time.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from functools import cache, lru_cache
from pathlib import Path

from kflow.types import UserError

PROGRAM = Path(__file__).with_name("comparer.py")
SECONDS = 3.0  # of processor time, so that a busy machine decides as an idle one does
BYTES = 1 << 30
PATIENCE = 20  # times the limit, by the clock: for a process that is stopped or starved
START = 120.0  # seconds by the clock
PROBE = "1"


class Gone(Exception):
    """The process has ended."""


class Worker:
    """The process: started when first needed, replaced when it has died, closed at exit.

    seconds: of processor time, after which a comparison is given up. memory: bytes.
    """

    def __init__(self, seconds: float = SECONDS, memory: int = BYTES) -> None:
        self._command = [sys.executable, str(PROGRAM), str(seconds), str(memory)]
        self._patience = PATIENCE * seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._exiting = False
        self._hopeless: set[str] = set()
        self._probed: set[str] = set()

    def same(self, gold: str, other: str) -> bool | None:
        """Whether the two are the same; None where the comparison was given up.

        An expression that cannot even be compared with a simple one is given up for good: a chain
        that ends in many of them would otherwise wait for each pair. Raises UserError where the
        process cannot be started.
        """
        with self._lock:
            if gold in self._hopeless or other in self._hopeless:
                return None
            verdict = self._ask(gold, other)
            if verdict is None:
                for text in {gold, other} - self._probed:
                    self._probed.add(text)
                    if self._ask(text, PROBE) is None:
                        self._hopeless.add(text)
            return verdict

    def close(self) -> None:
        with self._lock:
            self._end()

    def _ask(self, gold: str, other: str) -> bool | None:
        for _ in range(2):
            process = self._running()
            try:
                line = exchange(process, json.dumps([gold, other]), self._patience)
                return {"same": True, "different": False}.get(line)
            except Gone:  # killed from outside, for want of memory say
                self._end()
            except TimeoutError:
                self._end()
                return None
            except BaseException:  # Ctrl-C: the reply to come is to this line, not to the next
                self._end()
                if self._exiting:
                    return None  # in a thread that the program does not wait for
                raise
            if self._exiting:
                return None
        return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # In a session of its own: Ctrl-C is for the run, and it is killed with its fork.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONHASHSEED": "0"},  # sympy's order of terms
                start_new_session=True,
            )
            atexit.register(self._exit)
            try:
                exchange(self._process, None, START)
            except (Gone, TimeoutError) as error:
                raise UserError(
                    "Cannot start the process that compares expressions: install math-verify "
                    f"as pinned in requirements.txt. ({self._end() or error})"
                ) from error
            except BaseException:
                self._end()
                raise
        return self._process

    def _exit(self) -> None:
        """End the process for good: a thread that is still comparing must not start another."""
        self._exiting = True
        self._end()

    def _end(self) -> str:
        """End the process; the last line of what it complained of before it was ready."""
        process, self._process = self._process, None
        if process is None:
            return ""
        atexit.unregister(self._exit)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        complaints = process.communicate()[1].decode("utf-8", "replace").strip()
        return complaints.rpartition("\n")[2][:300]


def exchange(process: subprocess.Popen[bytes], line: str | None, patience: float) -> str:
    """Write a line where there is one, and read the line that answers it.

    Raises Gone, or TimeoutError after `patience` seconds.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    deadline, reply = time.monotonic() + patience, b""
    try:
        if line is not None:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        while not reply.endswith(b"\n"):
            left = deadline - time.monotonic()
            poll = select.poll()  # select.select fails where a run has more than 1024 files open
            poll.register(process.stdout, select.POLLIN)
            if left <= 0 or not poll.poll(1000 * left):
                raise TimeoutError("it does not answer")
            part = os.read(process.stdout.fileno(), 4096)
            if not part:
                raise Gone("it ended")
            reply += part
    except BrokenPipeError as error:
        raise Gone("it ended") from error
    return reply.decode("utf-8", "replace").strip()


@cache
def shared() -> Worker:
    return Worker()


@lru_cache(1 << 14)
def same(gold: str, other: str) -> bool | None:
    """`Worker.same` of the program's one worker, remembered."""
    return shared().same(gold, other)
