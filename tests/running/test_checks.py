"""The preflight's checks one at a time, and what is looked up of this machine for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.nodes import H100, index
from kflow.ground.hub import ModelName
from kflow.running import checks
from kflow.running.checks import NOT_CHECKED, NOTE, OK, WRONG, Weights

EIGHT = {"tensor_parallel_size": 8}
STAGES = EIGHT | {"pipeline_parallel_size": 2}


@pytest.mark.parametrize(
    ("gpus", "arguments", "state"),
    [
        (0, EIGHT, NOT_CHECKED),
        (8, EIGHT, OK),
        (4, EIGHT, WRONG),
        (8, STAGES, WRONG),
        (8, {"tensor_parallel_size": 2, "data_parallel_size": 4}, OK),
        (8, STAGES | {"distributed_executor_backend": "ray"}, OK),
    ],
)
def test_gpus(gpus: int, arguments: dict[str, object], state: str) -> None:
    assert checks.devices((H100,) * gpus, arguments).state == state


@pytest.mark.parametrize(
    ("arguments", "in_flight", "state", "words"),
    [
        ({}, 128, OK, "max_num_seqs 128"),
        ({"max_num_seqs": 16}, 30, NOTE, "14 wait in the queue"),
        ({"data_parallel_size": 4}, 480, OK, "max_num_seqs 512"),
    ],
)
def test_sequences(arguments: dict[str, object], in_flight: int, state: str, words: str) -> None:
    check = checks.sequences(arguments, in_flight)
    assert (check.state, words in check.text) == (state, True)


PLACE = Path("/weights")
TB = 10**12


@pytest.mark.parametrize(
    ("weights", "free", "local", "here", "state"),
    [
        (Weights(9, (), 9, PLACE), 0, False, True, OK),
        (Weights(9, ("b",), 18, PLACE), TB, True, False, WRONG),
        (Weights(0, (), None, PLACE), TB, True, False, WRONG),
        (Weights(0, (), TB // 2, PLACE), TB // 4, False, True, WRONG),
        (Weights(0, (), TB // 2, PLACE), TB // 4, False, False, NOT_CHECKED),
        (Weights(TB // 2, ("b",), TB, PLACE), TB // 2, False, True, NOTE),
        (Weights(0, (), None, PLACE), TB, False, True, NOT_CHECKED),
    ],
)
def test_weights(weights: Weights, free: int, local: bool, here: bool, state: str) -> None:
    assert checks.stored(weights, free, local, here).state == state


def weights_of(name: str) -> Weights:
    return checks.find_weights(ModelName.parse(name), None)


def test_shards_of_a_folder(tmp_path: Path) -> None:
    index(tmp_path, a=600, b=400)
    assert weights_of(str(tmp_path)) == Weights(1000, (), 1000, tmp_path)
    index(tmp_path, a=600, c=0)
    assert weights_of(str(tmp_path)) == Weights(600, ("c.safetensors",), 1000, tmp_path)
    (tmp_path / checks.INDEX).write_text('{"weight_map": 3}')
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
    assert weights_of("org/m@other").here == weights_of("no/such/name").here == 0
    assert weights_of("openai/gpt-oss-120b").total == 65 * 10**9  # as its hub page has it


def test_free_space_of_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    assert checks.free(tmp_path / "a" / "b") == checks.free(tmp_path) > 0
