"""The preflight's checks one at a time: heads, GPUs, KV cache, weights, the machine, vLLM's
arguments, the hub."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kflow.engines.vllm_engine import arguments as engine_arguments
from kflow.engines.vllm_engine.memory import GIB, Model, facts
from kflow.ground import hub
from kflow.ground.hardware import Gpu
from kflow.running import checks, machine
from kflow.running.checks import KNOWN, NOT_CHECKED, NOTE, OK, WRONG, Workload
from kflow.running.machine import Weights
from kflow.types import Unreachable, UserError

MODELS = {name.rpartition("/")[2]: facts(config) for name, (config, _) in KNOWN.items()}
OSS_120B, QWEN3 = MODELS["gpt-oss-120b"], MODELS["Qwen3-235B-A22B-Thinking-2507"]
H100 = Gpu("NVIDIA H100", 80 * GIB, (9, 0))
H200 = Gpu("NVIDIA H200", 141 * GIB, (9, 0))
THIRTY = Workload(30, 30, 1920, 262144)


@pytest.mark.parametrize(
    ("model", "tensor", "state"),
    [
        (QWEN3, 8, OK),
        (QWEN3, 1, OK),
        (QWEN3, 7, WRONG),
        (QWEN3, 6, WRONG),
        (QWEN3, 3, WRONG),
        (OSS_120B, 16, OK),
        (OSS_120B, 5, WRONG),
        (None, 7, NOT_CHECKED),
        (Model(1, 0, 0, 0, 8, 2, 9), 7, NOT_CHECKED),
        (QWEN3, "eight", OK),  # for vLLM to refuse
    ],
)
def test_heads_by_tensor_parallel(model: Model | None, tensor: object, state: str) -> None:
    assert checks.heads(model, {"tensor_parallel_size": tensor}).state == state


@pytest.mark.parametrize(
    ("gpus", "arguments", "state"),
    [
        (None, {"tensor_parallel_size": 8}, NOT_CHECKED),
        ((), {"tensor_parallel_size": 8}, NOT_CHECKED),
        ((H100,) * 8, {"tensor_parallel_size": 8}, OK),
        ((H100,) * 4, {"tensor_parallel_size": 8}, WRONG),
        ((H100,) * 8, {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}, WRONG),
        ((H100,) * 8, {"tensor_parallel_size": 2, "data_parallel_size": 4}, OK),
        (
            (H100,) * 8,
            {
                "tensor_parallel_size": 8,
                "pipeline_parallel_size": 2,
                "distributed_executor_backend": "ray",
            },
            OK,
        ),
    ],
)
def test_gpus(gpus: tuple[Gpu, ...] | None, arguments: dict[str, object], state: str) -> None:
    assert checks.devices(gpus, arguments).state == state


@pytest.mark.parametrize(
    ("model", "gpus", "arguments", "load", "state", "words"),
    [
        (QWEN3, (H100,) * 8, {}, THIRTY, NOTE, "preempts rollouts"),
        (QWEN3, (H200,) * 8, {}, THIRTY, NOTE, "5.9 full windows"),
        (QWEN3, (H200,) * 8, {}, Workload(3, 3, 192, 262144), OK, "for 3 rollouts"),
        (QWEN3, (H100,) * 8, {"gpu_memory_utilization": 0.8}, THIRTY, WRONG, "does not fit"),
        (QWEN3, (H100,) * 8, {"tensor_parallel_size": 4}, THIRTY, WRONG, "0 tokens"),
        (OSS_120B, (H100,) * 8, {}, Workload(30, 30, 1920, 131072), OK, "for 30 rollouts"),
        (OSS_120B, (H100,) * 8, {}, Workload(480, 480, 1, 131072), NOTE, "preempts rollouts"),
        (QWEN3, None, {}, THIRTY, NOT_CHECKED, "48,128 bytes on each GPU"),
        (None, (H100,) * 8, {}, THIRTY, NOT_CHECKED, "config does not say enough"),
    ],
)
def test_the_kv_cache(
    model: Model | None,
    gpus: tuple[Gpu, ...] | None,
    arguments: dict[str, object],
    load: Workload,
    state: str,
    words: str,
) -> None:
    (check,) = checks.cache(model, gpus, {"tensor_parallel_size": 8} | arguments, load)
    assert (check.state, words in check.text) == (state, True), check


def test_pipeline_stages_share_weights_and_cache() -> None:
    both = {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}
    (check,) = checks.cache(QWEN3, (H100,) * 16, both, THIRTY)
    assert "7.2 full windows" in check.text


@pytest.mark.parametrize(
    ("arguments", "in_flight", "state", "words"),
    [
        ({}, 128, OK, "max_num_seqs 128"),
        ({}, 480, NOTE, "352 wait in the queue"),
        ({"max_num_seqs": 480}, 480, OK, "max_num_seqs 480"),
        ({"max_num_seqs": 16}, 30, NOTE, "14 wait"),
        ({"data_parallel_size": 4}, 480, OK, "max_num_seqs 512"),
    ],
)
def test_sequences(arguments: dict[str, object], in_flight: int, state: str, words: str) -> None:
    check = checks.sequences(arguments, Workload(1, in_flight, 1, 64))
    assert (check.state, words in check.text) == (state, True)


PLACE = Path("/weights")
TB = 10**12


@pytest.mark.parametrize(
    ("weights", "size", "free", "local", "here", "state"),
    [
        (Weights(9, (), 9, PLACE), None, 0, False, True, OK),
        (Weights(9, (), 9, PLACE), None, 0, True, True, OK),
        (Weights(9, ("b",), 18, PLACE), None, TB, True, False, WRONG),
        (Weights(0, (), None, PLACE), None, TB, True, False, WRONG),
        (Weights(0, (), None, PLACE), 470 * 10**9, TB, False, True, NOTE),
        (Weights(0, (), None, PLACE), 470 * 10**9, TB // 4, False, True, WRONG),
        (Weights(0, (), None, PLACE), 470 * 10**9, TB // 4, False, False, NOT_CHECKED),
        (Weights(TB // 2, ("b",), TB, PLACE), None, TB // 2, False, True, NOTE),
        (Weights(0, (), None, PLACE), None, TB, False, True, NOT_CHECKED),
    ],
)
def test_weights(
    weights: Weights, size: int | None, free: int, local: bool, here: bool, state: str
) -> None:
    assert checks.stored(weights, size, free, local, here).state == state


@pytest.mark.parametrize(
    ("transfer", "installed", "states"),
    [
        ("1", {"huggingface-hub": "0.36.2"}, [WRONG]),
        ("0", {"huggingface-hub": "0.36.2"}, []),
        ("1", {"huggingface-hub": "2.4.0"}, []),
        ("1", {"huggingface-hub": "0.36.2", "hf_transfer": "0.1.9"}, []),
        ("1", {}, []),
    ],
)
def test_downloads(transfer: str, installed: dict[str, str | None], states: list[str]) -> None:
    checked = checks.downloads({"HF_HUB_ENABLE_HF_TRANSFER": transfer}, installed)
    assert [check.state for check in checked] == states


# The machine.


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, [H100, H200]),
        ("1", [H200]),
        ("1,0", [H100, H200]),
        ("", []),
        ("7", []),
        ("GPU-aa", [H100]),  # by name: how many is known, not which
    ],
)
def test_gpus_are_those_that_are_visible(named: str | None, expected: list[Gpu]) -> None:
    assert list(machine.visible((H100, H200), named)) == expected


def index(folder: Path, **sizes: int) -> None:
    """A model's index of shards, of which those with a size are there."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = {f"layer.{name}": f"{name}.safetensors" for name in sizes}
    content = {"metadata": {"total_size": 1000}, "weight_map": shards}
    (folder / machine.INDEX).write_text(json.dumps(content))
    for name, size in sizes.items():
        if size:
            (folder / f"{name}.safetensors").write_bytes(bytes(size))


