"""The table of command lines: a line here is a row (README.md).

A row is refused with code 2 unless it stands in another list, in a sentence that names the first
flag of its line, and nothing is written. Data sets and other files are in odd_inputs.py.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adversary.forks import SECRET
from adversary.records import SCRIPT

NOWHERE = "http://127.0.0.1:9/v1"
SERVER = ("--engine", "openai", "--base_url", NOWHERE)
LIVE = "http://live/v1"  # an honest server
LIVELY = ("--engine", "openai", "--base_url", LIVE, "--served_model_name", "m")

Build = Callable[[Path], object]


@dataclass(frozen=True)
class Input:
    """argv: after the arguments of an honest run, where the script is an entry script. says: in
    the sentence. build: what is put into the folder first. hides: what no stream may show."""

    name: str
    script: str
    argv: tuple[str, ...]
    code: int = 2
    says: str = ""
    build: Build | None = None
    env: dict[str, str] = field(default_factory=dict)
    hides: str = ""
    real: bool = False


NOT_WHOLE = ("abc", "''", "' '", "1.5", "1e3", "nan", "inf", "-1", "1,000", "0x10", "'1 2'")
NOT_A_NUMBER = ("abc", "''", "' '", "nan", "inf", "-inf", "-1", "1e999", "0,6", "0x1p3", "1e")
# By flag: what it refuses.
VALUES: dict[str, Sequence[str]] = {
    "temperature": (*NOT_A_NUMBER, "2.1", "-0.0001"),
    "top_p": (*NOT_A_NUMBER, "0", "1.01"),
    "top_k": (*NOT_WHOLE, "0"),
    "seed": NOT_WHOLE,
    "max_new_tokens": (*NOT_WHOLE, "0", "63", "999999999999"),
    "reflex_size": (*NOT_WHOLE, "0", "999999999999"),
    "served_model_name": ("''",),
    "limit": (*NOT_WHOLE, "0"),
    "num_seeds": (*NOT_WHOLE, "0", "1000000000", "1" * 5000),
    "stop_when_stable": (*NOT_WHOLE, "0", "1"),
    "max_failures": NOT_WHOLE,
    "max_concurrency": (*NOT_WHOLE, "0"),
    "request_timeout": (*NOT_A_NUMBER, "0", "1e7"),
    "max_outage": (*NOT_A_NUMBER, "1e7"),
    "prompt_price": (*NOT_A_NUMBER, "1e10"),
    "reply_price": (*NOT_A_NUMBER, "1e10"),
    "max_cost": (*NOT_A_NUMBER, "1e10"),
    "schedule": ("''", "eager", "FREE", "free,barrier"),
    "engine": ("''", "VLLM", "tgi", "openai,vllm"),
    "output_postfix": ("a/b", "/", "../x", "/etc", "a" * 300, "é" * 200),
    "base_url": (
        *("''", "abc", "h:8000", "ftp://h/v1", "http://", "http:///v1", "http://:80/v1"),
        *("http://h:99999/v1", "http://h:abc/v1", "http://h:-1/v1", "'http://h /v1'", "//h/v1"),
        *("http://h/v1?x=1", "http://h/v1#f", "http://u:p@h/v1", "http://u@h/v1", "http://[::1/v1"),
        *("file:///etc/passwd", "javascript:alert(1)", "'http://h\t/v1'", "http://[zz]/v1"),
        *("@", "@/nowhere/servers", "@/dev/zero", "@.", "@~nobody-of-this-name/x", "@@"),
    ),
}
VLLM_VALUES: dict[str, Sequence[str]] = {
    "dtype": ("''",),
    "tensor_parallel_size": (*NOT_WHOLE, "0"),
    "pipeline_parallel_size": (*NOT_WHOLE, "0"),
    "max_num_seqs": (*NOT_WHOLE, "0"),
    "gpu_memory_utilization": (*NOT_A_NUMBER, "0", "1.01"),
    "distributed_executor_backend": ("''", "threads", "RAY"),
    "engine_args": (
        *("''", "abc", "[]", "5", "null", "true", "'\"a\"'", "'{'", "'{\"a\": 1'", "\"{'a': 1}\""),
        *('\'{"a": 1}{"b": 2}\'', "'{a: 1}'", "'{\"a\": NaN}'", "'{\"a\": 1e999}'"),
        *('\'{"a": 1, "a": 2}\'', "'{\"a\": -Infinity}'", "[" * 5000, "'{\"a\":'" + "[" * 5000),
        *('\'{"a": "\\ud800"}\'', "'{\"\\udfff\": 1}'"),
    ),
}
# Needs the other engine, or another flag.
OTHER_ENGINE = """
--tensor_parallel_size 2
--pipeline_parallel_size 2
--distributed_executor_backend mp
--gpu_memory_utilization 0.5
--dtype float32
--enforce_eager
--max_num_seqs 8
--engine_args '{"a": 1}'
"""
OTHER_SERVER = """
--base_url http://h/v1
--served_model_name m
--max_concurrency 4
--request_timeout 5
--max_outage 5
--prompt_as_text
--prompt_price 1 --reply_price 1
--max_cost 1
--request_args '{"a": 1}'
--engine openai
--engine chat
"""
MISTYPED = """
--temprature 1
--temp 0.5
--max-new-tokens 64
--reflex_siz 2
--no_such_flag
--no_such_flag=1
--api_key abcdefgh
--api_key=abcdefgh
--api-key abcdefgh
--overwrite=1
--dry_run=yes
--dry_run JSON
--force_sections=
--temperature
--seed
--dataset
--model_name
--base_url
--engine_args
-x
-t 1
--
"""
OF_COMPARE = """
--step -1 good
--step abc good
--step '' good
--step 1.5 good
--details --json good
--details --csv good
--settings --problem quickstart-01 good
--at_tokens '' good
--step
--no_such_flag good
--json --csv good
--regrade --problem quickstart-01 good
--problem nobody good
--problem '' good
--problem '\x1b[31m' good
--baseline nowhere good
--baseline '' good
--baseline 'goo[' good
--baseline several good
--plot
--plot out.pdf good
--plot out good
--plot '' good
--plot nowhere/out.svg good
--plot several good
--plot mine.svg good
--plot mine.png good
--plot run.svg/out.svg good
--common
"""
OF_REPORT = """
-o
-o '' good
-o . good
-o several good
-o nowhere/out.html good
-o mine.txt good
-o mine.svg good
-o empty.html good
-o mine.txt/out.html good
-o /proc/nowhere/out.html good
--output
--output=several good
--no_such_flag good
-x good
"""
PLACES = (
    *("nowhere", "''", "'*.none'", "'[z-a]'", "'['", "empty", "mine.txt", "/dev/null"),
    *("good nowhere", "a" * 300, "b" * 5000, "'\x1b[31m'", "'\u202egood'", "'good\n'"),
)
SHOWN = """
good
good good
goo*
several
--json good
--csv good
--csv several
--common good several
--details good
--details --settings several
--step 0 good
--regrade good
--problem quickstart-01 good
--baseline good several
--baseline good good
--plot out.svg good
good/predictions_0.json
./several/../good/.
"""


def slug(text: str) -> str:
    """A row's name from its line."""
    text = text.replace("''", "nothing").replace("' '", "blank")
    return re.sub(r"[^\w.:+-]+", "_", ascii(text)[1:-1]).strip("_-")[:70] or "nothing"


