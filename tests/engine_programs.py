"""A process that has imported vLLM and forks a program for each line it is sent: a program that
begins from nothing takes most of its time for that import.

A line is a JSON list of the program's argv, environment and log; answered are the program's process
and, when it has ended, its exit code or minus the signal that ended it.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kflow.signals import is_running


@dataclass
class Program:
    """As a shell starts one: in a process group of its own."""

    pid: int
    launcher: Launcher

    @property
    def running(self) -> bool:
        return is_running(self.pid)

    def wait(self) -> int:
        return int(self.launcher.answer())


class Launcher:
    """Starts one program after the other."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        scripts = Path(__file__).resolve().parents[1] / "scripts"
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | dict(settings) | {"PYTHONPATH": str(scripts)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, argv: Sequence[str], settings: Mapping[str, str], log: Path) -> Program:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([list(argv), dict(settings), str(log)]) + "\n")
        self.process.stdin.flush()
        return Program(int(self.answer()), self)

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def serve() -> None:
    import transformers  # noqa: F401
    import vllm.v1.engine.llm_engine  # noqa: F401

    for line in sys.stdin:
        argv, settings, log = json.loads(line)
        process = os.fork()
        if process == 0:
            os.environ.update(settings)
            return run(argv, log)
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def run(argv: list[str], log: str) -> None:
    os.setsid()
    for descriptor, path in ((0, os.devnull), (1, os.devnull), (2, log)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = argv
    runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    serve()