def test_shards_of_a_folder(tmp_path: Path) -> None:
    index(tmp_path, a=600, b=400)
    assert machine.weights(str(tmp_path), None) == Weights(1000, (), 1000, tmp_path)
    index(tmp_path, a=600, c=0)
    assert machine.weights(str(tmp_path), None) == Weights(600, ("c.safetensors",), 1000, tmp_path)
    (tmp_path / machine.INDEX).write_text('{"weight_map": 3}')
    assert machine.weights(str(tmp_path), None).here == 1000


def test_shards_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--m"
    assert machine.weights("org/m", None) == Weights(0, (), None, tmp_path)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    index(repository / "snapshots" / "abc", a=600, b=0)
    assert machine.weights("org/m", None) == Weights(600, ("b.safetensors",), 1000, tmp_path)
    assert machine.weights("org/m@other", None).here == 0
    assert machine.weights("no/such/name", None).here == 0


def test_free_space_of_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    assert machine.free(tmp_path / "a" / "b") == machine.free(tmp_path) > 0


# vLLM's arguments.


def a_vllm(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """One that takes these arguments."""

    def check(self: Any) -> None:
        if self.dtype == "float5":
            raise ValueError("what is float5?\nmore")

    fields = [(name, object, None) for name in (*names, "dtype")]
    fake = make_dataclass("EngineArgs", fields, namespace={"__post_init__": check})
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(EngineArgs=fake))


