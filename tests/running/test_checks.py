"""The preflight's checks one at a time: GPUs, batch, weights, the hub's library."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.nodes import H100
from kflow.ground.hardware import Gpu
from kflow.running import checks
from kflow.running.checks import NOT_CHECKED, NOTE, OK, WRONG, Workload
from kflow.running.machine import Weights


@pytest.mark.parametrize(
    ("gpus", "arguments", "state"),
    [
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
def test_gpus(gpus: tuple[Gpu, ...], arguments: dict[str, object], state: str) -> None:
    assert checks.devices(gpus, arguments).state == state


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
