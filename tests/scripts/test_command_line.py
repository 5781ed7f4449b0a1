"""The command line: one sentence and the right exit code for whatever goes wrong, and no trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.fakes import ScriptedEngine, contents, obliging
from helpers.scripted import ALL, ROOT, refused, run_script, write_problems
from kflow.running import settings
from kflow.types import EngineDied, Request

QWEN = "vllm_kflow_qwen"
HEAVY = ("vllm", "torch", "transformers", "datasets")


def child(home: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, without a network, that finds the scripts and these helpers."""
    given = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "scripts"), str(ROOT / "tests"))),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home / "hub"),
        **environment,
    }
    return subprocess.run(
        [sys.executable, *command], cwd=home, env=given, capture_output=True, text=True
    )


def script(name: str) -> str:
    return str(ROOT / "scripts" / f"{name}.py")


def test_a_folder_whose_name_is_no_text_can_be_named(tmp_path: Path) -> None:
    flags = ["--reflex_size", "1", "--output_postfix", os.fsdecode(b"caf\xe9")]
    ran = run_script(QWEN, flags, tmp_path, ScriptedEngine())
    assert (ran.code, len(ran.step(0))) == (0, 4)


def test_a_model_that_is_nowhere_is_refused_without_a_network(tmp_path: Path) -> None:
    flags = ["--model_name", str(tmp_path / "gone"), "--dataset", "quickstart"]
    done = child(tmp_path, script(QWEN), *flags)
    assert (done.returncode, done.stdout) == (2, "")
    (sentence,) = done.stderr.splitlines()
    assert f"Cannot find the model {tmp_path}/gone: there is no such folder here" in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stop", "sentence"),
    [
        (OSError(28, "No space left on device", "x"), "Cannot use x (No space left on device)"),
        (EngineDied("\x1b[31mred\r\n\x07bell"), r"\x1b[31mred\r\n\x07bell"),
    ],
)
def test_a_run_that_is_stopped_says_how_to_go_on(
    stop: BaseException, sentence: str, tmp_path: Path
) -> None:
    engine = ScriptedEngine(stop_after=2, stop_with=stop)
    ran = run_script(QWEN, ["--reflex_size", "2"], tmp_path, engine)
    assert ran.code == 1
    assert ran.err == f"{sentence}. Run the same command again to resume.\n"
    assert engine.closed == 1
    journals = contents(ran.folder, "rollouts_*")
    assert sum(journal.count(b'"pred_solution"') for journal in journals.values()) == 2


def test_ctrl_c_is_an_interruption(tmp_path: Path) -> None:
    def interrupting(request: Request, prompt: str) -> str:
        signal.raise_signal(signal.SIGINT)
        return obliging(request, prompt)

    ran = run_script(QWEN, [], tmp_path, ScriptedEngine(interrupting))
    assert ran.code == 130
    assert ran.err.startswith("Interrupted. ")


TERMINATED = """
import os, signal, sys
from pathlib import Path
from helpers.fakes import ScriptedEngine
from helpers.scripted import run_script

def terminating(waiting):
    if len(engine.delivered) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return waiting[:1]

engine = ScriptedEngine(pick=terminating)
ran = run_script("vllm_kflow_qwen", ["--reflex_size", "2"], Path.cwd(), engine)
print(ran.err, file=sys.stderr, end="")
print(engine.closed, len(engine.delivered))
sys.exit(ran.code)
"""


def test_sigterm_ends_the_run_in_good_order(tmp_path: Path) -> None:
    done = child(tmp_path, "-c", TERMINATED)
    assert (done.returncode, done.stdout) == (143, "1 2\n")
    assert done.stderr == "Terminated. Run the same command again to resume.\n"
    (journal,) = tmp_path.glob("results/*/model/rollouts_0.jsonl")
    assert journal.read_bytes().count(b'"pred_solution"') == 2


