"""What the offline engine makes of vLLM's outputs, without a vLLM."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fakes import K
from kflow.engines.vllm import VllmEngine
from kflow.types import Completion, EngineDied

KEY = K("p", 0, 3)


def completion(finish_reason: str, preemptions: int = 0, loses_context: bool = False) -> Completion:
    engine = object.__new__(VllmEngine)
    engine._keys, engine._decode = {"name": KEY}, str
    engine._telemetry = SimpleNamespace(take={"name": preemptions}.pop)
    engine.loses_context = loses_context
    reply = SimpleNamespace(token_ids=(4, 5), finish_reason=finish_reason)
    return engine._completion(SimpleNamespace(request_id="name", outputs=[reply]))


@pytest.mark.parametrize("finish_reason", ["stop", "length", "repetition"])
def test_a_reply(finish_reason: str) -> None:
    assert completion(finish_reason) == Completion(KEY, "[4, 5]", 2, finish_reason)


@pytest.mark.parametrize("finish_reason", ["abort", "error"])
def test_what_the_engine_broke_off_is_no_reply(finish_reason: str) -> None:
    why = f"the engine ended with finish_reason {finish_reason}"
    assert completion(finish_reason) == Completion(KEY, unanswered=why)


@pytest.mark.parametrize(
    ("preemptions", "loses_context", "lost"), [(0, True, False), (2, False, False), (2, True, True)]
)
def test_what_a_preempted_reply_has_lost(preemptions: int, loses_context: bool, lost: bool) -> None:
    result = completion("stop", preemptions, loses_context)
    assert (result.preemptions, result.lost_context) == (preemptions, lost)


def test_a_request_that_vllm_has_lost_ends_the_run() -> None:
    engine = object.__new__(VllmEngine)
    engine._keys, engine._refused = {"name": KEY}, []
    engine._engine = SimpleNamespace(has_unfinished_requests=lambda: False, step=list)
    with pytest.raises(EngineDied, match="vLLM has lost 1 rollout"):
        engine.completions()
