"""What is found out about a run: the model's content, the hub, this machine; and that no key is
written anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.fakes import ScriptedEngine, brief
from helpers.scripted import Ran, refused, run_script
from kflow import experiment
from kflow.engines.vllm_engine import vllm
from kflow.ground import hub
from kflow.ground.hub import ModelName
from kflow.results.manifest import Model
from kflow.running import provenance
from kflow.running.provenance import fingerprint
from kflow.running.settings import Settings
from kflow.types import UserError
from vllm_kflow_qwen import EXPERIMENT as QWEN

SCRIPT = "vllm_kflow_qwen"

# Weights.


def identify(name: str, recorded: Model | None = None) -> Model:
    return provenance.identify_model(ModelName.parse(name), recorded)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of kilobytes are sampled as those of gigabytes are."""
    for name, size in (("WHOLE_UP_TO", 1 << 12), ("BLOCK", 1 << 10), ("SAMPLE", 1 << 6)):
        monkeypatch.setattr(provenance, name, size)


HEADER = json.dumps({"weight": {"dtype": "F32", "shape": [1 << 14]}, "pad": "x" * 3000}).encode()
SIZE = 8 + len(HEADER) + (1 << 16)


def checkpoint(folder: Path, name: str = "model-1.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"layers": 2}')
    (folder / "tokenizer.json").write_text("{}")
    shard = folder / name
    shard.write_bytes(struct.pack("<Q", len(HEADER)) + HEADER + bytes(range(256)) * 256)
    settle(folder)
    return shard


def settle(folder: Path) -> None:
    """Files with the same time of change."""
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))


