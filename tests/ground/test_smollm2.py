"""The quickstart's model: what it says where it cannot be prepared. It is converted in the engine's
tests."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from helpers.scripted import ROOT, run_script
from kflow.families.chat import check_age
from kflow.ground import smollm2
from kflow.types import UserError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("flag", "code"), [("--help", 0), ("folder", 2)])
def test_nothing_is_prepared_for_help_or_a_typing_mistake(
    cache: Path, flag: str, code: int
) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "prepare_smollm2.py"), flag]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert "usage: prepare_smollm2.py" in done.stdout + done.stderr
    assert not cache.exists()


@pytest.mark.parametrize(
    ("wheel", "words"),
    [("not-a-package-of-this-world", "is not installed"), ("msgspec", r"contains no \.gguf file")],
)
def test_a_missing_wheel_or_one_without_the_model_is_a_sentence(
    wheel: str, words: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "WHEEL", wheel)
    with pytest.raises(UserError, match=words):
        smollm2.prepare()
    assert not cache.exists()


def test_each_major_version_of_transformers_gets_a_copy_with_its_own_names(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(gguf: Path, folder: Path) -> Any:
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "config.json").write_text('{"rope_parameters": {"rope_theta": 1e5}}')
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')

    def installed(version: str) -> None:
        monkeypatch.setattr(importlib.metadata, "version", lambda _: version)

    monkeypatch.setattr(smollm2, "in_wheel", lambda: Path("model.gguf"))
    monkeypatch.setattr(smollm2, "convert", convert)
    installed("4.57.6")
    with pytest.raises(UserError, match="run this once in the environment of"):
        smollm2.prepare()
    installed("10.0.0")
    folder = smollm2.prepare()
    check_age(folder)
    installed("4.57.6")
    with pytest.raises(UserError, match="was saved by transformers 5"):
        check_age(folder)
    copy = smollm2.prepare()
    check_age(copy)
    assert (folder.name, copy.name) == (smollm2.NAME,) * 2
    assert json.loads((copy / "config.json").read_bytes())["rope_theta"] == 1e5
    assert (copy / "model.safetensors").read_bytes() == b"weights"
    (copy / "config.json").write_text('{"rope_parameters": {"rope_theta": 1e5}}')
    with pytest.raises(UserError, match="was saved by transformers 5"):
        check_age(copy)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (None, "File exists"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (SafetensorError("I/O error: No space left on device"), "No space left on device"),
    ],
)
def test_a_place_that_cannot_be_written_is_a_sentence_and_left_as_it_was(
    failure: Exception | None, words: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(gguf: Path, folder: Path) -> Any:
        (folder / "config.json").write_text("{}")
        if failure:
            raise failure

    monkeypatch.setattr(smollm2, "in_wheel", lambda: Path("model.gguf"))
    monkeypatch.setattr(smollm2, "convert", convert)
    if failure is None:
        cache.write_text("")
    with pytest.raises(UserError, match=rf"{cache} \(.*{words}.*set KFLOW_CACHE"):
        smollm2.prepare()
    assert cache.is_file() or list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [("smollm2", "/made"), ("org/model", "org/model"), ("/a/folder", "/a/folder")],
)
def test_its_short_name_stands_for_its_folder(
    name: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "prepare", lambda: Path("/made"))
    assert smollm2.find(name) == found
    monkeypatch.chdir(tmp_path)
    (tmp_path / name.lstrip("/")).mkdir(parents=True)
    assert smollm2.find(name.lstrip("/")) == name.lstrip("/")


@pytest.mark.parametrize("engine", ["vllm", "openai", "chat"])
def test_a_run_has_the_folder_unless_a_server_knows_the_name(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / smollm2.NAME
    model.mkdir()
    (model / "config.json").write_text("{}")
    monkeypatch.setattr(smollm2, "prepare", lambda: model)
    urls = [] if engine == "vllm" else ["--base_url", "http://127.0.0.1:9/v1"]
    flags = ["--model_name", "smollm2", "--engine", engine, *urls, "--dry_run"]
    ran = run_script("vllm_kflow_oss", flags, tmp_path)
    folder = "smollm2" if engine == "chat" else smollm2.NAME
    assert f"vllm_131072_/{folder}\n" in ran.out
