"""The process that compares expressions: hostile ones neither hang nor fill nor end a run.

What must fail on cue stands in for math-verify; the campaign at the end is the real one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kflow.answers import Expression, worker
from kflow.answers.worker import Worker
from kflow.types import UserError

SCRIPTS = Path(worker.__file__).parents[2]
STAND_IN = r"""
import os, signal, time

class LatexExtractionConfig:
    def __init__(self, boxed_match_priority): pass

def parse(text, config, parsing_timeout):
    return text[len("\\boxed{"):-1]

def verify(gold, other, timeout_seconds):
    match other if other != "1" else gold:
        case "spin":
            while True: pass
        case "recurse": return verify(gold, other, timeout_seconds)
        case "fill": return len([0] * (1 << 40)) > 0
        case "grow": return [0] * (1 << 25) == []
        case "crash": os.kill(os.getpid(), signal.SIGSEGV)
        case "stop": os.kill(os.getppid(), signal.SIGSTOP)
        case "seed": return gold == os.environ["PYTHONHASHSEED"]
    return gold == other
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "math_verify.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def make(stand_in: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def worker(**limits: float) -> Worker:
        workers.append(Worker(**{"seconds": 0.2, "memory": 1 << 28, **limits}))  # type: ignore[arg-type]
        return workers[-1]

    yield worker
    for each in workers:
        each.close()


def pid(worker: Worker) -> int:
    assert worker._process is not None
    return worker._process.pid


