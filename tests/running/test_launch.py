"""What an engine is started with: recorded, printed, and the same for all runs in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import ScriptedChat, ScriptedEngine
from helpers.nodes import H100
from helpers.scripted import QUESTIONS, run_script, run_study
from kflow.engines.vllm_engine import arguments, recipes, vllm
from kflow.engines.vllm_engine.recipes import ATTENTION, FUSION, MXFP8, Installed
from kflow.families import gpt_oss, qwen
from kflow.families.family import Family
from kflow.ground import hardware
from kflow.results.manifest import Model
from kflow.running import engine as running_engine
from kflow.running import preflight, provenance
from kflow.running.engine import EngineSpec
from kflow.running.settings import Settings

OFF = "Unlike the published recipe: async_scheduling is off: vLLM 0.10.2 loses the reply of a "
MXFP4 = {"quantization_config": {"quant_method": "mxfp4"}}


class Started:
    """In the place of VllmEngine: notes what it is given, and the environment it starts in."""

    engines: list[tuple[dict[str, Any], dict[str, str]]]

    def __init__(self, args: Mapping[str, Any], sampling: object, decode: object) -> None:
        self.engines.append((dict(args), dict(os.environ)))

    def close(self) -> None:
        pass


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Eight H100s with vLLM 0.10.2; gives what engines were started with."""
    engines: list[tuple[dict[str, Any], dict[str, str]]] = []
    monkeypatch.setattr(Started, "engines", engines, raising=False)
    monkeypatch.setattr(vllm, "VllmEngine", Started)
    monkeypatch.setattr(recipes, "installed", lambda: Installed("vllm", "0.10.2"))
    monkeypatch.setattr(recipes, "gpu_count", lambda: 8)
    monkeypatch.setattr(hardware, "gpus", lambda: (H100,) * 8)
    monkeypatch.setattr(provenance, "config", lambda name, model: MXFP4)
    for name in (ATTENTION, FUSION, MXFP8):
        monkeypatch.setenv(name, "")  # restored at the end
        monkeypatch.delenv(name)
    return engines


def specified(in_flight: int, family: Family = gpt_oss.FAMILY, **settings: Any) -> EngineSpec:
    values: dict[str, Any] = {"model_name": "m", "max_new_tokens": 131_072, "reflex_size": 64}
    chosen = Settings(**(values | settings))
    return running_engine.specify(family, chosen, Model("m"), {}, in_flight)


