"""Odd data sets, prompts, models and results folders, in this process: refused in a sentence, or
taken as they are; nothing hangs, and nothing that was there is changed. Flags with wrong values are
in tests/scripts/test_command_line.py, damaged results in tests/results/test_reading.py."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adversary.damage import DEEP
from adversary.forks import Ended, contents, judge
from helpers.fakes import ScriptedEngine
from helpers.http_server import SharedChat
from helpers.results_on_disk import ours, write_run, write_step
from helpers.scripted import refused, run_script
from kflow.analysis import compare
from kflow.analysis.page import report
from kflow.loop.prompts import SHIPPED

SCRIPT, FOLDER = "vllm_kflow_qwen", Path("results", "vllm_262144_", "model")
LIMIT = 60  # seconds
ROOM = 3 << 29  # bytes a test may map beyond what it starts with: reading a device must not
ESCAPES = "\x1b[31m\x1b]0;x\x07\u202e\u2066\x00"
Maker = Callable[[Path], object]


@pytest.fixture(autouse=True)
def bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of time and memory, in a folder of its own."""

    def hung(*_: object) -> None:
        raise TimeoutError("hung")

    monkeypatch.chdir(tmp_path)
    handler = signal.signal(signal.SIGALRM, hung)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM, limits[1]))
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, limits)
    signal.signal(signal.SIGALRM, handler)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


PLACES: dict[str, Maker] = {
    "a_fifo": os.mkfifo,
    "a_folder": Path.mkdir,
    "a_loop": lambda path: path.symlink_to(path.name),
    "a_device": lambda path: path.symlink_to("/dev/zero"),
    "a_dead_link": lambda path: path.symlink_to("nowhere"),
    "a_socket": listening,
}


def holds(content: bytes) -> Maker:
    return lambda path: path.write_bytes(content)


def inside(name: str, maker: Maker) -> Maker:
    """Of a folder with one thing in it."""
    return lambda path: path.mkdir(parents=True) or maker(path / name)


def prompts(change: Maker) -> Maker:
    """Of a folder of all prompts, changed."""

    def make(path: Path) -> None:
        shutil.copytree(SHIPPED, path)
        for text in list(path.iterdir()):
            change(text)

    return make


def instead(maker: Maker) -> Maker:
    return lambda path: path.unlink() or maker(path)


def question(value: str) -> bytes:
    return b'{"problem": ' + value.encode() + b', "answer": 1}\n'


def answer(value: str) -> bytes:
    return b'{"problem": "Why?", "answer": ' + value.encode() + b"}\n"


def refusals() -> Iterator[tuple[str, str, str, Maker]]:
    """(flag, its value, what the sentence names, what is there)."""
    for name, content in {
        "utf_16.jsonl": question('"Why?"').decode().encode("utf-16"),
        "not_utf_8.jsonl": b'{"problem": "\xff\xfe", "answer": 1}\n',
        "zeros.jsonl": b"\0" * 1000,
        "deep.jsonl": DEEP + b"\n",
        "odd_columns.jsonl": b'{"\\u001b[31m\\u202e": 1, "\\ud800": 2}\n',
        "surrogate.jsonl": answer(r'"\ud800"'),
        "endless.jsonl": answer("9" * 5000),
        "open_quote.csv": b'id,problem,answer\n1,"Why?,2\n',
        "huge_field.csv": b"id,problem,answer\n1,Why?," + b"9" * 200_000 + b"\n",
        "cut.parquet": b"PAR1" + b"\0" * 100 + b"\xff\xff\xff\x7fPAR1",
        "problems.jsonl.gz": b"\x1f\x8b\x08junk",
    }.items():
        yield "--dataset", name, name, holds(content)
    for name, maker in PLACES.items():
        yield "--dataset", f"{name}.jsonl", f"{name}.jsonl", maker
    for name in ("a_fifo", "a_loop", "a_device"):
        yield "--model_name", f"./{name}", "--model_name", PLACES[name]
        yield "--model_name", f"./with_{name}", "--model_name", inside("config.json", PLACES[name])
        yield "--results_dir", name, "--results_dir", PLACES[name]
    yield "--dataset", "device.parquet", "device.parquet", PLACES["a_device"]
    yield "--prompt_dir", "fifo", "--prompt_dir", os.mkfifo
    for name, change in {
        "fifos": instead(os.mkfifo),
        "devices": instead(PLACES["a_device"]),
        "not_utf_8": holds(b"\xff\xfe[[QUESTION]]"),
        "huge": lambda path: path.write_text("[[QUESTION]]" + "Think. " * 200_000),
        "unknown_slot": lambda path: path.write_text(path.read_text() + " [[NOBODY]]"),
        "slot_with_blanks": lambda path: path.write_text(path.read_text() + " [[ QUESTION ]]"),
    }.items():
        yield "--prompt_dir", name, "prompt", prompts(change)
    yield "--results_dir", "/proc/nowhere", "--results_dir", lambda path: None
    yield "--results_dir", "file/below", "--results_dir", lambda path: path.parent.touch()


