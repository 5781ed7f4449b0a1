"""The published engine: the Qwen scripts on a tiny random Qwen3 with experts, from flags to files,
and the gpt-oss scripts up to vLLM's own checks of what they start it with. They run by themselves,
in an environment of vLLM 0.10.2 or of another version:

    bash bash_scripts/test.sh --published
    bash bash_scripts/test_versions.sh 0.11.0 0.12.0
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from test_engine_gpt_oss import OSS
from test_engine_killed import end_core, engines, on_record, wait_until_gone
from test_engine_killed import start as begin_run
from test_engine_qwen import QWEN
from test_recipes import eight_gpus, node, recipe  # noqa: F401, a fixture

import prepare_smollm2
from helpers.engine_runs import (
    QUESTIONS,
    RIVERS,
    SmolLM2,
    check,
    check_refusal,
    check_sections,
    check_seeds,
    draw_from,
    experiment_of,
    problems,
    run,
    slots_of,
    start,
    steps_of,
)
from helpers.fakes import contents
from helpers.scripted import ROOT
from kflow.engines.vllm_engine import recipes
from kflow.experiment import main
from kflow.families.chat import TemplateChat

pytestmark = [pytest.mark.engine, pytest.mark.published]

HERE = recipes.node().release
# What the model draws from, besides the end of its turn.
WORDS = "The sum of 17 and 25 is 42\nsince nine dogs have 36 legs.\nSo"
WINDOW = 1408
FLAGS = ["--enforce_eager", "--force_sections"]
# Another process's threads may be on a core. With "nobind" 0.20 does not start (vLLM's pull request
# 40569), so there they may be on any.
CORES = ",".join(map(str, sorted(os.sched_getaffinity(0))))
UNBOUND = "all" if HERE < (0, 12) else CORES if HERE[:2] == (0, 20) else "nobind"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of the published Qwen's architecture, with SmolLM2's tokenizer, that
    draws from the tokens of WORDS and soon ends a line or stops. By a second component it does not
    stop after a line's end, which ends most prompts."""
    import torch
    from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(prepare_smollm2.prepare()))
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        num_hidden_layers=2,
        hidden_size=64,
        intermediate_size=64,
        moe_intermediate_size=64,
        num_experts=4,
        num_experts_per_tok=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
    )
    network = Qwen3MoeForCausalLM(config).to(torch.float32)
    (newline,) = tokenizer.encode("\n", add_special_tokens=False)
    likely = [tokenizer.eos_token_id, *tokenizer.encode(WORDS, add_special_tokens=False)]
    draw_from(network, likely)
    with torch.no_grad():
        network.model.embed_tokens.weight[newline, 1] = 10.0
        network.lm_head.weight[tokenizer.eos_token_id, 1] = -1.0
    folder = tmp_path_factory.mktemp("model") / "qwen3-tiny"
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def qwen(model: Path) -> Iterator[SmolLM2]:
    """One engine for all tests of this process."""
    chat = TemplateChat(str(model))
    flags = ["--model_name", str(model), "--max_new_tokens", str(WINDOW)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", UNBOUND)
        with closing(start("vllm_kflow_qwen", [*flags, *FLAGS], chat)) as engine:
            yield SmolLM2(engine, str(model), chat)


@pytest.mark.parametrize("script", QWEN)
def test_qwen_scripts(script: str, qwen: SmolLM2, tmp_path: Path) -> None:
    case = QWEN[script]
    flags = ["--model_name", qwen.model, "--max_new_tokens", str(case.window)]
    flags += [*FLAGS, "--reflex_size", "2", *case.flags]
    kept = run(script, [*flags, *problems(tmp_path)], qwen.engine)
    steps = steps_of(tmp_path)
    check(kept, steps, qwen.chat, case.widths)
    check_sections(steps)
    (record,) = tmp_path.rglob("run.json")
    dtype = json.loads(record.read_bytes())["engine"]["arguments"]["dtype"]
    used = str(qwen.engine._engine.vllm_config.model_config.dtype).removeprefix("torch.")
    assert dtype == used == recipes.cpu_dtype(HERE)
    rollouts = [rollout for _, *records in steps for rollout, _ in slots_of(records)]
    assert {rollout["finish_reason"] for rollout in rollouts} <= {"stop", "length"}


def test_a_seed_gives_the_same_reply_again(qwen: SmolLM2) -> None:
    check_seeds(qwen)


def test_a_refused_prompt_fails_its_rollout_only(qwen: SmolLM2) -> None:
    check_refusal(qwen, WINDOW)


TWICE = """
import sys
from dataclasses import replace
import kflow
from kflow.experiment import parse_flags
from vllm_qwen_parallel_thinking import EXPERIMENT
experiment, settings = parse_flags(EXPERIMENT, sys.argv[1:])
for postfix in ("first", "second"):
    print(kflow.run(experiment, replace(settings, output_postfix=postfix)))
"""


def test_a_second_run_in_the_process(model: Path, tmp_path: Path) -> None:
    """Each starts an engine of its own, and both give the same."""
    flags = ["--model_name", str(model), "--max_new_tokens", "320", "--reflex_size", "2"]
    flags += ["--enforce_eager", "--max_num_seqs", "1", *problems(tmp_path)]
    settings = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": UNBOUND,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "PYTHONPATH": str(ROOT / "scripts"),
    }
    done = subprocess.run(
        [sys.executable, "-c", TWICE, *flags],
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second = (
        contents(folder, "**/predictions_*.json")
        for folder in sorted((tmp_path / "results").iterdir())
    )
    assert len(first) == 2
    assert first == second


STEPS = 8


def begin(model: Path, folder: Path, multiprocess: bool = False) -> subprocess.Popen[bytes]:
    """A run as a user starts it, one rollout at a time: what else is in a batch changes the last
    bits of a logit."""
    flags = ["--model_name", str(model), "--max_new_tokens", "896", "--enforce_eager"]
    flags += ["--reflex_size", str(STEPS), "--max_num_seqs", "1", *problems(folder)]
    return begin_run(flags, multiprocess, folder / "log", UNBOUND)


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run from its start to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert begin(model, folder).wait() == 0, (folder / "log").read_text()
    files = contents(folder / "results", "**/predictions_*.json")
    assert len(files) == STEPS
    return files


@pytest.mark.parametrize("whose", ["program's", "engine's"])
def test_killed_and_resumed(
    whose: str, model: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """kill -9 of the program with an engine inside, and of the engine's own process alone: the run
    goes on where it was, to the same files."""
    log = tmp_path / "log"
    process = begin(model, tmp_path, whose == "engine's")
    try:
        while process.poll() is None and not on_record(tmp_path):
            time.sleep(0.02)
        assert process.poll() is None, log.read_text()
        workers = engines(process.pid)  # in 0.20's builds for CPUs one, even within the program
        if whose == "engine's":
            end_core(process, signal.SIGKILL)
        else:
            process.kill()
        assert process.wait() == (1 if whose == "engine's" else -signal.SIGKILL), log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    wait_until_gone(workers, whose)
    assert 0 < on_record(tmp_path) < STEPS * len(QUESTIONS)
    assert begin(model, tmp_path).wait() == 0, log.read_text()
    assert contents(tmp_path / "results", "**/predictions_*.json") == undisturbed


@pytest.fixture
def gpt_oss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a gpt-oss without weights. 0.10.2 notes in the environment which of its two
    engines a process has started; the other one is for sliding windows on a CPU."""
    from transformers import GptOssConfig

    monkeypatch.delenv("VLLM_USE_V1", raising=False)
    folder = tmp_path / "gpt-oss"
    GptOssConfig(architectures=["GptOssForCausalLM"]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("script", OSS)
def test_the_plan_of_every_gpt_oss_script(
    script: str, gpt_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model_name", str(gpt_oss), "--engine_args", '{"load_format": "dummy"}']
    flags += ["--max_new_tokens", "4096", "--dry_run", "json", *problems(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main(experiment_of(script), flags)
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    assert "# checked: vLLM takes the engine's arguments for this model" in out
    assert "# checked: chat format and vocabulary of gpt_oss found" in out
    assert "<|start|>system<|message|>" in out


@pytest.mark.parametrize("name", ["gpt_oss", "qwen"])
def test_vllm_takes_the_published_arguments(name: str, gpt_oss: Path, model: Path) -> None:
    """Those of a node with eight GPUs, as far as vLLM checks them without any."""
    from vllm import EngineArgs

    folder = {"gpt_oss": gpt_oss, "qwen": model}[name]
    arguments = recipe(name, node(".".join(map(str, HERE))), 30, {"max_model_len": 4096}).arguments
    arguments |= {"model": str(folder), "tensor_parallel_size": 1, "skip_tokenizer_init": True}
    config = EngineArgs(**arguments).create_engine_config()
    assert str(config.model_config.dtype) == "torch.bfloat16"
    assert config.scheduler_config.max_num_seqs == 30
    if name == "gpt_oss":
        passes = vars(config.compilation_config.pass_config)
        assert passes["fuse_allreduce_rms" if HERE >= (0, 12) else "enable_fi_allreduce_fusion"]
        assert passes["eliminate_noops" if HERE >= (0, 12) else "enable_noop"]
        assert "+rms_norm" in config.compilation_config.custom_ops


def test_the_quickstarts_model_is_the_same_for_this_transformers() -> None:
    """The base of its positions, which transformers 4 and 5 name differently."""
    from vllm import EngineArgs

    folder = str(prepare_smollm2.prepare())
    config = EngineArgs(model=folder).create_model_config().hf_config
    named = getattr(config, "rope_parameters", None) or {"rope_theta": config.rope_theta}
    assert named["rope_theta"] == 100_000
    chat = TemplateChat(folder)
    assert chat.decode(chat.render(RIVERS), False).endswith("<|im_start|>assistant\n")
