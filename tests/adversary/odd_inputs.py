"""The second half of the table of command lines: data sets, prompts, models and result folders
that are odd. `DATA` are the bytes of a data set; what is refused is named in the sentence."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from adversary.damage import DEEP
from adversary.inputs import DRY, LIVELY, NOWHERE, SERVER, Build, Input, distinct
from adversary.inputs import rows as command_lines
from adversary.records import FOLDER, MODEL, PROBLEMS, SCRIPT

PROMPTS = Path(__file__).resolve().parents[2] / "scripts" / "kflow"


def answer(value: str) -> bytes:
    """A row whose answer is this JSON."""
    return b'{"problem": "Why?", "answer": ' + value.encode("utf-8", "surrogatepass") + b"}\n"


def question(value: str) -> bytes:
    return b'{"problem": ' + value.encode() + b', "answer": 1}\n'


GOOD = b"".join(json.dumps(row).encode() + b"\n" for row in PROBLEMS)
DATA: dict[str, bytes] = {
    "empty.jsonl": b"",
    "blank.jsonl": b"\n\n  \n",
    "letters.jsonl": b"hello\n",
    "html.jsonl": b"<html></html>\n",
    "cut.jsonl": GOOD[:-20],
    "lists.jsonl": b"[1, 2]\n",
    "numbers.jsonl": b"1\n2\n",
    "null.jsonl": b"null\n",
    "two_in_a_line.jsonl": GOOD.replace(b"\n", b"", 1),
    "not_utf_8.jsonl": b'{"problem": "\xff\xfe", "answer": 1}\n',
    "utf_16.jsonl": GOOD.decode().encode("utf-16"),
    "zeros.jsonl": b"\0" * 1000,
    "deep.jsonl": DEEP + b"\n",
    "without_problem.jsonl": b'{"exercise": "Why?", "answer": 1}\n',
    "without_answer.jsonl": b'{"problem": "Why?", "solution": 1}\n',
    "without_anything.jsonl": b"{}\n",
    "one_row_without.jsonl": GOOD + b'{"problem": "Why?"}\n',
    "odd_columns.jsonl": b'{"\\u001b[31m\\u202e": 1, "\\ud800": 2}\n',
    **{
        f"question_{name}.jsonl": question(value)
        for name, value in {
            "null": "null",
            "number": "5",
            "list": '["a"]',
            "empty": '""',
            "blank": '" \\n\\t"',
            "true": "true",
        }.items()
    },
    **{
        f"answer_{name}.jsonl": answer(value)
        for name, value in {
            "null": "null",
            "float": "1.5",
            "nan": "NaN",
            "infinity": "Infinity",
            "1e400": "1e400",
            "true": "true",
            "list": "[1]",
            "object": '{"a": 1}',
            "empty": '""',
            "letters": '"twelve"',
            "digits_and_letter": '"12a"',
            "two": '"1 2"',
            "hexadecimal": '"0x1F"',
            "thousands": '"1,000"',
            "underscore": '"1_000"',
            "exponent": '"1e3"',
            "decimal": '"3.0"',
            "fraction": '"1/2"',
            "minus_sign": '"\u22125"',
            "other_digits": '"\u0661\u0662"',
            "two_signs": '"--5"',
            "boxed": '"\\\\boxed{5}"',
            "escapes": '"\\u001b[31m\\u202e"',
            "surrogate": '"\\ud800"',
            "endless_digits": "9" * 5000,
            "endless_text": '"' + "9" * 100_000 + '"',
        }.items()
    },
    "empty.json": b"",
    "object.json": b'{"problem": "Why?", "answer": 1}',
    "list_empty.json": b"[]",
    "numbers.json": b"[1, 2]",
    "text.json": b'"hello"',
    "nested.json": b"[[]]",
    "cut.json": b'[{"problem": "Why?", "answer": 1}, {"prob',
    "deep.json": DEEP,
    "lines.json": GOOD,
    "empty.csv": b"",
    "head_alone.csv": b"id,problem,answer\n",
    "without_answer.csv": b"id,problem\n1,Why?\n",
    "short_row.csv": b"id,problem,answer\n1\n",
    "semicolons.csv": b"id;problem;answer\n1;Why?;2\n",
    "open_quote.csv": b'id,problem,answer\n1,"Why?,2\n',
    "huge_field.csv": b"id,problem,answer\n1,Why?," + b"9" * 200_000 + b"\n",
    "zeros.csv": b"\0" * 100,
    "not_utf_8.csv": b"problem,answer\n\xff\xfe,1\n",
    "empty.parquet": b"",
    "letters.parquet": b"hello",
    "head_alone.parquet": b"PAR1",
    "cut.parquet": b"PAR1" + b"\0" * 100 + b"\xff\xff\xff\x7fPAR1",
    "problems.txt": GOOD,
    "problems": GOOD,
    "problems.JSONL": GOOD,
    "problems.jsonl.gz": b"\x1f\x8b\x08junk",
    "problems.yaml": b"- problem: Why?\n",
}
# Taken as they are: a dry run shows them.
FINE: dict[str, bytes] = {
    "bom.jsonl": b"\xef\xbb\xbf" + GOOD,
    "crlf.jsonl": GOOD.replace(b"\n", b"\r\n"),
    "last_line_open.jsonl": GOOD.rstrip(),
    "ids_twice.jsonl": GOOD + GOOD,
    "ids_missing.jsonl": GOOD + answer("5"),
    "answer_text.jsonl": answer('" -012 "'),
    "answer_float.jsonl": answer("3.0"),
    "answer_plus.jsonl": answer('"+5"'),
    "question_escapes.jsonl": question('"\\u001b[31m\\u001b]0;x\\u0007\\u202e\\u2066 Why?"'),
    "question_controls.jsonl": question('"\\u0000\\u0008\\r\\u0085\\u2028 Why?"'),
    "question_surrogate.jsonl": question('"\\ud800 Why?"'),
    "question_slots.jsonl": question('"[[QUESTION]] {0} %s <|end|> </think>"'),
    "id_escapes.jsonl": b'{"id": "\\u001b[31m", "problem": "Why?", "answer": 1}\n',
}


LONG = json.dumps("Why? " * 20_000)
# Worked by an honest server.
WORKED: dict[str, bytes] = {
    "ids_surrogates.jsonl": b'{"id": "\\ud800", "problem": "q1", "answer": 1}\n'
    b'{"id": "\\udfff", "problem": "q2", "answer": 2}\n',
    "ids_escapes.jsonl": b'{"id": "\\u001b[31m/../x\\u0000", "problem": "q1", "answer": 1}\n',
    "ids_number_and_text.jsonl": b'{"id": 1, "problem": "q1", "answer": 1}\n'
    b'{"id": "1", "problem": "q2", "answer": 1}\n',
    "question_slots.jsonl": question('"[[QUESTION]] {0} %s <|end|> </think>"'),
    "question_long_among_others.jsonl": GOOD + question(LONG),
}


def write(name: str, value: bytes) -> Build:
    return lambda folder: (folder / name).write_bytes(value)


def make(name: str, maker: Callable[[Path], object]) -> Build:
    def build(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        maker(folder / name)

    return build


def listening(path: Path) -> None:
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path, here))


PLACES: dict[str, Callable[[Path], object]] = {
    "a_fifo": os.mkfifo,
    "a_folder": Path.mkdir,
    "a_loop": lambda path: path.symlink_to(path.name),
    "a_device": lambda path: path.symlink_to("/dev/zero"),
    "a_dead_link": lambda path: path.symlink_to("nowhere"),
    "a_socket": listening,
}


def prompt_folder(change: Callable[[Path], object], first_only: bool = False) -> Build:
    """All prompts of the project in one folder, changed."""

    def build(folder: Path) -> None:
        (folder / "prompts").mkdir()
        for text in PROMPTS.rglob("*.txt"):
            shutil.copy(text, folder / "prompts")
        for text in sorted((folder / "prompts").iterdir()):
            change(text)

    return build


def replaced(maker: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        maker(path)

    return change


def rewritten(change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda path: path.write_text(change(path.read_text()))


PROMPT_TEXTS: dict[str, Callable[[Path], object]] = {
    **{f"is_{name}": replaced(maker) for name, maker in PLACES.items()},
    "gone": Path.unlink,
    "empty": rewritten(lambda text: ""),
    "not_utf_8": lambda path: path.write_bytes(b"\xff\xfe[[QUESTION]]"),
    "zeros": lambda path: path.write_bytes(b"\0" * 100),
    "slot_unknown": rewritten(lambda text: text + " [[NOBODY]]"),
    "slot_lower_case": rewritten(lambda text: text + " [[question]]"),
    "slot_with_blanks": rewritten(lambda text: text + " [[ QUESTION ]]"),
    "slots_gone": rewritten(lambda text: text.replace("[[", "((")),
    "huge": rewritten(lambda text: text + "Think. " * 1_500_000),
}


def spoiled(name: str, maker: Callable[[Path], object]) -> Build:
    """The model's folder with something else in it, or instead of it."""

    def build(folder: Path) -> None:
        target = folder / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        maker(target)

    return build


