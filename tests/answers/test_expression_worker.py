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
import os, signal, sys

def same(gold, other):
    match other if other != "1" else gold:
        case "spin":
            while True: pass
        case "recurse": return same(gold, other)
        case "fill": return len([0] * (1 << 40)) > 0
        case "grow": return [0] * (1 << 25) == []
        case "crash": os.kill(os.getpid(), signal.SIGSEGV)
        case "stop": os.kill(os.getpid(), signal.SIGSTOP)
        case "unproven": return None
        case "seed": return sys.flags.hash_randomization == 0
    return gold == other
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in's module is, which a process imports in the place of the comparer."""
    name = f"stand_in_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker, "COMPARER", name)
    return tmp_path / f"{name}.py"


@pytest.fixture
def make(stand_in: Path) -> Iterator[Callable[..., Worker]]:
    """Workers that have compared something."""
    workers: list[Worker] = []

    def worker(seconds: float = 0.2, memory: int = 1 << 28) -> Worker:
        workers.append(Worker(seconds, memory))
        assert workers[-1].same("x", "x") is True
        return workers[-1]

    yield worker
    for each in workers:
        each.close()


def pid(worker: Worker) -> int:
    assert worker._process is not None
    assert worker._process.pid is not None
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
    assert worker.same("x", hostile) is None
    assert (worker.same("x", "x"), worker.same("x", "y")) == (True, False)


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


def test_a_comparison_that_takes_much_memory_is_the_last_of_its_process(
    make: Callable[..., Worker],
) -> None:
    worker = make(memory=1 << 30, seconds=20.0)
    before = pid(worker)
    assert worker.same("x", "unproven") is None
    assert (worker.same("x", "y"), pid(worker)) == (False, before)
    assert worker.same("x", "grow") is False
    assert worker.same("x", "x") is True
    assert pid(worker) != before


def test_the_address_space_is_bounded(make: Callable[..., Worker]) -> None:
    worker = make(memory=1 << 29)
    limits = Path(f"/proc/{pid(worker)}/limits").read_text()
    limit = int(limits.partition("Max address space")[2].split()[0])
    assert 1 << 29 < limit < (1 << 29) + (1 << 30)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_is_replaced(number: int, make: Callable[..., Worker]) -> None:
    worker = make()
    before = pid(worker)
    os.kill(before, number)
    ended(before)
    assert (worker.same("x", "x"), worker.same("x", "y")) == (True, False)
    assert pid(worker) != before
    assert not worker._hopeless


def test_a_process_that_is_stopped_is_replaced(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PATIENCE", 2)
    stopped = make()
    before = pid(stopped)
    assert stopped.same("x", "stop") is None
    assert stopped.same("x", "y") is False
    assert not lives(before)


def test_any_thread_may_ask(make: Callable[..., Worker]) -> None:
    worker = make()
    pairs = [(str(n % 7), str(n % 3)) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda pair: worker.same(*pair), pairs))
    assert told == [gold == other for gold, other in pairs]


def test_a_comparer_that_cannot_be_loaded_is_one_sentence(stand_in: Path) -> None:
    stand_in.write_text("raise ImportError('no module named antlr4')")
    with pytest.raises(UserError, match="ImportError: no module named antlr4"):
        Worker().same("x", "y")


def test_nothing_starts_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "shared", lambda: pytest.fail("a worker was asked for"))
    assert Expression().same(r"\frac{1}{2}", r"\frac{1}{2}") is True
    assert Expression().same("1", "1" * 2001) is False


# A program of its own. Nothing in it is guarded by `if __name__ == "__main__"`.
PROGRAM = r"""
import multiprocessing, os, sys, threading, time
print("begins", flush=True)
{imports}
from kflow.answers import worker
worker.COMPARER = "stand_in"
{then}
"""
ASKS = "print(worker.shared().same('x', 'x'), worker.shared().same('x', 'y'), flush=True)"
TELLS = f"{ASKS}; print(worker.shared()._process.pid, flush=True)"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a program whose `sys.path` alone shows it kflow and the stand-in."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)

    def start(then: str, *how: str) -> subprocess.Popen[str]:
        program = tmp_path / "program.py"
        imports = f"sys.path[:0] = [{str(SCRIPTS)!r}, {str(tmp_path)!r}]"
        program.write_text(PROGRAM.format(imports=imports, then=then))
        command = [sys.executable, *(how or (str(program),))]
        return subprocess.Popen(
            command,
            stdin=program.open() if how == ("-",) else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


Run = Callable[..., subprocess.Popen[str]]


@pytest.mark.parametrize("how", [(), ("-",)], ids=["a script", "a standard input"])
def test_a_program_without_a_guard_runs_once(run: Run, how: tuple[str, ...]) -> None:
    out, err = run(ASKS, *how).communicate()
    assert (out.split(), err) == (["begins", "True", "False"], "")


def test_the_program_is_left_as_it_was(run: Run) -> None:
    then = f"""
before = dict(os.environ), sys.modules["__main__"]
{ASKS}
assert (dict(os.environ), sys.modules["__main__"]) == before
multiprocessing.set_start_method("spawn")
print(worker.same("x", "seed"))
"""
    out, err = run(then).communicate()
    assert (out.split()[1:], err) == (["True", "False", "True"], "")


@pytest.mark.parametrize(
    "then",
    [
        "",
        "threading.Thread(target=worker.same, args=('x', 'spin'), daemon=True).start()\n"
        "while not worker.shared()._lock.locked(): pass",
    ],
    ids=["idle", "busy"],
)
def test_it_ends_with_the_program(then: str, run: Run) -> None:
    out, err = run(f"{TELLS}\n{then}").communicate()
    assert (lives(int(out.split()[-1])), err) == (False, "")


@pytest.mark.parametrize("then", ["time.sleep(600)", "worker.same('x', 'spin')"])
def test_it_ends_when_the_program_is_killed(then: str, run: Run) -> None:
    with run(f"{TELLS}\n{then}") as program:
        number = process_of(program)
        program.kill()
    ended(number)


def process_of(program: subprocess.Popen[str], lines: int = 3) -> int:
    """What the last of so many lines says."""
    assert program.stdout is not None
    return int([program.stdout.readline() for _ in range(lines)][-1])


def test_ctrl_c_is_for_the_program_alone(run: Run) -> None:
    then = f"""
{TELLS}
for busy in (lambda: time.sleep(600), lambda: worker.same("x", "spin")):
    try:
        busy()
    except KeyboardInterrupt:
        {TELLS}
"""
    with run(then) as program:
        number = process_of(program)
        time.sleep(0.2)  # until it sleeps; before that, the program would end with a traceback
        os.killpg(program.pid, signal.SIGINT)
        assert process_of(program, 2) == number
        while spent(number) < 0.3:
            time.sleep(0.02)
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate()
    assert (out.split()[:2], err) == (["True", "False"], "")
    assert not lives(number)


def spent(number: int) -> float:
    """Processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_forked_program_has_a_process_of_its_own(run: Run) -> None:
    then = f"""
{ASKS}
if os.fork() == 0:
    assert worker.shared()._process is None
    os._exit(0)
os.wait()
print(worker.same("y", "y"))
"""
    out, err = run(then).communicate()
    assert (out.split()[1:], err) == (["True", "False", "True"], "")


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
    *(r"\pm", r"\overline{", "½", "²", r"\,", r"\text{ cm}", "^\\circ", "√"),
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