@pytest.mark.parametrize(
    ("flag", "value", "names", "maker"),
    [pytest.param(*row, id=f"{row[0]} {row[1]}"[2:]) for row in refusals()],
)
def test_what_cannot_be_used_is_refused(
    flag: str, value: str, names: str, maker: Maker, tmp_path: Path
) -> None:
    maker(tmp_path / value)
    before = contents(tmp_path)
    ran = run_script(SCRIPT, [flag, value], tmp_path)
    judge(Ended(ran.code, ran.out, ran.err), 2)
    assert names in ran.err
    after = contents(tmp_path)
    assert {name: after.get(name) for name in before} == before
    assert {Path(name).parts[0] for name in after.keys() - before.keys()} <= {
        "model", "problems.jsonl"
    }  # fmt: skip


@pytest.mark.parametrize("key", ["a b", "a\nb", "é", "\x01"])
def test_a_key_that_no_header_can_hold_is_refused(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    flags = ["--engine", "openai", "--base_url", "http://127.0.0.1:9/v1"]
    refused(run_script(SCRIPT, flags, tmp_path, served=SharedChat()), "OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("place", "maker"),
    [
        (FOLDER, Path.touch),
        (FOLDER, os.mkfifo),
        (FOLDER / "predictions_0.json", holds(b"[{}]")),  # without a run.json
    ],
)
def test_what_stands_where_results_go_is_left_alone(
    place: Path, maker: Maker, tmp_path: Path
) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    maker(tmp_path / place)
    before = contents(tmp_path / "results")
    ran = run_script(SCRIPT, [], tmp_path)
    judge(Ended(ran.code, ran.out, ran.err), 2)
    assert contents(tmp_path / "results") == before


@pytest.mark.parametrize(
    "content",
    [
        question('"\\ud800 Why?"'),
        question('"[[QUESTION]] {0} %s \\\\g<0> <|end|> </think>"'),
        question(json.dumps(ESCAPES)) + question('"\\u0085\\u2028 Why?"'),
        b'{"id": "\\ud800", "problem": "q1", "answer": 1}\n'
        b'{"id": "\\udfff", "problem": "q2", "answer": 2}\n',
        b'{"id": "\\u001b[31m/../x\\u0000", "problem": "q1", "answer": 1}\n',
        (question('"Why?"') * 2).rstrip().replace(b"\n", b"\r\n"),
        question('"Why?"') + question(json.dumps("Why? " * 140_000)),  # does not fit the window
    ],
    ids=["surrogate", "slots", "escapes", "ids", "id with a path", "line ends", "long"],
)
def test_odd_problems_are_worked(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_bytes(content)
    flags = ["--dataset", "odd.jsonl", "--reflex_size", "2", "--output_postfix", "\x1b[31m\u202e"]
    plan = run_script(SCRIPT, [*flags, "--dry_run"], tmp_path)
    judge(Ended(plan.code, plan.out, plan.err), 0)
    ran = run_script(SCRIPT, flags, tmp_path, ScriptedEngine())
    judge(Ended(ran.code, ran.out, ran.err), 0)
    assert len(ran.predictions()) == 2


# Results folders, for what reads them.

GOLDS, STEPS = [1, 2, 3], [[1, 2, 9], [1, 2, 3]]
SETTINGS = {"max_new_tokens": 4096, "reflex_size": 2}


def honest(folder: Path) -> Path:
    return write_run(folder, STEPS, GOLDS, settings=SETTINGS)


def text_of(**fields: Any) -> Maker:
    """A run in whose second step the first record has these fields."""
    return lambda folder: write_step(
        honest(folder), 1, [ours(0, 1, 1, **fields), ours(1, 2, 2), ours(2, 3, 3)]
    )


def beside(name: str, maker: Maker) -> Maker:
    """A run with this in it, or in the place of a file."""

    def make(folder: Path) -> None:
        (honest(folder) / name).unlink(missing_ok=True)
        maker(folder / name)

    return make


def with_settings(**values: object) -> Maker:
    return lambda folder: write_run(folder, STEPS, GOLDS, settings=SETTINGS | values)


READ: dict[str, tuple[Maker, int, bool]] = {  # code of the folder alone; whether a note names it
    **{
        f"{file}_is_{name}": (beside(file, maker), 0, file[0] == "p" or name != "a_dead_link")
        for file in ("predictions_1.json", "run.json")
        for name, maker in PLACES.items()
        if name not in ("a_folder", "a_loop")
    },
    "step_deep": (beside("predictions_1.json", holds(DEEP)), 0, True),
    "run_deep": (beside("run.json", holds(b'{"settings": ' + DEEP)), 0, True),
    "step_number_huge": (beside(f"predictions_{'9' * 200}.json", holds(b"[]")), 0, True),
    "step_far_away": (beside("predictions_30000000.json", holds(b"[]")), 0, True),
    "prediction_huge": (lambda f: write_run(f, [[1, 2, 9], [10**4000, 2, 3]], GOLDS), 0, False),
    "solution_html": (text_of(pred_solution="</script><script>alert(1)</script><!--"), 0, False),
    "solution_escapes": (text_of(pred_solution=ESCAPES, question=ESCAPES), 0, False),
    "solution_long": (text_of(pred_solution="It follows. " * 100_000), 0, False),
    "solution_boxes": (text_of(pred_solution="\\boxed{" * 50_000), 0, False),
    "window_huge": (with_settings(max_new_tokens=10**30), 0, False),
    "window_list": (with_settings(max_new_tokens=[]), 0, False),
    "settings_escapes": (with_settings(**{ESCAPES: ESCAPES}), 0, False),
    "a_loop_in_it": (beside("seed_x", lambda path: path.symlink_to(".")), 0, False),
    "a_fifo_in_it": (beside("pipe", os.mkfifo), 0, False),
    "a_far_seed": (lambda f: [honest(f / f"seed_{n}") for n in ("0", "9" * 12)], 0, False),
    "a_seed_without_steps": (
        lambda f: [honest(f / "seed_0"), (f / "seed_1").mkdir()], 0, True,
    ),
    "a_seed_that_leads_out": (
        lambda f: [honest(f / "seed_0"), (f / "seed_1").symlink_to("../../outside")], 0, False,
    ),
}  # fmt: skip


NAMES = ("\u202egpj", "a\nb", "\udcff\udcfe", "x" * 250, "[a]", "*", "-o")


@pytest.mark.parametrize(
    ("name", "called"), [*((n, "odd") for n in READ), *(("", n) for n in NAMES)]
)
def test_an_odd_results_folder_hides_no_other(
    name: str, called: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker, code, noted = READ[name] if name else (honest, 0, False)
    honest(tmp_path / "all" / "good")
    honest(tmp_path / "outside")
    maker(tmp_path / "all" / called)
    before = contents(tmp_path)

    def end(main: Callable[..., object], *argv: str, code: int = 0) -> Ended:
        ended: object = 0
        try:
            main("", list(argv))
        except SystemExit as exit:
            ended = exit.code or 0
        result = Ended(ended, *capsys.readouterr())
        judge(result, code)
        return result

    together = end(compare.main, "--common", "--csv", "all")
    assert "good" in together.out
    assert "outside" not in together.out
    assert called in together.err or not noted
    end(report.main, "all", "-o", "page.html")
    alone = end(compare.main, f"all/{called}", code=code)
    assert called in alone.err or not noted
    after = contents(tmp_path)
    assert after.pop("page.html")
    assert after == before
