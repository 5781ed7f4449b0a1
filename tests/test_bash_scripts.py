"""The published commands: every bash script with --dry_run resolves to what METHOD.md says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kflow.families import gpt_oss, qwen

FOLDER = Path(__file__).resolve().parents[1] / "bash_scripts"
HELPERS = {"quickstart", "test", "cpu_environment", "gpt_oss_environment", "qwen3_environment"}
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
MISTAKES, REGENERATION, POSITIVE, MARKOVIAN = "Mistakes", "Regeneration", "Positive", "Markovian"
PARALLEL, REFINE, RSA, TRT = "Parallel", "Refine", "Rsa", "Trt"
STEPS = {RSA: 10, TRT: 17}

# METHOD.md: bash script -> data, prefix of the results, method, a reply's share of the window.
OSS = {
    "gpt_oss": (AIME25, "vllm", MISTAKES, 0.9),
    "gpt_oss24": (AIME24, "vllm24", MISTAKES, 0.9),
    "gpt_oss_knowledgeRegen": (AIME25, "vllm_regen", REGENERATION, 0.8),
    "gpt_oss_positiveKnowledge": (AIME25, "vllm_posK", POSITIVE, 0.8),
    "gpt_oss_markovian_thinking": (AIME25, "vllm_markov", MARKOVIAN, 0.9),
    "gpt_oss_parallel_thinking": (AIME25, "vllm_parallel", PARALLEL, 0.9),
    "gpt_oss_refine": (AIME25, "vllm_refine", REFINE, 0.9),
    "gpt_oss_rsa": (AIME25, "vllm_rsa", RSA, 0.9),
    "gpt_oss_trt": (AIME25, "vllm_trt", TRT, 0.9),
}
QWEN = {
    "qwen3": (AIME25, "vllm", MISTAKES, 0.9),
    "qwen3_24": (AIME24, "vllm24", MISTAKES, 0.9),
    "qwen3_knowledgeRegen": (AIME25, "vllm_regen", REGENERATION, 0.9),
    "qwen3_positiveKnowledge": (AIME25, "vllm_posK", POSITIVE, 0.9),
    "qwen3_markovian_thinking": (AIME25, "vllm_markov", MARKOVIAN, 0.9),
    "qwen3_markovian_whole_tail": (AIME25, "vllm_markov_tail", MARKOVIAN, 0.9),
    "qwen3_parallel_thinking": (AIME25, "vllm_parallel", PARALLEL, 0.9),
    "qwen3_refine": (AIME25, "vllm_refine", REFINE, 0.9),
    "qwen3_rsa": (AIME25, "vllm_rsa", RSA, 0.9),
    "qwen3_trt": (AIME25, "vllm_trt", TRT, 0.9),
}


# A hub that is out of reach, found out without importing the libraries that would say so.
NO_HUB = {
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
def hf_hub_download(*args, **kwargs): raise OSError("no hub here")
""",
}