def lives(number: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(number: int) -> None:
    """Wait until a process has ended."""
    while lives(number):
        time.sleep(0.02)


@pytest.mark.parametrize("hostile", ["spin", "recurse", "fill", "crash"])
def test_a_hostile_comparison_is_given_up_and_the_next_one_made(
    hostile: str, make: Callable[..., Worker]
) -> None:
    worker = make()
    assert worker.same("x", "x") is True
    before = pid(worker)
    assert worker.same("x", hostile) is None
    assert (worker.same("x", "x"), worker.same("x", "y")) == (True, False)
    assert pid(worker) == before


def test_only_what_is_hostile_by_itself_is_given_up_for_good(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, pairs = make(), []
    ask = worker._ask
    monkeypatch.setattr(worker, "_ask", lambda g, o: pairs.append((g, o)) or ask(g, o))
    assert worker.same("x", "spin") is None
    assert pairs[0] == ("x", "spin")
    assert sorted(pairs[1:]) == [("spin", "1"), ("x", "1")]
    pairs.clear()
    assert (worker.same("y", "spin"), worker.same("spin", "x"), pairs) == (None, None, [])
    assert (worker.same("x", "y"), pairs) == (False, [("x", "y")])


def forks(worker: Worker) -> str:
    number = pid(worker)
    return Path(f"/proc/{number}/task/{number}/children").read_text()


def test_a_comparison_that_takes_much_memory_is_the_last_of_its_fork(
    make: Callable[..., Worker],
) -> None:
    worker = make(memory=1 << 30, seconds=20.0)
    assert worker.same("x", "x") is True
    before = forks(worker)
    assert worker.same("x", "y") is False
    assert forks(worker) == before != ""
    assert worker.same("x", "grow") is False
    assert worker.same("x", "x") is True
    assert forks(worker) not in ("", before)


def test_the_address_space_is_bounded(make: Callable[..., Worker]) -> None:
    worker = make(memory=1 << 29)
    assert worker.same("x", "x") is True
    for number in (pid(worker), int(forks(worker))):
        limits = Path(f"/proc/{number}/limits").read_text()
        assert f"{1 << 29}" in limits.partition("Max address space")[2].partition("\n")[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_is_replaced(number: int, make: Callable[..., Worker]) -> None:
    worker = make()
    assert worker.same("x", "x") is True
    before = pid(worker)
    os.kill(before, number)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert (worker.same("x", "x"), worker.same("x", "y")) == (True, False)
    assert pid(worker) != before


def test_a_process_that_is_stopped_is_replaced(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PATIENCE", 2)
    stopped = make()
    assert stopped.same("x", "x") is True
    before = pid(stopped)
    assert stopped.same("stop", "stop") is None
    assert stopped.same("x", "y") is False
    assert pid(stopped) != before
    assert not lives(before)


def test_an_interrupted_comparison_leaves_no_reply_for_the_next(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make()
    assert worker.same("x", "x") is True
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            worker.same("x", "x")
    assert worker.same("x", "y") is False


def interrupt(*_: object) -> bytes:
    raise KeyboardInterrupt


def test_any_thread_may_ask(make: Callable[..., Worker]) -> None:
    worker = make()
    pairs = [(str(n % 7), str(n % 3)) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda pair: worker.same(*pair), pairs))
    assert verdicts == [gold == other for gold, other in pairs]


def test_the_order_of_terms_is_fixed(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert make().same("0", "seed") is True


def test_text_of_every_kind_arrives(make: Callable[..., Worker]) -> None:
    texts = ["\n", '"', "\\", "\0", "é😀", "\ud83d", "}{", "x" * 2000, "😀" * 2000]
    worker = make()
    assert [text for text in texts if worker.same(text + "~", text + "~") is not True] == []


def test_a_process_that_cannot_start_is_one_sentence(stand_in: Path) -> None:
    (stand_in / "math_verify.py").write_text("raise ImportError('no module named antlr4')")
    with pytest.raises(UserError) as caught:
        Worker().same("x", "y")
    assert str(caught.value) == (
        "Cannot start the process that compares expressions: install math-verify "
        "as pinned in requirements.txt. (ImportError: no module named antlr4)"
    )


PROGRAM = r"""
import sys, threading
from kflow.answers import worker
worker.same("x", "y")
print(worker.shared()._process.pid, flush=True)
if sys.argv[1] == "wait":
    input()
if sys.argv[1] == "busy":
    threading.Thread(target=worker.same, args=("x", "spin"), daemon=True).start()
    while not worker.shared()._lock.locked():
        pass
"""


@pytest.mark.parametrize("how", ["idle", "busy"])
def test_it_ends_with_the_program(
    how: str, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{stand_in}:{SCRIPTS}")
    command = [sys.executable, "-c", PROGRAM, how]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (lives(int(ran.stdout)), ran.stderr) == (False, "")


def test_it_ends_when_the_program_is_killed(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{stand_in}:{SCRIPTS}")
    command = [sys.executable, "-c", PROGRAM, "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        number = int(program.stdout.readline())
        assert lives(number)
        program.kill()
    ended(number)


def test_nothing_starts_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "shared", lambda: pytest.fail("a worker was asked for"))
    assert Expression().same(r"\frac{1}{2}", r"\frac{1}{2}") is True
    assert Expression().same("1", "1" * 2001) is False


# Each reaches the limit on its own.
ENDLESS = [
    rf"{tower}+{n}" for n in range(4) for tower in (r"9^{9^{9}}", "9999999!", r"7^{7^{7^{7}}}")
] + [
    r"\binom{10^9}{5\cdot 10^8}",
    r"\prod_{i=1}^{10000000} \sin(i)",
    "{" * 900 + "1" + "}" * 900,
    r"e^{" * 50 + "x" + "}" * 50,
    r"\cos(" * 40 + "1" + ")" * 40,
]
# Decided in seconds, or not, as the processor has it.
SLOW = ["(" * 500 + "1" + ")" * 500, r"\left(" * 300, r"\cup".join(["(1,2)"] * 250)]
PIECES = [
    *"0123456789xyi+-*/^_!(){}[]|<>=,.%$&~ ",
    *(rf"\{name}" for name in ("frac", "sqrt", "pi", "infty", "cup", "text", "left", "right", "{")),
    *(r"\sum_{n=1}^{9}", r"\binom", r"\begin{pmatrix}", r"\end{pmatrix}", r"\boxed{", "\\\\", "é"),
]


def hostile(count: int) -> list[str]:
    """`count` pieces of broken LaTeX, the same each time, with the endless ones among them."""
    rng = random.Random(7)
    texts = ["".join(rng.choices(PIECES, k=rng.randrange(1, 16))) for _ in range(count)]
    hard = [*ENDLESS, *SLOW]
    for number, text in enumerate(hard):
        texts[number * count // len(hard)] = text
    return texts


def survives(texts: list[str], endless: list[str], seconds: float) -> None:
    comparing = Worker(seconds)
    try:
        undecided = {text for text in texts if comparing.same(r"\frac{1}{2}", text) is None}
        assert set(endless) <= undecided
        assert comparing.same(r"\frac{1}{2}", "0.5") is True
        assert comparing.same(r"\frac{1}{2}", "0.3") is False
    finally:
        comparing.close()


def test_twenty_hostile_expressions() -> None:
    survives([*hostile(100)[1::5], *ENDLESS[:2]], ENDLESS[:2], 0.3)


@pytest.mark.campaign
def test_ten_thousand_hostile_expressions() -> None:
    assert len(ENDLESS) + len(SLOW) == 20
    survives(hostile(10_000), ENDLESS, 2.0)
