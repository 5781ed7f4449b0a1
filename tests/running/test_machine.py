"""What is looked up of this machine: weights, in folders and the hub's cache, and free space."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.nodes import index
from kflow.ground.hub import ModelName
from kflow.running import machine
from kflow.running.machine import Weights


def weights_of(name: str) -> Weights:
    return machine.weights(ModelName.parse(name), None)


def test_shards_of_a_folder(tmp_path: Path) -> None:
    index(tmp_path, a=600, b=400)
    assert weights_of(str(tmp_path)) == Weights(1000, (), 1000, tmp_path)
    index(tmp_path, a=600, c=0)
    assert weights_of(str(tmp_path)) == Weights(600, ("c.safetensors",), 1000, tmp_path)
    (tmp_path / machine.INDEX).write_text('{"weight_map": 3}')
    assert weights_of(str(tmp_path)).here == 1000


def test_shards_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--m"
    assert weights_of("org/m") == Weights(0, (), None, tmp_path)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    index(repository / "snapshots" / "abc", a=600, b=0)
    assert weights_of("org/m") == Weights(600, ("b.safetensors",), 1000, tmp_path)
    assert weights_of("org/m@other").here == 0
    assert weights_of("no/such/name").here == 0


def test_free_space_of_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    assert machine.free(tmp_path / "a" / "b") == machine.free(tmp_path) > 0
