"""Command lines of the real scripts, run by the fork server and judged by what holds for all."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MEMORY = 700  # MB, peak resident set
WAITING = re.compile(r": waiting for its answer to a first request$")  # no sentence of an end
LONGEST_SENTENCE = 2000  # characters
SECRET = "sk-adversary/7+secret=key"  # goes along as OPENAI_API_KEY, and must come out nowhere
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.environ.get("HOME", "/"),
    "LANG": "C.UTF-8",
    "HF_HUB_OFFLINE": "1",
    "OPENAI_API_KEY": SECRET,
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: negative for a signal. peak: MB of resident memory."""

    code: object
    out: str
    err: str
    peak: float = 0.0

    @property
    def lines(self) -> list[str]:
        """What stands on stderr."""
        return [line for line in self.err.splitlines() if line.strip()]


class Forks:
    """A fork server. `run` may be called from many threads."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()
        self._address = str(folder / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("zygote.py"), str(listener.fileno())],
                pass_fds=[listener.fileno()],
                env=ENVIRONMENT | {"PYTHONHASHSEED": "0"},
            )

    def run(self, script: str, argv: Sequence[str], cwd: Path, real: bool = False) -> Ended:
        number = next(self._numbers)
        out, err = self._folder / f"{number}.out", self._folder / f"{number}.err"
        job = {
            "script": script,
            "argv": list(argv),
            "cwd": str(cwd),
            "env": ENVIRONMENT,
            "out": str(out),
            "err": str(err),
            "real": real,
        }
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
            connection.sendall(json.dumps(job).encode() + b"\n")
            ended = json.loads(connection.makefile().readline())
        texts = [path.read_bytes().decode("utf-8", "backslashreplace") for path in (out, err)]
        out.unlink()
        err.unlink()
        return Ended(ended["code"], *texts, ended["peak"] / 1024)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def judge(ended: Ended, code: int) -> None:
    """What holds for every row, whatever was done to the program."""
    end = f"{ended.out[-1500:]}\n{ended.err[-3000:]}"
    assert ended.code != -signal.SIGALRM, f"hung\n{end}"
    assert "Traceback" not in ended.err, end
    assert "Traceback" not in ended.out, end
    assert ended.code == code, f"code {ended.code} instead of {code}\n{end}"
    assert ended.peak < MEMORY, f"{ended.peak:.0f} MB"
    for stream in (ended.out, ended.err):
        text = stream.replace("\r\n", "\n")  # a CSV's line end
        raw = {c for c in text if c != "\n" and not c.isprintable() and c != "\xa0"}
        assert not raw, f"raw characters {raw}\n{end!r}"
        assert SECRET not in stream, "the key is shown"
    if code == 2:
        lines = [line for line in ended.lines if not WAITING.search(line)]
        assert len(lines) == 1, f"{len(lines)} lines instead of a sentence\n{end}"
    if code in (1, 2):
        assert ended.lines, "no word on stderr"
        assert ended.lines[-1].rstrip().endswith((".", ")")), ended.lines[-1]
        assert len(ended.lines[-1]) <= LONGEST_SENTENCE, f"{len(ended.lines[-1])} characters"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder by its path, links and special files by what they are."""
    by_path: dict[str, bytes] = {}
    left = [str(folder)]
    while left:  # os.walk calls itself for each folder in a folder
        for entry in os.scandir(left.pop()):
            if entry.is_symlink():
                content = b"-> " + os.fsencode(os.readlink(entry.path))
            elif entry.is_file():
                content = Path(entry.path).read_bytes()
            else:
                content = b"a folder or a special file"
                left += [entry.path] if entry.is_dir() else []
            by_path[os.path.relpath(entry.path, folder)] = content
    return by_path
