"""A program that waits for a server ends at once when it is told to, whatever does not answer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.http_server import DONE, Answer, Behaviour, Received, Server, message
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


async def stops_half_way(received: Received, answer: Answer) -> None:
    await answer.stream(message(content="Half"))
    await asyncio.sleep(3600)


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


INT, TERM = signal.SIGINT, signal.SIGTERM
BEHAVIOURS = {
    "a first request with a long Retry-After": (limited, 1, INT),
    "a first request without an answer": (silent, 1, INT),
    "rollouts that are set aside": (refuses_later, 8, INT),
    "replies that have begun": (stops_half_way, 4, INT),
    "replies that have begun, terminated": (stops_half_way, 4, TERM),
}


@pytest.mark.parametrize(("behaviour", "requests", "number"), BEHAVIOURS.values(), ids=BEHAVIOURS)
def test_a_signal_ends_a_wait(
    behaviour: Behaviour, requests: int, number: signal.Signals, tmp_path: Path
) -> None:
    with Server(behaviour, LISTED) as server, begun(tmp_path, *flags(server)) as child:
        while len(server.received) < requests:
            assert child.poll() is None
        assert stopped(child, number) == 128 + number


def test_ctrl_c_ends_a_lookup(tmp_path: Path) -> None:
    with begun(tmp_path, *flags("http://slow.invalid/v1")) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "asked\n"
        assert stopped(child, INT) == 130


def begun(folder: Path, *argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, OSS, *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/scripts:{ROOT}/tests"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stopped(child: subprocess.Popen[str], number: signal.Signals) -> int:
    """The exit code after one signal; a program that waits for more than it should never ends."""
    child.send_signal(number)
    try:
        _, err = child.communicate(timeout=30)
    finally:
        child.kill()
    word = "Interrupted" if number == INT else "Terminated"
    assert err.endswith(f"{word}. Run the same command again to resume.\n")
    return child.returncode
