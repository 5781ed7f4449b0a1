"""Ctrl-C while something is waited for: the program ends at once, whatever does not answer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.http_server import DONE, Answer, Received, Server, message
from helpers.scripted import ROOT
from helpers.talkers import LISTED, OSS, error, flags, is_trial

# A lookup of a name that takes its time, which an interpreter would wait for on its way out.
SCRIPT = """
import os, socket, sys, time
from pathlib import Path
from helpers.http_server import SharedChat
from helpers.scripted import run_script

real = socket.getaddrinfo
def slow(host, *more, **others):
    if host == "slow.invalid":
        os.write(1, b"asked\\n")
        time.sleep(3600)
    return real(host, *more, **others)
socket.getaddrinfo = slow
ran = run_script(sys.argv[1], sys.argv[2:], Path.cwd(), served=SharedChat())
print(ran.err, file=sys.stderr, end="")
sys.exit(ran.code)
"""


async def limited(received: Received, answer: Answer) -> None:
    await answer.whole(429, error("later"), Retry_After="600")


async def silent(received: Received, answer: Answer) -> None:
    await asyncio.sleep(3600)


async def refuses_later(received: Received, answer: Answer) -> None:
    """Each rollout is refused, and set aside while the first goes on."""
    if is_trial(received):
        await answer.stream(message("stop", content="Yes."), DONE)
    elif received.number == 1:
        await asyncio.sleep(3600)
    else:
        await answer.whole(400, error("no"))


BEHAVIOURS = {
    "a first request with a long Retry-After": (limited, 1),
    "a first request without an answer": (silent, 1),
    "rollouts that are set aside": (refuses_later, 8),
}


@pytest.mark.parametrize(("behaviour", "requests"), BEHAVIOURS.values(), ids=BEHAVIOURS)
def test_ctrl_c_ends_a_wait(behaviour: object, requests: int, tmp_path: Path) -> None:
    with (
        Server(behaviour, LISTED) as server,  # type: ignore[arg-type]
        begun(tmp_path, *flags(server)) as child,
    ):
        while len(server.received) < requests:
            assert child.poll() is None
        assert interrupted(child) == 130


def test_ctrl_c_ends_a_lookup(tmp_path: Path) -> None:
    with begun(tmp_path, *flags("http://slow.invalid/v1")) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "asked\n"
        assert interrupted(child) == 130


def begun(folder: Path, *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, OSS, *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/scripts:{ROOT}/tests"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(child: subprocess.Popen[str]) -> int:
    """The exit code after one Ctrl-C; a program that waits for more than it should never ends."""
    child.send_signal(signal.SIGINT)
    try:
        _, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert err.endswith("Interrupted. Run the same command again to resume.\n")
    return child.returncode