@pytest.mark.parametrize("name", ALL)
def test_every_script_explains_itself(name: str, tmp_path: Path) -> None:
    ran = run_script(name, ["--help"], tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert f"python scripts/{name}.py" in ran.out
    assert not (tmp_path / "results").exists()


BLOCK = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture
def blocked(tmp_path: Path) -> str:
    """A PYTHONPATH under which none of the heavy libraries can be imported."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BLOCK)
    return os.pathsep.join(map(str, (folder, ROOT / "scripts", ROOT / "tests")))


def test_help_needs_no_engine_and_names_the_groups(tmp_path: Path, blocked: str) -> None:
    assert "vllm is blocked" in child(tmp_path, "-c", "import vllm", PYTHONPATH=blocked).stderr
    done = child(tmp_path, script(QWEN), "--help", PYTHONPATH=blocked)
    assert (done.returncode, done.stderr) == (0, "")
    titles = [f"{group.title}:" for group in settings.GROUPS]
    assert [line for line in done.stdout.splitlines() if line in titles] == titles


WHOLE_RUN = """
import sys
from pathlib import Path
import kflow.experiment
print([name for name in sys.argv[1:] if name in sys.modules])
from helpers.fakes import ScriptedEngine
from helpers.scripted import run_script
ran = run_script("vllm_kflow_qwen", ["--reflex_size", "2"], Path.cwd(), ScriptedEngine())
print(ran.code, [name for name in sys.argv[1:] if name in sys.modules])
"""


def test_only_the_engine_and_the_tokenizer_import_heavy_libraries(
    tmp_path: Path, blocked: str
) -> None:
    done = child(tmp_path, "-c", WHOLE_RUN, *HEAVY, PYTHONPATH=blocked)
    assert (done.stderr, done.stdout) == ("", "[]\n0 []\n")


@pytest.fixture
def without_vllm(tmp_path: Path) -> str:
    """A PYTHONPATH under which vLLM is not installed."""
    folder = tmp_path / "without_vllm"
    folder.mkdir()
    (folder / "vllm.py").write_text("raise ImportError('there is none')")
    return os.pathsep.join(map(str, (folder, ROOT / "scripts", ROOT / "tests")))


def test_a_dry_run_without_a_network_shows_what_it_can(tmp_path: Path, without_vllm: str) -> None:
    flags = ["--dry_run", "json", "--temperature", "0.5"]
    done = child(tmp_path, script(QWEN), *flags, PYTHONPATH=without_vllm)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    record, comments = done.stdout.split("\n# results: ")
    chosen = json.loads(record)["settings"]
    assert (chosen["temperature"], chosen["reflex_size"]) == (0.5, 64)
    assert json.loads(record)["engine"]["arguments"]["max_model_len"] == 262144
    assert "[Answer]: The final answer alone" in comments
    missing = [line for line in comments.splitlines() if line.startswith("# not checked: ")]
    assert "Cannot load the data set yentinglin/aime_2025" in missing[0]
    for words in ("Cannot load a tokenizer for --model_name Qwen/", "vLLM does not import here"):
        assert any(words in line for line in missing)
    assert {path.name for path in tmp_path.iterdir()} <= {"hub", "without_vllm"}


def test_a_dry_run_prints_what_run_json_then_holds_and_the_first_prompt(tmp_path: Path) -> None:
    flags = ["--reflex_size", "1", "--max_new_tokens", "5000"]
    flags += ["--engine_args", '{"hf_token": "hf_secret", "seed": 3}']
    dry = run_script(QWEN, [*flags, "--dry_run", "json"], tmp_path)
    assert (dry.code, dry.err) == (0, "")
    assert "<user>\nHow many roads lead to the «first|question»?\n\nSolve the problem" in dry.out
    assert "reply up to 4500" in dry.out
    assert not dry.results.exists()
    run = run_script(QWEN, flags, tmp_path, ScriptedEngine()).run()
    printed = json.loads(dry.out.partition("\n\n# ")[0])
    assert printed == {name: run[name] for name in run if name != "sessions"}


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, without_vllm: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(bytes(9))
    rows = [(str(number), "How many? " * 20_000, 1) for number in range(2)]
    write_problems(tmp_path / "problems.jsonl", rows)
    command = (
        f"{sys.executable} {script('vllm_kflow_oss')} --model_name model --dataset problems.jsonl "
        "--dry_run json --max_new_tokens 900000 | head -1; exit ${PIPESTATUS[0]}"
    )
    program = f"import subprocess; exit(subprocess.call(['bash', '-c', {command!r}]))"
    done = child(tmp_path, "-c", program, PYTHONPATH=without_vllm)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


@pytest.mark.parametrize("script", ["vllm_kflow_oss", "report"])
def test_a_python_without_the_packages_is_one_sentence(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-S", ROOT / "scripts" / f"{script}.py", "--help"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "activate the environment first" in done.stderr


def test_a_dry_run_finds_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    ran = run_script(QWEN, ["--dry_run", "--output_postfix", "x" * 300], tmp_path)
    refused(ran, "a name in it is too long")