def test_arguments_are_asked_of_vllm_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    a_vllm(monkeypatch, "model", "hf_token")
    engine_arguments.build({"model": "m", "dtype": "float16"})
    with pytest.raises(UserError, match="no engine argument 'nonsense', 'other': correct --engine"):
        engine_arguments.build({"model": "m", "nonsense": 1, "other": 2})
    with pytest.raises(UserError, match="what is float5") as refusal:
        engine_arguments.build({"dtype": "float5", "hf_token": "hf_secret"})
    assert not any(word in str(refusal.value) for word in ("more", "hf_secret"))


def test_without_vllm_its_arguments_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(Unreachable, match="does not import here"):
        engine_arguments.build({"nonsense": 1})


@pytest.mark.engine
def test_the_installed_vllm_is_asked() -> None:
    arguments = {"model": "m", "dtype": "float32", "max_model_len": 64, "enforce_eager": True}
    engine_arguments.build(arguments)
    with pytest.raises(UserError, match="no engine argument 'nonsense'"):
        engine_arguments.build(arguments | {"nonsense": 1})
    with pytest.raises(UserError, match="vLLM refuses"):
        engine_arguments.build(arguments | {"compilation_config": {"pass_config": 3}})


@pytest.mark.parametrize(("offline", "kind"), [("1", Unreachable), ("", UserError)])
def test_a_hub_that_was_asked_and_refused_is_the_users_mistake(
    offline: str, kind: type[UserError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    assert type(hub.failure("gone")) is kind


@pytest.mark.parametrize(("version", "kept"), [("0.36.2", True), ("2.4.0", False)])
def test_a_variable_that_the_hubs_library_ignores_is_unset(
    version: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "version_of", {"huggingface-hub": version}.get)
    monkeypatch.setenv("HF_HUB_ENABLE_HF_TRANSFER", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.prepare.__wrapped__()
    assert ("HF_HUB_ENABLE_HF_TRANSFER" in os.environ) is kept


@pytest.mark.parametrize(
    ("name", "path"),
    [("org/m", False), ("m", False), ("/m", True), ("./m", True), ("~/m", True), ("a/b/c", True)],
)
def test_what_can_only_be_a_path(name: str, path: bool) -> None:
    assert hub.is_path(name) is path
