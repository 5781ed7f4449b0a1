"""vLLM's own server of a model, on a CPU: its `vllm serve` by its module, since the `vllm` command
of the CPU package asks for the version of a package named vllm, and ends when there is none. Its
threads are not bound to cores: bound, it computes with one thread less than the engine in the
process, and a sum in another order makes another token sooner or later.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kflow.engines.vllm_engine.recipes import cpu_dtype, node

NAME = "smollm2"  # of the model there
START = 240  # seconds a server may take until it answers


@dataclass(frozen=True)
class VllmServer:
    address: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"{self.address}/v1"

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + START
        while not answers(f"{self.address}/health"):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.5)

    def kill(self) -> None:
        """With the processes that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(model: str, log: Path, window: int, host: str = "127.0.0.1") -> Iterator[VllmServer]:
    """A server with the arguments of the engine in the tests; its processes end with this."""
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    arguments = ["--model", model, "--host", host, "--port", str(port)]
    arguments += ["--served-model-name", NAME, "--dtype", cpu_dtype(node().release)]
    arguments += ["--enforce-eager", "--max-model-len", str(window), "--no-enable-chunked-prefill"]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
            env={
                **os.environ,
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "VLLM_REGEX_COMPILATION_TIMEOUT_S": "0",
            },
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    server = VllmServer(f"http://{host}:{port}", process, log)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        server.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
