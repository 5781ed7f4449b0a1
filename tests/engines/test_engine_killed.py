"""A run on the real engine, ended in every way: it leaves no process behind, and the same command
again goes on where it was, to the files of a run that nothing disturbed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import prepare_smollm2
from helpers.engine_runs import QUESTIONS, problems
from helpers.fakes import contents
from kflow.ground.signals import descendants, is_running

pytestmark = pytest.mark.engine

SCRIPT = "vllm_kflow_qwen"
STEPS = 4
GONE = 60.0  # seconds, for processes that were ended
FLAGS = ["--max_new_tokens", "896", "--reflex_size", str(STEPS), "--force_sections"]
# One rollout at a time: what else is in a batch changes the last bits of a logit.
FLAGS += ["--enforce_eager", "--max_num_seqs", "1"]


def start(
    flags: list[str], multiprocess: bool, log: Path, threads: str = "nobind"
) -> subprocess.Popen[bytes]:
    """The script as a user starts it, in its own process group as from a shell. threads: not bound
    to cores, see test_engine_server.py."""
    path = Path(__file__).resolve().parents[2] / "scripts" / f"{SCRIPT}.py"
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(multiprocess)),
        "VLLM_CPU_OMP_THREADS_BIND": threads,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    with open(log, "wb") as err:
        return subprocess.Popen(
            [sys.executable, str(path), *flags],
            env=os.environ | settings,
            stdout=subprocess.DEVNULL,
            stderr=err,
            start_new_session=True,
        )


def on_record(folder: Path) -> int:
    """The number of rollouts that are on disk."""
    journals = [path.read_bytes() for path in folder.rglob("rollouts_*.jsonl")]
    steps = len(list(folder.rglob("predictions_*.json")))
    return steps * len(QUESTIONS) + sum(text.count(b'"pred_solution":') for text in journals)


def engines(process: int) -> list[int]:
    """The processes in which vLLM works for a program: not those that Python itself starts."""
    pids = []
    for each in descendants(process):
        with suppress(OSError):
            if Path(f"/proc/{each}/cmdline").read_bytes().startswith(b"VLLM::"):
                pids.append(each)
    return pids


def wait_until_gone(processes: list[int], case: str) -> None:
    until = time.monotonic() + GONE
    while any(map(is_running, processes)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not [each for each in processes if is_running(each)], case


def terminate(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)


def interrupt_until_it_ends(process: subprocess.Popen[bytes]) -> None:
    """An impatient user at a terminal, where every process of the group gets the signal, and an
    engine that does not close by itself."""
    for each in engines(process.pid):
        os.kill(each, signal.SIGSTOP)
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)


def end_core(process: subprocess.Popen[bytes], number: int) -> None:
    """End the engine's own process alone: terminated, it gives what is in flight back as aborted;
    killed, it gives nothing."""
    (core,) = (
        each
        for each in engines(process.pid)
        if Path(f"/proc/{each}/cmdline").read_bytes().startswith(b"VLLM::EngineCore")
    )
    os.kill(core, number)


Act = Callable[[subprocess.Popen[bytes]], None]
ENDS: list[tuple[str, bool, Act, int]] = [
    ("killed", False, lambda process: process.kill(), -signal.SIGKILL),
    ("engine terminated", True, lambda process: end_core(process, signal.SIGTERM), 1),
    ("engine killed", True, lambda process: end_core(process, signal.SIGKILL), 1),
    ("terminated", True, terminate, 143),
    ("interrupted", True, interrupt_until_it_ends, 130),
]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that end with the test, whatever becomes of it."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_ended_in_every_way(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """The undisturbed run is a program of its own too: an engine in the process of the tests would
    compute with whatever number of threads the tests before it have left."""
    shared, folder = ["--model_name", str(prepare_smollm2.prepare()), *FLAGS], tmp_path / "results"
    flags = [*shared, *problems(tmp_path)]
    log = tmp_path / "log"

    def begin(flags: list[str], multiprocess: bool) -> subprocess.Popen[bytes]:
        process = start(flags, multiprocess, log)
        started.append(process)
        return process

    whole = begin([*shared, *problems(tmp_path / "whole")], False)
    assert whole.wait() == 0, log.read_text()

    for name, multiprocess, act, code in ENDS:
        before = on_record(folder)
        process = begin(flags, multiprocess)
        while process.poll() is None and on_record(folder) == before:
            time.sleep(0.02)
        workers = engines(process.pid)
        assert process.poll() is None, (name, log.read_text())
        assert bool(workers) is multiprocess, name
        act(process)
        assert process.wait() == code, (name, log.read_text())
        # vLLM's own workers end after their engine, a killed process when the machine gets to it.
        wait_until_gone(workers, name)
        if code > 0:
            assert "Run the same command again to resume." in log.read_text(), name
        assert before < on_record(folder) < STEPS * len(QUESTIONS), name

    assert begin(flags, False).wait() == 0, log.read_text()
    assert on_record(folder) == STEPS * len(QUESTIONS)
    expected = contents(tmp_path / "whole" / "results", "**/predictions_*.json")
    assert len(expected) == STEPS
    assert contents(folder, "**/predictions_*.json") == expected
    (record,) = folder.rglob("run.json")
    sessions = json.loads(record.read_bytes())["sessions"]
    assert len(sessions) == len(ENDS) + 1
    # The engine's own process or this one: otherwise nothing differs from start to start.
    assert len({json.dumps(session["environment"]) for session in sessions}) == 2