def dry_run(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration a script prints, and the environment it gives its python."""
    environment = folder / f"{name}.env"
    binaries = folder / f"{name}.bin"
    binaries.mkdir()
    python = binaries / "python"
    python.write_text(f'#!/bin/sh\nenv >"{environment}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for file, text in NO_HUB.items():
        (binaries / file).write_text(text)
    done = subprocess.run(
        ["bash", str(FOLDER / f"{name}.sh"), "--dry_run", "--seed", "7"],
        env={
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "HOME": str(folder),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(binaries),
        },
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    printed = re.search(r"# configuration\n(\{.*?\n\})\n", done.stdout, re.DOTALL)
    assert printed, done.stdout
    lines = environment.read_text().splitlines()
    return json.loads(printed[1]), dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture(scope="module")
def resolved(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
    folder = tmp_path_factory.mktemp("elsewhere")
    with ThreadPoolExecutor(2) as pool:
        names = [*OSS, *QWEN]
        return dict(zip(names, pool.map(lambda name: dry_run(name, folder), names), strict=True))


def test_the_table_names_every_script() -> None:
    assert {path.stem for path in FOLDER.glob("*.sh")} - HELPERS - set(SERVERS) == {*OSS, *QWEN}


@pytest.mark.parametrize("name", [*OSS, *QWEN])
def test_resolves_to_the_published_configuration(
    name: str, resolved: dict[str, tuple[dict[str, Any], dict[str, str]]]
) -> None:
    configuration, environment = resolved[name]
    oss = name in OSS
    dataset, prefix, method, fraction = (OSS | QWEN)[name]
    window, model = (131072, OSS_MODEL) if oss else (262144, QWEN_MODEL)
    flags, experiment = configuration["flags"], configuration["experiment"]
    expected = {"model_name": model, "max_new_tokens": window, "temperature": 0.6, "seed": 7}
    expected |= {"reflex_size": STEPS.get(method, 64), "dataset": dataset}
    expected |= {"split": "train", "limit": None}
    expected |= {"output_postfix": "", "num_seeds": 1, "schedule": "free", "engine_args": {}}
    expected |= {"trust_remote_code": False, "force_sections": False, "stop_when_stable": None}
    assert {flag: flags[flag] for flag in expected} == expected
    assert configuration["published_engine_arguments"] == (OSS_ENGINE if oss else QWEN_ENGINE)
    assert experiment["method"] == method
    assert configuration["fraction"] == fraction
    results = FOLDER.parent / "results" / f"{prefix}_{window}_" / model.split("/")[1]
    assert Path(configuration["results"]).resolve() == results
    published = OSS_ENVIRONMENT if oss else QWEN_ENVIRONMENT
    assert {variable: environment.get(variable) for variable in published} == published


def test_no_two_resolve_to_the_same(
    resolved: dict[str, tuple[dict[str, Any], dict[str, str]]],
) -> None:
    texts = {json.dumps(configuration, sort_keys=True) for configuration, _ in resolved.values()}
    experiments = {
        json.dumps([c["experiment"], c["flags"]["dataset"], c["flags"]["model_name"]])
        for c, _ in resolved.values()
    }
    assert len(texts) == len(experiments) == len(resolved)


def arguments_of(flags: list[str]) -> dict[str, object]:
    """Flags of `vllm serve` as the arguments they set."""
    found: dict[str, object] = {}
    for place, flag in enumerate(flags):
        if flag.startswith("--"):
            given = [word for word in flags[place + 1 : place + 2] if not word.startswith("--")]
            name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
            found[name] = not flag.startswith("--no-") if not given else given[0]
    return found


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_started_with_the_published_settings(name: str, tmp_path: Path) -> None:
    for command, text in {
        "vllm": f'printf "%s\\0" "$@" >"{tmp_path}/argv"; env >"{tmp_path}/env"',
        "python": "echo 8",
    }.items():
        (tmp_path / command).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / command).chmod(0o755)
    subprocess.run(
        ["bash", str(FOLDER / f"{name}.sh"), "--port", "8001", "--enable-x", "a b"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        cwd=tmp_path,
        check=True,
    )
    family = SERVERS[name]
    serve, model, *flags = (tmp_path / "argv").read_text().split("\0")[:-1]
    assert (serve, model) == ("serve", family.model)
    assert flags[-4:] == ["--port", "8001", "--enable-x", "a b"]
    found = arguments_of(flags[:-4])
    expected: dict[str, object] = {
        "max_model_len": family.max_new_tokens,
        "tensor_parallel_size": 8,
    }
    expected |= family.engine_args
    assert found.keys() == expected.keys()
    for argument, value in expected.items():
        if argument == "cuda_graph_sizes":
            value = 2048
        said = found[argument]
        assert (json.loads(str(said)) if isinstance(value, dict) else said) == (
            value if isinstance(value, (bool, dict)) else str(value)
        )
    published = OSS_ENVIRONMENT if name == "serve_gpt_oss" else QWEN_ENVIRONMENT
    assert set((tmp_path / "env").read_text().splitlines()) >= {
        f"{variable}={value}" for variable, value in published.items()
    }
