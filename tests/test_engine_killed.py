"""A run on the real engine, ended in every way: it leaves no process behind, and the same command
again goes on where it was, to the files of a run that nothing disturbed.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import prepare_smollm2
from engine_programs import Launcher, Program
from engine_runs import QUESTIONS, problems
from fakes import contents
from kflow.signals import descendants, is_running

pytestmark = pytest.mark.engine

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "vllm_qwen_markovian_whole_tail.py"
STEPS = 3
FLAGS = ["--max_new_tokens", "256", "--reflex_size", str(STEPS)]
# One rollout at a time: what else is in a batch changes the last bits of a logit.
FLAGS += ["--enforce_eager", "--max_num_seqs", "1"]
# Threads that are not bound to cores, see test_engine_server.py.
SETTINGS = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


def on_record(folder: Path) -> int:
    """The number of rollouts that are on disk."""
    journals = [path.read_bytes() for path in folder.rglob("rollouts_*.jsonl")]
    steps = len(list(folder.rglob("predictions_*.json")))
    return steps * len(QUESTIONS) + sum(text.count(b'"pred_solution":') for text in journals)


def engines(process: int) -> list[int]:
    """The processes in which vLLM works for a program: not those that Python itself starts."""
    found = []
    for each in descendants(process):
        with suppress(OSError):
            if Path(f"/proc/{each}/cmdline").read_bytes().startswith(b"VLLM::"):
                found.append(each)
    return found


def terminate(program: Program) -> None:
    os.kill(program.pid, signal.SIGTERM)


def kill(program: Program) -> None:
    os.kill(program.pid, signal.SIGKILL)


def interrupt_until_it_ends(program: Program) -> None:
    """An impatient user at a terminal, where every process of the group gets the signal, and an
    engine that does not close by itself."""
    for each in engines(program.pid):
        os.kill(each, signal.SIGSTOP)
    while program.running:
        os.killpg(program.pid, signal.SIGINT)
        time.sleep(0.1)


def abort(program: Program) -> None:
    """End the engine alone; it gives what is in flight back as aborted."""
    (core,) = (
        each
        for each in engines(program.pid)
        if Path(f"/proc/{each}/cmdline").read_bytes().startswith(b"VLLM::EngineCore")
    )
    os.kill(core, signal.SIGTERM)


ENDS: list[tuple[str, bool, Callable[[Program], None], int]] = [
    ("killed", False, kill, -signal.SIGKILL),
    ("engine gone", True, abort, 1),
    ("terminated", True, terminate, 143),
    ("interrupted", True, interrupt_until_it_ends, 130),
]

Start = Callable[[list[str], bool], Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """(flags, whether the engine gets processes of its own) -> the script as a user starts it. All
    of its processes end with the test, whatever becomes of it."""
    programs: list[Program] = []
    launcher = Launcher(SETTINGS)

    def start(flags: list[str], multiprocess: bool) -> Program:
        settings = {"VLLM_ENABLE_V1_MULTIPROCESSING": str(int(multiprocess))}
        programs.append(launcher.start([str(SCRIPT), *flags], settings, tmp_path / "log"))
        return programs[-1]

    try:
        yield start
    finally:
        for program in programs:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
        launcher.close()


def test_ended_in_every_way(start: Start, tmp_path: Path) -> None:
    """The undisturbed run is a program of its own too: an engine in the process of the tests would
    compute with whatever number of threads the tests before it have left."""
    shared, folder = ["--model_name", str(prepare_smollm2.prepare()), *FLAGS], tmp_path / "results"
    flags = [*shared, *problems(tmp_path)]
    log = tmp_path / "log"
    assert start([*shared, *problems(tmp_path / "whole")], False).wait() == 0, log.read_text()

    for name, multiprocess, act, code in ENDS:
        before = on_record(folder)
        program = start(flags, multiprocess)
        while program.running and on_record(folder) == before:
            time.sleep(0.02)
        workers = engines(program.pid)
        assert program.running, (name, log.read_text())
        assert bool(workers) is multiprocess, name
        act(program)
        assert program.wait() == code, (name, log.read_text())
        if code == 1:  # vLLM's own workers end after their engine, by themselves
            while any(map(is_running, workers)):
                time.sleep(0.02)
        assert not [each for each in workers if is_running(each)], name
        if code > 0:
            assert "Run the same command again to resume." in log.read_text(), name
        assert before < on_record(folder) < STEPS * len(QUESTIONS), name

    assert start(flags, False).wait() == 0, log.read_text()
    assert on_record(folder) == STEPS * len(QUESTIONS)
    expected = contents(tmp_path / "whole" / "results", "**/predictions_*.json")
    assert len(expected) == STEPS
    assert contents(folder, "**/predictions_*.json") == expected
    (record,) = folder.rglob("run.json")
    sessions = json.loads(record.read_bytes())["sessions"]
    assert len(sessions) == len(ENDS) + 1
    # Engines with and without processes of their own say what their KV cache holds.
    kv_caches = [session["engine"]["kv_cache"] for session in sessions]
    assert all(each["kv_tokens"] > each["window"] == 256 for each in kv_caches)
    assert {each["decoded_at_once"] for each in kv_caches} == {1}
    assert log.read_text().startswith("KV cache: ")
