"""What is read of vLLM's statistics, as its versions give them, without a vLLM."""

from __future__ import annotations

from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import pytest

from kflow.engines.vllm_engine.recipes import Installed
from kflow.engines.vllm_engine.telemetry import Telemetry, kv_cache, loses_context
from kflow.engines.vllm_engine.vllm import VllmEngine
from kflow.results.description import Capacity
from kflow.types import EngineState, KvCache


class EventType(IntEnum):
    QUEUED, SCHEDULED, PREEMPTED = 1, 2, 3


def output(request: str, *events: EventType) -> SimpleNamespace:
    """None stands for no events, as with vLLM."""
    return SimpleNamespace(
        request_id=request, events=[SimpleNamespace(type=each) for each in events] or None
    )


def outputs(
    *requests: SimpleNamespace, running: int | None = None, usage: float = 0.0, core: int = 0
) -> SimpleNamespace:
    stats = SimpleNamespace(num_running_reqs=running, kv_cache_usage=usage)
    return SimpleNamespace(
        outputs=list(requests),
        engine_index=core,
        scheduler_stats=None if running is None else stats,
    )


def vllm(given: list[SimpleNamespace], **own: Any) -> SimpleNamespace:
    """An LLMEngine whose core gives these outputs, one after the other."""
    core = SimpleNamespace(get_output=iter(given).__next__)
    processor = SimpleNamespace(log_stats=True, request_states={})
    return SimpleNamespace(engine_core=core, output_processor=processor, log_stats=True, **own)


def test_preemptions_are_counted_by_request_and_in_all() -> None:
    given = [
        outputs(output("a", EventType.QUEUED, EventType.SCHEDULED), output("b"), running=2),
        outputs(output("b", EventType.PREEMPTED, EventType.SCHEDULED), running=1, usage=0.25),
        outputs(
            output("b-0a1b2c3d", EventType.PREEMPTED), output("a", EventType.PREEMPTED), running=1
        ),
    ]
    engine = vllm(given)
    telemetry = Telemetry(engine)
    assert (telemetry.running, telemetry.kv_usage, telemetry.preemptions) == (None, None, None)
    assert engine.engine_core.get_output() is given[0]
    assert (telemetry.running, telemetry.kv_usage, telemetry.preemptions) == (2, 0.0, 0)
    assert [engine.engine_core.get_output() for _ in given[1:]] == given[1:]
    assert (telemetry.running, telemetry.preemptions) == (1, 3)
    assert [telemetry.take(name) for name in ("a", "b", "b", "c")] == [1, 2, 0, 0]
    assert telemetry.preemptions == 3


def test_the_cores_of_data_parallel_copies_count_together() -> None:
    given = [
        outputs(running=3, usage=0.5, core=0),
        outputs(running=4, usage=0.75, core=1),
        outputs(),  # the end of a wave, which says nothing
        outputs(running=2, usage=0.25, core=0),
    ]
    engine = vllm(given)
    telemetry = Telemetry(engine)
    for _ in given:
        engine.engine_core.get_output()
    assert (telemetry.running, telemetry.kv_usage) == (6, 0.75)


def test_vllms_front_end_does_not_look_at_the_statistics() -> None:
    for logger in ("stat_logger", "logger_manager"):  # 0.10.2, and since
        engine = vllm([], **{logger: object()})
        Telemetry(engine)
        assert (getattr(engine, logger), engine.log_stats) == (None, False)
        assert engine.output_processor.log_stats is False


def test_the_figures_of_what_is_in_flight() -> None:
    """Running is what the scheduler says; without its statistics, what has tokens."""
    states = {
        name: SimpleNamespace(detokenizer=SimpleNamespace(token_ids=[0] * tokens))
        for name, tokens in {"a": 5, "b": 0, "c": 7}.items()
    }
    engine = VllmEngine.__new__(VllmEngine)
    engine._engine = vllm([outputs(running=1, usage=0.5), outputs(running=9)])
    engine._engine.output_processor.request_states = states
    engine._telemetry = Telemetry(engine._engine)
    assert engine.progress() == EngineState(2, 1, 12)
    engine._engine.engine_core.get_output()
    assert engine.progress() == EngineState(1, 2, 12, 0.5, 0)
    engine._engine.engine_core.get_output()  # of which some have ended since
    assert engine.progress()[:2] == (3, 0)


def config(cache: dict[str, object], scheduler: object = None, **parallel: int) -> SimpleNamespace:
    return SimpleNamespace(
        cache_config=SimpleNamespace(**cache),
        parallel_config=SimpleNamespace(**parallel),
        scheduler_config=SimpleNamespace(max_num_seqs=128, async_scheduling=scheduler),
    )


BLOCKS = {"num_gpu_blocks": 100, "block_size": 16}  # all that 0.10.2 says
TOKENS = {"kv_cache_size_tokens": 1500, **BLOCKS}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (config(BLOCKS), KvCache(1600, 128)),
        # Split over GPUs by tokens; two copies, whose blocks vLLM adds up.
        (config(BLOCKS, decode_context_parallel_size=2), KvCache(3200, 128)),
        (config(BLOCKS, data_parallel_size=2), KvCache(1600, 256)),
        (config(TOKENS), KvCache(1500, 128)),
        (config(TOKENS, data_parallel_size=2), KvCache(3000, 256)),  # of which vLLM says one
        (config(dict.fromkeys(TOKENS) | {"block_size": 16}), None),
    ],
)
def test_the_size_of_the_kv_cache(given: SimpleNamespace, expected: KvCache | None) -> None:
    assert kv_cache(given) == expected


@pytest.mark.parametrize(
    ("version", "on", "lost"),
    [
        ("0.10.2.post2", True, True),
        ("0.11.1", True, True),
        ("0.11.2", True, False),
        ("0.10.2", False, False),
        ("dev", True, False),
    ],
)
def test_which_vllm_loses_a_preempted_reply(version: str, on: bool, lost: bool) -> None:
    assert loses_context(Installed("vllm", version), config({}, on)) is lost


# KV tokens, rollouts decoded at a time, window, rollouts in flight -> what is expected of them.
CAPACITIES = [
    ((320_000, 128, 262_144, 30), Capacity(320_000, 1.22, 262_144, 30, 30, 10_666)),
    ((13_000_000, 128, 131_072, 480), Capacity(13_000_000, 99.18, 131_072, 480, 128, 101_562)),
    ((131_072, 128, 131_072, 1), Capacity(131_072, 1.0, 131_072, 1, 1, None)),
]


@pytest.mark.parametrize(("given", "expected"), CAPACITIES)
def test_when_preemption_is_expected(given: tuple[int, int, int, int], expected: Capacity) -> None:
    tokens, at_once, window, in_flight = given
    holds = Capacity.of(KvCache(tokens, at_once), window, in_flight)
    assert holds == expected
    numbers = (tokens, window, in_flight, expected.decoded_at_once, expected.preemption_above)
    assert all(f"{number:,}" in holds.sentence() for number in numbers if number is not None)
    assert ("no preemption" in holds.sentence()) is (expected.preemption_above is None)