def results_without_run(folder: Path) -> None:
    (folder / FOLDER).mkdir(parents=True)
    (folder / FOLDER / "predictions_0.json").write_text("[{}]")


RESULTS: dict[str, tuple[Build | None, str]] = {
    "a_file": (write("r", b"mine"), "r"),
    "below_a_file": (write("r", b"mine"), "r/s"),
    "empty": (None, ""),
    "in_proc": (None, "/proc/nowhere"),
    "in_sys": (None, "/sys/nowhere"),
    "in_a_device": (None, "/dev/null/r"),
    "long": (None, "r" * 300),
    "very_long": (None, "/".join(["r" * 200] * 30)),
    **{
        f"is_{name}": (make("r", maker), "r")
        for name, maker in PLACES.items()
        if name != "a_folder"
    },
}


def rows() -> list[Input]:
    inputs = command_lines()

    def add(
        name: str, argv: tuple[str, ...], build: Build | None, says: str, code: int = 2
    ) -> None:
        inputs.append(Input(name, SCRIPT, argv, code, says, build))

    for name, value in DATA.items():
        add(f"data_{name}", (*SERVER, "--dataset", name), write(name, value), name[:20])
    for name, value in FINE.items():
        add(f"dry_{name}", (*DRY, *SERVER, "--dataset", name), write(name, value), "", 0)
    for name, value in WORKED.items():
        add(f"run_{name}", (*LIVELY, "--dataset", name), write(name, value), "", 0)
    add(
        "run_no_question_fits",
        (*LIVELY, "--dataset", "x.jsonl"),
        write("x.jsonl", question(LONG)),
        "",
    )
    for name, maker in PLACES.items():
        for suffix in ("jsonl", "json", "csv", "parquet"):
            file = f"{name}.{suffix}"
            if suffix == "jsonl" or name in ("a_fifo", "a_device"):
                add(f"data_{file}", (*SERVER, "--dataset", file), make(file, maker), file)
    for name in (".", "/", "empty"):
        add(f"data_at_{name}", (*SERVER, "--dataset", name), make("empty", Path.mkdir), ".parquet")
    for name in ("nowhere.jsonl", "\x1b[31m.jsonl", "~/x.csv", "a" * 300 + ".json"):
        add(f"data_at_{ascii(name)[1:12]}", (*SERVER, "--dataset", name), None, "--dataset")
    for name, dry in (("words.xlsx", ()), ("words.ods", DRY)):
        argv = (*dry, *SERVER, "--dataset", name)
        add(f"data_at_{name}", argv, None, f"{name} is a spreadsheet: save it as .csv")
    for name in ("no/such", "no/such@rev", "a b", "x" * 3000):
        add(f"data_on_the_hub_{name[:12]}", (*SERVER, "--dataset", name), None, "data set")
    folder = ("--prompt_dir", "prompts")
    for name, change in PROMPT_TEXTS.items():
        add(f"prompt_{name}", (*LIVELY, *folder), prompt_folder(change), "prompt")
    for name, maker in {**PLACES, "a_file": Path.touch}.items():
        add(f"prompts_in_{name}", (*SERVER, *folder), make("prompts", maker), "--prompt_dir")
    add("prompts_in_nothing", (*SERVER, "--prompt_dir", ""), None, "--prompt_dir")
    add("prompts_nowhere", (*SERVER, "--prompt_dir", "nowhere"), None, "--prompt_dir")
    for name, maker in PLACES.items():
        argv = SERVER
        add(f"model_is_{name}", argv, spoiled(MODEL, maker), "--model_name")
        add(f"config_is_{name}", argv, spoiled(f"{MODEL}/config.json", maker), "--model_name")
    for name in ("", "problems.jsonl", "/", "nowhere/model", "\x1b[31m", "x" * 3000, "a b"):
        argv = (*SERVER, "--model_name", name)
        add(f"model_at_{ascii(name)[1:12]}", argv, None, "--model_name")
    for name, (build, path) in RESULTS.items():
        add(f"results_{name}", (*LIVELY, "--results_dir", path), build, "--results_dir")
    add("results_without_run", LIVELY, results_without_run, "run.json")
    add("results_folder_is_a_file", LIVELY, make(str(FOLDER), Path.touch), str(FOLDER.name))
    add("results_folder_is_a_fifo", LIVELY, make(str(FOLDER), os.mkfifo), str(FOLDER.name))
    add("nobody_listens", SERVER, None, NOWHERE)
    two = (*SERVER, "--base_url", "http://127.0.0.1:10/v1")
    add("nobody_listens_twice", two, None, "--base_url")
    add(
        "no_such_host",
        ("--engine", "openai", "--base_url", "http://h.invalid/v1"),
        None,
        "h.invalid",
    )
    add(
        "not_a_tls_server",
        ("--engine", "openai", "--base_url", "https://127.0.0.1:9/v1"),
        None,
        "https",
    )
    return inputs


ROWS = distinct(rows())