def test_the_engine_starts_with_the_recipes_environment(
    node: list[tuple[dict[str, Any], dict[str, str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints and describes how it deviates from the recipe."""
    _, description = specified(480).start(ScriptedChat(), ())
    ((arguments, environment),) = node
    assert (arguments["max_num_seqs"], arguments["async_scheduling"]) == (480, False)
    published = gpt_oss.FAMILY.environment
    assert {name: environment[name] for name in published} == published
    assert description.recipe == "published"
    lines = capsys.readouterr().out.splitlines()
    prefix = "Unlike the published recipe: "
    assert description.deviations == tuple(line.removeprefix(prefix) for line in lines)
    assert lines[0].startswith(OFF)
    missing = f"{prefix}flashinfer is not installed: the experts have bfloat16 activations, and"
    assert lines[1].startswith(missing)
    specified(30, recipe="throughput").start(ScriptedChat(), ())
    assert not published.keys() & node[1][1].keys()
    assert "flashinfer" not in capsys.readouterr().out


def test_an_ignored_variable_stops_a_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_NO_SUCH_THING", "1")
    installed = recipes.installed()
    assert installed is not None
    assert arguments.sources(installed).exists()
    ran = run_script("vllm_kflow_qwen", ["--reflex_size", "1"], tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert "ignores VLLM_NO_SUCH_THING: unset" in ran.err
    assert not (tmp_path / "results").exists()


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("family", [gpt_oss.FAMILY, qwen.FAMILY], ids=lambda each: each.name)
@pytest.mark.parametrize(("in_flight", "seeds"), [(480, 16), (5000, 1)])
def test_as_published_is_exactly_what_was_published(
    family: Family, in_flight: int, seeds: int
) -> None:
    window = family.max_new_tokens
    spec = specified(in_flight, family, as_published=True, num_seeds=seeds, max_new_tokens=window)
    expected = {"model": "m", "max_model_len": window, "tensor_parallel_size": 8}
    assert spec.arguments == {**family.engine_args, **expected}
    assert spec.environment == family.environment
    assert [each for each in spec.description.deviations if "async" in each] == []
    ours = specified(in_flight, family, num_seeds=seeds, max_new_tokens=window).arguments
    assert (ours["async_scheduling"], ours["max_num_seqs"]) == (False, min(in_flight, 1024))


@pytest.mark.usefixtures("node")
def test_what_is_given_beside_as_published_holds() -> None:
    given = {"async_scheduling": False, "cuda_graph_sizes": [8]}
    arguments = specified(30, as_published=True, max_num_seqs=4, engine_args=given).arguments
    assert {name: arguments[name] for name in given} == given
    assert arguments["max_num_seqs"] == 4


def unlike(script: str, flags: list[str], home: Path) -> tuple[set[str], str]:
    """What a dry run says differs from the published system, and all that it prints."""
    ran = run_script(script, ["--dry_run", "json", *flags], home)
    assert ran.code == 0
    lines = [line.removeprefix("# ") for line in ran.out.splitlines()]
    start = preflight.UNLIKE
    return {line.removeprefix(start) for line in lines if line.startswith(start)}, ran.out


@pytest.mark.usefixtures("node")
def test_a_dry_run_prints_what_differs_from_the_published_system(tmp_path: Path) -> None:
    flags = ["--num_seeds", "2", "--temperature", "0.7", "--reasoning_effort", "low"]
    flags += ["--engine_args", '{"hf_token": "hf_secret"}']
    said, out = unlike("vllm_kflow_oss", flags, tmp_path)
    assert {
        "cuda_graph_sizes is [12], not [2048]",
        "max_num_seqs is 6, not vLLM's own",
        "max_num_batched_tokens is 8192, not vLLM's own",
        "enable_prefix_caching is True, not False",
        "--num_seeds is 2, not 1",
        "--temperature is 0.7, not 0.6",
        "--reasoning_effort is low, not high",
        "the prompts are own wording",
    } <= said
    assert "# experts: Marlin, bfloat16 activations\n" in out
    assert "# unlike the published recipe: async_scheduling is off: vLLM 0.10.2" in out
    assert '"async_scheduling": false' in out
    assert "hf_secret" not in out
    assert not any(each.startswith("async_scheduling") for each in said)


@pytest.mark.usefixtures("node")
def test_a_dry_run_as_published_has_little_to_say_of_the_engine(tmp_path: Path) -> None:
    said, out = unlike("vllm_kflow_oss", ["--as_published", "--schedule", "barrier"], tmp_path)
    assert not any(" is " in each and not each.startswith(("--", "the prompts")) for each in said)
    assert "note: async_scheduling is on: vLLM 0.10.2 loses the reply" in out
    assert not any("barrier" in each and "no chain" in each for each in said)


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(
    ("script", "in_flight"),
    [("vllm_oss_rsa", 3 * 16), ("vllm_oss_parallel_thinking", 3 * 4)],
)
def test_a_run_has_room_for_all_that_it_has_in_flight(
    script: str, in_flight: int, tmp_path: Path
) -> None:
    flags = ["--reflex_size", "4", "--num_seeds", "2", "--max_new_tokens", "20000"]
    engine = ScriptedEngine()
    assert run_script(script, flags, tmp_path, engine).code == 0
    assert engine.arguments["max_num_seqs"] == in_flight * 2


@pytest.mark.usefixtures("node")
def test_a_study_has_room_for_all_of_its_arms(tmp_path: Path) -> None:
    engine = ScriptedEngine(several_runs=True)
    flags = ["--arms", "vllm,vllm_rsa", "--rollouts", "16", "--max_new_tokens", "20000"]
    ran = run_study("study_oss", flags, tmp_path, engine)
    assert ran.code == 0
    assert engine.arguments["max_num_seqs"] == (1 + 16) * len(QUESTIONS)


@pytest.mark.parametrize(
    ("content", "expected"),
    [('{"a": 1}', {"a": 1}), ("[1]", {}), ("{", {}), (None, {})],
)
def test_a_models_config_is_read_where_it_can_be(
    content: str | None, expected: dict[str, int], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert provenance.config(str(tmp_path), Model("m")) == expected
    assert provenance.config(str(tmp_path), None) == {}
