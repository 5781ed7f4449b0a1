"""What vLLM is started with by the number of rollouts in flight: the batch, the graphs captured for
it, and async scheduling where no reply can be lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kflow.engines.vllm_engine.recipes import Installed, Node
from kflow.types import UserError
from test_memory import B200, H100, H200
from test_recipes import eight_gpus, node, recipe  # noqa: F401, a fixture


@pytest.mark.parametrize(
    ("in_flight", "given", "expected"),
    [
        (None, {}, (None, None, [2048])),
        (30, {}, (30, 8192, [60])),
        (480, {}, (480, 8192, [960])),
        (1920, {}, (1024, 8192, [2048])),
        (480, {"max_num_seqs": 128}, (128, 8192, [256])),
        (20_000, {"max_num_seqs": 20_000}, (20_000, 20_000, [2048])),
        (30, {"max_num_batched_tokens": 99}, (30, 99, [60])),
        (30, {"cuda_graph_sizes": [8]}, (30, 8192, [8])),
        (30, {"max_num_seqs": "many"}, ("many", None, [2048])),
        (30, {"enable_chunked_prefill": False}, (30, None, [60])),
    ],
)
def test_the_batch_holds_what_is_in_flight(
    in_flight: int | None, given: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    args = recipe("gpt_oss", node("0.10.2"), in_flight, given).arguments
    names = ("max_num_seqs", "max_num_batched_tokens", "cuda_graph_sizes")
    assert tuple(map(args.get, names)) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"max_cudagraph_capture_size": 8},
        {"cudagraph_capture_sizes": [1, 2]},
        {"compilation_config": {"max_cudagraph_capture_size": 8}},
    ],
)
def test_given_sizes_of_graphs_stand_alone(given: dict[str, Any]) -> None:
    args = recipe("gpt_oss", node("0.32.0"), 480, given).arguments
    text = json.dumps(args)
    assert json.dumps(given)[1:-1] in text
    assert text.count("capture_size") == 1


ON, OFF, GIVEN = (True, None), (False, "off"), (True, "on because it was requested")


@pytest.mark.parametrize(
    ("name", "version", "memory", "in_flight", "given", "expected"),
    [
        ("gpt_oss", "0.10.2", H100, 30, {}, ON),
        ("gpt_oss", "0.10.2", H100, 480, {}, OFF),
        ("gpt_oss", "0.10.2", H100, 480, {"max_num_seqs": 60}, ON),
        ("gpt_oss", "0.10.2", H100, 70, {}, ON),
        ("gpt_oss", "0.10.2", H100, 70, {"disable_hybrid_kv_cache_manager": True}, OFF),
        ("gpt_oss", "0.10.2", H100, None, {}, OFF),
        ("gpt_oss", "0.10.2", 0, 30, {}, OFF),
        ("qwen", "0.10.2", H100, 30, {}, OFF),
        ("qwen", "0.10.2", H200, 30, {}, OFF),
        ("qwen", "0.10.2", B200, 30, {}, OFF),
        ("qwen", "0.10.2", B200, 30, {"max_model_len": 32768}, ON),
        ("qwen", "0.10.2", B200, 30, {"max_model_len": "auto"}, OFF),
        ("qwen", "0.10.2", H100, 30, {"async_scheduling": True}, GIVEN),
        ("qwen", "0.10.2", H100, 30, {"async_scheduling": False}, (False, None)),
        ("qwen", "0.11.0", H100, 30, {}, OFF),
        ("qwen", "0.11.1", H100, 30, {}, OFF),
        ("qwen", "0.11.2", H100, 30, {}, ON),
        ("qwen", "0.32.0", H100, 480, {}, ON),
    ],
)
def test_async_scheduling_is_off_where_it_could_lose_replies(
    name: str,
    version: str,
    memory: int,
    in_flight: int | None,
    given: dict[str, Any],
    expected: tuple[bool, str | None],
) -> None:
    where = node(version, memory) if memory else Node(Installed("vllm", version))
    chosen = recipe(name, where, in_flight, given)
    deviations = [each for each in chosen.deviations if "async_scheduling" in each]
    assert chosen.arguments["async_scheduling"] is expected[0]
    if expected[1] is None:
        assert deviations == []
    else:
        (sentence,) = deviations
        assert sentence.startswith(f"async_scheduling is {expected[1]}: vLLM {version} loses ")


def test_why_it_is_off_is_said_in_numbers() -> None:
    (sentence,) = recipe("qwen", node("0.10.2")).deviations
    assert sentence == (
        "async_scheduling is off: vLLM 0.10.2 loses the reply of a preempted rollout with it, and "
        "the KV cache, an estimated 322,545 tokens, may not hold 30 windows of 262,144."
    )


@pytest.mark.parametrize(
    ("version", "given", "refused"),
    [
        ("0.10.2", {}, True),
        ("0.11.0", {}, True),
        ("0.11.1", {}, False),
        ("0.32.0", {}, False),
        ("0.10.2", {"async_scheduling": False}, False),
    ],
)
def test_constrained_replies_need_a_newer_vllm_or_no_async_scheduling(
    version: str, given: dict[str, Any], refused: bool
) -> None:
    if refused:
        with pytest.raises(UserError, match=r"--force_sections .* give --engine_args '{\"async_"):
            recipe("gpt_oss", node(version), 30, given, sections=True)
    else:
        recipe("gpt_oss", node(version), 30, given, sections=True)


def test_constrained_replies_are_possible_where_it_is_off_anyway() -> None:
    chosen = recipe("qwen", node("0.10.2"), sections=True)
    assert chosen.arguments["async_scheduling"] is False