def distinct(inputs: Sequence[Input]) -> list[Input]:
    """The rows, a number behind the names that came before."""
    seen: Counter[str] = Counter()
    for row in inputs:
        seen[row.name] += 1
    again: Counter[str] = Counter()
    named = []
    for row in inputs:
        again[row.name] += 1
        number = f"_{again[row.name]}" if seen[row.name] > 1 else ""
        named.append(replace(row, name=row.name + number))
    return named


def first_flag(argv: Sequence[str]) -> str:
    flags = [word.lstrip("-").partition("=")[0] for word in argv if word.startswith("-")]
    return flags[0] if flags and flags[0] else ""


def lines(
    script: str, table: str | Iterable[str], before: Sequence[str] = (), **more: object
) -> list[Input]:
    inputs = []
    for line in table.splitlines() if isinstance(table, str) else table:
        if line:
            argv = tuple(shlex.split(line))
            name = slug(f"{script.removeprefix('vllm_')}_{line}")
            fields = {"says": "" if more.get("code") == 0 else first_flag(argv), **more}
            inputs.append(Input(name, script, (*before, *argv), **fields))  # type: ignore[arg-type]
    return inputs


ENTRY = tuple(
    sorted(p.stem for p in (Path(__file__).resolve().parents[2] / "scripts").glob("vllm_*.py"))
)
DRY = ("--dry_run",)
# What a dry run finds wrong on any machine.
DRY_WRONG = """
--dataset nowhere.jsonl
--dataset '\x1b[31m.jsonl'
--dataset '\udcff.jsonl'
"""
DRY_VLLM_WRONG = """
--engine_args '{"a": "\\u001b[31m\\u202e"}'
--engine_args '{"compilation_config": {"a": [1, null]}}'
"""
# A dry run survives all of these.
DRY_RUNS = """
--output_postfix ''
--output_postfix ..
--output_postfix 'a b'
--output_postfix '\x1b[31m\u202e'
--served_model_name '\x1b]0;owned\x07'
--served_model_name '\u202e\u2066'
--served_model_name '\udcff\udcfe'
--output_postfix '\udcff'
--dataset quickstart
--model_name nowhere/model
--model_name '\x1b[31m'
--temperature 0
--temperature -0
--top_p 1e-9
--seed 99999999999999999999999999
--limit 999999999999
--max_failures 0
--stop_when_stable 2
--request_timeout 1e-9
--max_outage 0
--schedule barrier
--prompt_as_text
--force_sections
--overwrite
--results_dir /nowhere
--base_url http://[::1]:9/v1
"""
# An honest server serves these: complete.
RUNS = """
--limit 1
--num_seeds 2
--stop_when_stable 2
--schedule barrier
--prompt_as_text
--force_sections
--overwrite
--max_failures 0
--max_concurrency 1
--temperature 0
--top_p 0.5
--top_k 1
--output_postfix ''
--output_postfix 'a b'
--output_postfix '\x1b[31m\u202e'
--results_dir 'r/\u202e'
--results_dir ./r/../r
--model_name ./gpt-oss-120b/
--base_url http://live/v1/
"""
OF_A_SERVER = """
--served_model_name other
--served_model_name ''
--max_new_tokens 999999
--base_url http://127.0.0.1:9/v1
"""
VLLM_REFUSES = """
--engine_args '{"max_model_len": "many"}'
--dtype '\x1b[31m'
"""
DRY_VLLM = """
--engine_args '{}'
"""


