"""What the offline engine makes of vLLM's outputs, without a vLLM."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fakes import K
from kflow.engines.vllm import VllmEngine
from kflow.types import Completion

KEY = K("p", 0, 3)


def completion(finish_reason: str) -> Completion:
    engine = object.__new__(VllmEngine)
    engine._keys, engine._decode = {"name": KEY}, str
    reply = SimpleNamespace(token_ids=(4, 5), finish_reason=finish_reason)
    return engine._completion(SimpleNamespace(request_id="name", outputs=[reply]))


@pytest.mark.parametrize("finish_reason", ["stop", "length", "repetition"])
def test_a_reply(finish_reason: str) -> None:
    assert completion(finish_reason) == Completion(KEY, "[4, 5]", 2, finish_reason)


@pytest.mark.parametrize("finish_reason", ["abort", "error"])
def test_what_the_engine_broke_off_is_no_reply(finish_reason: str) -> None:
    why = f"the engine broke off with finish_reason {finish_reason}"
    assert completion(finish_reason) == Completion(KEY, unanswered=why)
