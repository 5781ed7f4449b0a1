"""Comparing expressions in a process of its own, which hostile ones can neither hang nor fill.

math-verify's own time limit needs signals and fails off the main thread. Here any thread may ask;
one comparison runs at a time. The process is a child of the standard library's fork server, which
has `comparer` loaded: one that was killed is replaced in milliseconds.
"""

from __future__ import annotations

import atexit
import multiprocessing as mp
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib import import_module
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

from kflow.types import UserError

SECONDS = 3.0  # of processor time, so that a busy machine decides as an idle one does
BYTES = 1 << 30
PATIENCE = 20  # times the limit, by the clock: for a process that is stopped or starved
START = 120.0  # seconds by the clock
LIFE = 1000  # comparisons of one process, whose caches grow
PROBE = "1"
COMPARER = "kflow.answers.comparer"  # the module whose `same` decides
# How a process ends that was killed from outside; 255 where the fork server was and cannot tell.
FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, 255)


class Worker:
    """The process: started when first needed, replaced when it has died, ended with the program.

    seconds: of processor time, after which a comparison is given up. memory: bytes.
    """

    def __init__(self, seconds: float = SECONDS, memory: int = BYTES) -> None:
        self._limits = (seconds, memory)
        self._process: mp.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._exiting = False
        self._hopeless: set[str] = set()
        self._probed: set[str] = set()

    def same(self, gold: str, other: str) -> bool | None:
        """Whether the two are the same; None where that was given up or could not be decided.

        An expression that cannot even be compared with a simple one is given up for good: a chain
        that ends in many of them would otherwise wait for each pair. Raises UserError where the
        process cannot be started.
        """
        with self._lock:
            if gold in self._hopeless or other in self._hopeless:
                return None
            found, died = self._ask(gold, other)
            if died:
                for text in {gold, other} - self._probed:
                    self._probed.add(text)
                    if self._ask(text, PROBE)[1]:
                        self._hopeless.add(text)
            return found

    def close(self) -> None:
        with self._lock:
            self._end()

    def _ask(self, gold: str, other: str) -> tuple[bool | None, bool]:
        """Whether they are the same, as `same` says it, and whether the process died of it."""
        for _ in range(2):
            connection = self._connection or self._start()
            try:
                connection.send((gold, other))
                if not connection.poll(PATIENCE * self._limits[0]):
                    self._end()
                    break
                found, last = connection.recv()
            except (EOFError, OSError):
                if self._exiting:  # in a thread that the program does not wait for
                    return None, False
                if self._end(kill=False) not in FROM_OUTSIDE:
                    break
            except BaseException:  # Ctrl-C: the reply to come is to this pair, not to the next
                self._end()
                raise
            else:
                if last:
                    self._end()
                return found, False
        return None, True

    def _start(self) -> Connection:
        """Start the process and wait until it is ready."""
        context = mp.get_context("forkserver")
        self._connection, theirs = context.Pipe()
        atexit.register(self._exit)
        try:
            with nothing_inherited():
                context.set_forkserver_preload([COMPARER])
                process = context.Process(
                    target=serve, args=(theirs, COMPARER, *self._limits), daemon=True
                )
                process.start()
            self._process = process
            theirs.close()
            error = self._connection.recv() if self._connection.poll(START) else TimeoutError()
            if error is not None:
                raise error
        except (ImportError, EOFError, OSError, AssertionError) as error:
            self._end()
            remedy = "run this in a process that may start others"
            if isinstance(error, ImportError):
                remedy = "install math-verify as pinned in requirements.txt"
            raise UserError(
                f"Cannot start the process that compares expressions: {remedy}. "
                f"({type(error).__name__}: {error})"[:500]
            ) from None
        except BaseException:
            self._end()
            raise
        return self._connection

    def _exit(self) -> None:
        """End the process for good: a thread that is still comparing must not start another."""
        self._exiting = True
        self._end()

    def _end(self, kill: bool = True) -> int | None:
        """End the process, or wait for the end of one that is ending; its exit code."""
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        atexit.unregister(self._exit)
        if connection is not None:
            connection.close()
        if process is None:
            return None
        if kill:
            process.kill()
        process.join(START)
        return process.exitcode


@contextmanager
def nothing_inherited() -> Iterator[None]:
    """Let a process that is started meanwhile find nothing of the program but this package.

    The fork server's children import the program's main module, which would run a script that is
    not guarded by `if __name__ == "__main__"` again. Looking at the start method fixes it for good.
    And sympy orders terms by their hashes.
    """
    main, method = sys.modules["__main__"], mp.get_start_method(allow_none=True)
    package = str(Path(__file__).parents[2])
    own = {
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
    }
    before = {name: os.environ.get(name) for name in own}
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ.update(own)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if method is None:
            mp.set_start_method(None, force=True)  # type: ignore[arg-type]


def serve(connection: Connection, comparer: str, seconds: float, memory: int) -> None:
    """The process: ready once it has sent None, it answers each pair (gold, other) with whether
    they are the same and whether this was its last, until the program is gone.

    The kernel kills it after `seconds` of processor time on one pair, whatever it is doing and
    whether or not anyone still waits for it.
    """
    os.setsid()  # Ctrl-C is for the program
    try:
        same = import_module(comparer).same
    except Exception as error:
        connection.send(ImportError(str(error)))
        return
    statm = Path("/proc/self/statm")
    if statm.exists():  # else no limit would be kept
        loaded = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (loaded + memory, loaded + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    connection.send(None)
    try:
        for served in count(1):
            pair = connection.recv()
            signal.setitimer(signal.ITIMER_PROF, seconds)  # nothing handles it: it kills
            found = same(*pair)
            signal.setitimer(signal.ITIMER_PROF, 0)
            held = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            connection.send((found, served == LIFE or held > memory // 4))
    except (EOFError, OSError):
        pass


@cache
def shared() -> Worker:
    return Worker()


os.register_at_fork(after_in_child=shared.cache_clear)


@lru_cache(1 << 14)
def same(gold: str, other: str) -> bool | None:
    """`Worker.same` of the program's one worker, remembered."""
    return shared().same(gold, other)