def change(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    settle(path.parent)


@pytest.mark.parametrize(
    "at",
    [0, 8 + len(HEADER) // 2, 8 + len(HEADER), SIZE - 1],
)
@pytest.mark.usefixtures("small_blocks")
def test_one_changed_byte_is_seen(at: int, tmp_path: Path) -> None:
    shard = checkpoint(tmp_path / "model")
    before = fingerprint(tmp_path / "model")
    change(shard, at)
    assert fingerprint(tmp_path / "model") != before
    change(shard, at)
    assert fingerprint(tmp_path / "model") == before


@pytest.mark.parametrize("name", ["config.json", "model-1.safetensors"])
@pytest.mark.usefixtures("small_blocks")
def test_a_changed_added_or_missing_file_is_another_model(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    checkpoint(folder)
    seen = {fingerprint(folder)}
    (folder / f"more-{name}").write_bytes(b"{}")
    seen.add(fingerprint(folder))
    (folder / f"more-{name}").unlink()
    (folder / name).write_bytes(b"{ }")
    seen.add(fingerprint(folder))
    (folder / name).unlink()
    seen.add(fingerprint(folder))
    assert len(seen) == 4


@pytest.mark.usefixtures("small_blocks")
def test_texts_about_a_model_and_its_path_are_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / "model")
    checkpoint(tmp_path / "elsewhere" / "model")
    (tmp_path / "model" / "README.md").write_text("New!")
    (tmp_path / "model" / ".cache").mkdir()
    monkeypatch.chdir(tmp_path)
    assert identify("model") == identify("elsewhere/../elsewhere/model/")


@pytest.mark.usefixtures("small_blocks")
def test_a_large_file_is_sampled(tmp_path: Path) -> None:
    shard = tmp_path / "model.safetensors"
    with open(shard, "wb") as file:
        file.truncate(1 << 30)
    with open(shard, "rb") as file:
        read = provenance.parts(file, ".safetensors", 1 << 30)
    whole = 8 + 2 * provenance.BLOCK + 32 * provenance.SAMPLE
    assert sum(length for _, length in read) == whole


def test_a_checkpoint_of_the_same_sizes_does_not_continue_a_run(tmp_path: Path) -> None:
    model = tmp_path / "model"
    checkpoint(model)
    flags = ["--reflex_size", "1"]
    assert run_script(SCRIPT, flags, tmp_path, ScriptedEngine(brief)).code == 0
    change(model / "model-1.safetensors", SIZE - 1)
    refused(run_script(SCRIPT, ["--reflex_size", "2"], tmp_path), "model.weights: ")


# Revisions.


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """A hub whose main branch is at commit `new`; what was asked of it."""
    requests: list[tuple[str, str | None]] = []

    def download(name: str, file: str, revision: str | None = None) -> str:
        requests.append((name, revision))
        if revision == "gone":
            raise OSError("404")
        commit = {"v1": "old"}.get(revision or "", revision or "new")
        return str(tmp_path / "snapshots" / commit / file)

    fake = SimpleNamespace(hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setattr(hub, "prepare", lambda: None)
    return requests


def test_a_revision_is_resolved_and_passed_on(downloads: list[tuple[str, str | None]]) -> None:
    assert identify("org/m") == Model("org/m", revision="new")
    assert identify("org/m@v1") == Model("org/m", revision="old")
    assert downloads == [("org/m", None), ("org/m", "v1")]
    assert ModelName.parse("org/m@v1").last_part == "m"
    with pytest.raises(UserError, match="Cannot find the model org/m@gone"):
        identify("org/m@gone")


def test_a_resumed_run_keeps_its_revision(downloads: list[tuple[str, str | None]]) -> None:
    before = Model("org/m", revision="then")
    assert identify("org/m", before) == before
    assert identify("org/m@v1", before) == Model("org/m", revision="old")
    assert identify("org/other", before) == Model("org/other", revision="new")
    assert downloads == [("org/m", "then"), ("org/m", "v1"), ("org/other", None)]


def test_engine_and_tokenizer_get_the_revision_on_record(
    downloads: list[tuple[str, str | None]], tmp_path: Path
) -> None:
    def run(*flags: str) -> tuple[Ran, ScriptedEngine]:
        engine = ScriptedEngine(brief)
        return run_script(SCRIPT, list(flags), tmp_path, engine), engine

    ran, engine = run("--model_name", "org/m@v1", "--reflex_size", "1")
    assert ran.folder.name == "m"
    names = ("model", "revision", "tokenizer_revision")
    assert [engine.arguments[name] for name in names] == ["org/m", "old", "old"]
    assert ran.run()["model"] == {"name": "org/m", "revision": "old", "weights": None}
    again, engine = run("--model_name", "org/m", "--reflex_size", "2")
    assert (again.code, engine.arguments["revision"]) == (0, "old")
    other, _ = run("--model_name", "org/m@v2", "--reflex_size", "3")
    refused(other, 'model.revision: "old" -> "v2"')


def test_the_chat_format_gets_the_revision(
    downloads: list[tuple[str, str | None]], tmp_path: Path
) -> None:
    def chat(*arguments: Any) -> Any:
        raise UserError(f"given {arguments}")

    changed = dataclasses.replace(QWEN, family=dataclasses.replace(QWEN.family, chat=chat))
    chosen = Settings(model_name="org/m@v1", dataset="quickstart", results_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"^given \('org/m', False, 'old'\)"):
        experiment.run(changed, chosen)


# The hub.


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Without proxies, on a network in which nothing listens; what was connected to."""
    addresses: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], timeout: float) -> None:
        addresses.append(address)
        raise OSError

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(socket, "create_connection", connect)
    return addresses


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("", ("huggingface.co", 443)),
        ("http://mirror", ("mirror", 80)),
        ("https://mirror", ("mirror", 443)),
        ("https://mirror:5000/hub", ("mirror", 5000)),
        ("http://mirror:99999", None),
    ],
)
def test_the_hub_is_looked_for_at_its_own_port_and_scheme(
    endpoint: str, address: tuple[str, int] | None, asked: list[tuple[str, int]]
) -> None:
    assert not hub.reachable(endpoint)
    assert asked == ([address] if address else [])


def test_a_hub_that_listens_is_reachable(asked: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: SimpleNamespace(close=list))
    assert hub.reachable("http://mirror")


@pytest.mark.parametrize("name", ["https_proxy", "ALL_PROXY"])
@pytest.mark.usefixtures("asked")
def test_a_proxy_is_believed_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert hub.reachable("https://127.0.0.2:9")
    monkeypatch.setenv("no_proxy", "127.0.0.2")
    assert not hub.reachable("https://127.0.0.2:9")


def test_what_the_program_set_is_not_taken_for_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert provenance.environment()["HF_HUB_OFFLINE"] == "1"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "reachable", lambda endpoint: False)
    monkeypatch.setattr(hub, "set_here", set())
    hub.prepare.__wrapped__()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in provenance.environment()


# Keys.

KEYS = ("hf_abcdefghijkl", "sk-0123456789abcdef")


def test_no_key_is_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEYS[1])
    monkeypatch.setenv("VLLM_API_KEY", KEYS[0])
    monkeypatch.setenv("VLLM_CACHE_ROOT", f"/home/{KEYS[1]}")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    arguments = json.dumps({"hf_token": KEYS[0], "other": KEYS[1], "deep": {"key": [KEYS[0]]}})
    flags = ["--reflex_size", "1", "--engine_args", arguments]
    ran = run_script(SCRIPT, flags, tmp_path, engine := ScriptedEngine(brief))
    assert engine.arguments["hf_token"] == KEYS[0]
    dry = run_script(SCRIPT, [*flags, "--dry_run", "json"], tmp_path)
    run = (ran.folder / "run.json").read_text()
    for text in (run, dry.out, dry.err, ran.out, ran.err):
        assert not any(key in text for key in KEYS)
    environment = ran.run()["sessions"][0]["environment"]
    assert environment["TOKENIZERS_PARALLELISM"] == "false"
    assert "VLLM_API_KEY" not in environment


def test_a_vllm_that_cannot_start_does_not_repeat_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, **arguments: object) -> None:
            raise ValueError(f"what is http://me:{KEYS[1]}@h/x?")

    fake = SimpleNamespace(
        EngineArgs=Refusing, LLMEngine=None, envs=SimpleNamespace(environment_variables={})
    )
    monkeypatch.setitem(sys.modules, "vllm", fake)
    with pytest.raises(UserError) as refusal:
        vllm.VllmEngine({"hf_token": KEYS[0]}, {}, lambda ids: "")
    assert "vLLM could not start" in str(refusal.value)
    assert not any(key in str(refusal.value) for key in KEYS)