def rows() -> list[Input]:
    inputs: list[Input] = []
    for flag, values in VALUES.items():
        flag_lines = tuple(f"--{flag} {value}" for value in values)
        before = SERVER if flag != "base_url" else ("--engine", "openai")
        inputs += lines(SCRIPT, flag_lines, before, says=flag)
    for flag, values in VLLM_VALUES.items():
        inputs += lines(SCRIPT, tuple(f"--{flag} {value}" for value in values), DRY, says=flag)
    inputs += lines(SCRIPT, OTHER_ENGINE, SERVER)
    inputs += lines(SCRIPT, OTHER_SERVER)
    inputs += lines(SCRIPT, MISTYPED, SERVER, says="")
    inputs += lines(SCRIPT, ("stray", "'two words'", "''"), SERVER)
    inputs += lines(SCRIPT, DRY_RUNS, (*DRY, *SERVER), code=0)
    inputs += lines(SCRIPT, DRY_VLLM, DRY, code=0)
    inputs += lines(SCRIPT, VLLM_REFUSES, DRY, says="vLLM refuses")
    inputs += lines(SCRIPT, DRY_WRONG, (*DRY, *SERVER))
    inputs += lines(SCRIPT, DRY_VLLM_WRONG, DRY, says="engine_args")
    inputs += lines(SCRIPT, RUNS, LIVELY, code=0)
    inputs += lines(SCRIPT, OF_A_SERVER, LIVELY)
    for script in ENTRY:
        real = script != SCRIPT
        bad = ("--temperature 3", "--reflex_size no", "--no_such_flag")
        inputs += lines(script, bad[:1], says="temperature", real=real)
        inputs += lines(script, bad[1:], says="") if real else []
        inputs += lines(script, ("--help",), code=0, real=True)
    for script, own in (("compare_results", OF_COMPARE), ("report", OF_REPORT)):
        inputs += lines(script, own, says="")
        inputs += lines(script, PLACES, says="")
        inputs.append(Input(f"{script}_without_arguments", script, (), says="RESULTS", real=True))
        inputs.append(Input(f"{script}_help", script, ("--help",), 0, real=True))
    inputs += lines("compare_results", SHOWN, code=0)
    inputs += lines("report", ("good", "several", "good several", "-o out.html goo*"), code=0)
    key = f'{{"hf_token": "{SECRET}"}}'
    argv = (*DRY, "--engine_args", key)
    inputs.append(Input("key_in_engine_args", SCRIPT, argv, 0, hides=SECRET))
    for name, key in {"blank": "a b", "line": "a\nb", "beyond_ascii": "é", "nul": "\x01"}.items():
        env = {"OPENAI_API_KEY": key}
        inputs.append(Input(f"key_with_{name}", SCRIPT, SERVER, 2, "OPENAI_API_KEY", env=env))
    return inputs
