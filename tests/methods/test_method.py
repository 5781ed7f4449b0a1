"""How many rollouts a chain takes, and has in flight at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from helpers import driver
from kflow.method import Method, at_once, rollouts_of

ONE = driver.method("vllm_kflow_qwen")
WIDE = replace(driver.method("vllm_qwen_rsa"), rollouts_per_step=4)
UNLIKE = replace(driver.method("vllm_qwen_trt"), strategies=3)  # 1, 3, 1, 3, ...
AHEAD = driver.method("vllm_qwen_parallel_thinking")


@pytest.mark.parametrize(
    ("method", "steps", "done", "rollouts", "in_flight"),
    [
        (ONE, 5, 0, 5, 1),
        (ONE, 5, 5, 0, 0),
        (WIDE, 3, 1, 8, 4),
        (UNLIKE, 5, 0, 9, 3),
        (UNLIKE, 5, 4, 1, 1),
        (UNLIKE, 4, 3, 3, 3),
        (AHEAD, 5, 0, 5, 5),
        (AHEAD, 5, 2, 3, 3),
    ],
)
def test_the_rollouts_of_a_chain(
    method: Method[Any, Any], steps: int, done: int, rollouts: int, in_flight: int
) -> None:
    assert rollouts_of(method, steps, done) == rollouts
    assert at_once(method, steps, done) == in_flight
