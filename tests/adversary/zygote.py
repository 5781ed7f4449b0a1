"""The fork server: an interpreter with everything imported, forked once for each command line.

    python zygote.py SOCKET_FD        # started by forks.py

A job is one line of JSON on a connection, on which an `Ended` of forks.py comes back. The child
gets its own arguments, folder, environment, files for stdout and stderr, and process group, and
runs the real script as `__main__`; with "real" it starts a new interpreter instead.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SLOW_TO_IMPORT = ("aiohttp", "pyarrow.parquet")
WARM_UP = "vllm_kflow_oss"
LIMIT = 90  # seconds until SIGALRM ends a child; the slowest takes a tenth on idle cores
ROOM = 3 << 29  # bytes a child may map beyond what it starts with, so that a defect is no outage


def warm_up() -> None:
    """Import what the scripts import, and keep the vocabulary that each start would load again."""
    sys.path.insert(0, str(SCRIPTS))
    harmony = importlib.import_module("openai_harmony")
    harmony.load_harmony_encoding = functools.cache(harmony.load_harmony_encoding)
    harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
    importlib.metadata.version = functools.cache(importlib.metadata.version)
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    sys.argv = [WARM_UP, "--help"]
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), suppress(SystemExit):
        runpy.run_path(str(SCRIPTS / f"{WARM_UP}.py"), run_name="__main__")
    shorten()
    assert threading.active_count() == 1, "a thread would not live on in the children"
    gc.collect()
    gc.freeze()


def shorten() -> None:
    """Make the waits that no flag sets short, in the children that are no new interpreters."""
    openai = "kflow.engines.openai_engine"
    importlib.import_module(f"{openai}.retry").ACCOUNT_PATIENCE = 2.0
    servers = importlib.import_module(f"{openai}.servers")
    servers.TRIAL, servers.FIRST_WORDS = 2.0, 0.5


def child(job: dict[str, Any]) -> None:
    """Become the command; does not return."""
    os.setsid()
    os.chdir(job["cwd"])
    signal.alarm(LIMIT)
    for number, (path, flags) in enumerate(
        [
            (os.devnull, os.O_RDONLY),
            (job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (job["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ]
    ):
        descriptor = os.open(path, flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM, mapped + ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    script = str(SCRIPTS / f"{job['script']}.py")
    if job["real"]:
        os.execve(sys.executable, [sys.executable, script, *job["argv"]], job["env"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv = [script, *job["argv"]]
    code: object = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter ends: threads first
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def serve(listener: socket.socket) -> None:
    """Fork for each job, and report each child's end on its connection."""
    running: dict[int, tuple[int, socket.socket]] = {}  # by pidfd: the child, and who waits for it
    while True:
        ready, _, _ = select.select([listener.fileno(), *running], [], [])
        for descriptor in ready:
            if descriptor in running:
                pid, connection = running.pop(descriptor)
                os.close(descriptor)
                _, status, used = os.wait4(pid, 0)
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # what it left behind
                ended = {"code": os.waitstatus_to_exitcode(status), "peak": used.ru_maxrss}
                connection.sendall(json.dumps(ended).encode() + b"\n")
                connection.close()
            else:
                connection, _ = listener.accept()
                job = json.loads(connection.makefile().readline())
                pid = os.fork()
                if pid == 0:
                    try:
                        listener.close()
                        child(job)
                    finally:  # never back into this loop
                        os._exit(99)
                running[os.pidfd_open(pid)] = pid, connection


if __name__ == "__main__":
    jobs = socket.socket(fileno=int(sys.argv[1]))
    warm_up()
    serve(jobs)
