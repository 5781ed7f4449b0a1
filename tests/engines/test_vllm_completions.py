"""What the offline engine makes of vLLM's outputs, without a vLLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Queue
from types import SimpleNamespace

import pytest

from helpers.fakes import K
from kflow.engines.vllm_engine.vllm import VllmEngine, watch
from kflow.types import Completion, EngineDied, Request

KEY = K("p", 0, 3)


def completion(finish_reason: str, preemptions: int = 0, loses_context: bool = False) -> Completion:
    engine = object.__new__(VllmEngine)
    engine._keys, engine._decode = {"name": KEY}, str
    engine._telemetry = SimpleNamespace(take={"name": preemptions}.pop)
    engine.loses_context = loses_context
    reply = SimpleNamespace(token_ids=(4, 5), finish_reason=finish_reason)
    return engine._completion(SimpleNamespace(request_id="name", outputs=[reply]))


def test_a_reply_and_what_the_engine_broke_off() -> None:
    assert completion("length") == Completion(KEY, "[4, 5]", 2, "length")
    for reason in ("abort", "error"):
        why = f"the engine ended with finish_reason {reason}"
        assert completion(reason) == Completion(KEY, unanswered=why)


@pytest.mark.parametrize(
    ("preemptions", "loses_context", "lost"), [(0, True, False), (2, False, False), (2, True, True)]
)
def test_what_a_preempted_reply_has_lost(preemptions: int, loses_context: bool, lost: bool) -> None:
    result = completion("stop", preemptions, loses_context)
    assert (result.preemptions, result.lost_context) == (preemptions, lost)


def submitted(*errors: Exception | None, step: Callable[[], list[object]] = list) -> VllmEngine:
    """An engine that was asked so many rollouts, and what vLLM raised at each."""
    raised = iter(errors)

    def add_request(*_: object) -> None:
        if (error := next(raised)) is not None:
            raise error

    engine = object.__new__(VllmEngine)
    engine._keys, engine._refused, engine._accepted, engine._lost = {}, [], False, ""
    engine._params = lambda request: None  # type: ignore[method-assign, assignment]
    died = any(type(error).__name__ == "EngineDeadError" for error in errors)
    engine._engine = SimpleNamespace(
        engine_core=SimpleNamespace(resources=SimpleNamespace(engine_dead=died)),
        add_request=add_request,
        has_unfinished_requests=lambda: step is not list,
        step=step,
    )
    for number in range(len(errors)):
        engine.submit(Request(K(str(number), 0, 0), (1,), 1, 0))
    return engine


TOO_LONG = Exception("The prompt is longer than the window.")


@pytest.mark.parametrize("errors", [(TOO_LONG, None), (None, TOO_LONG)])
def test_what_vllm_refuses_beside_others_has_failed(errors: Sequence[Exception | None]) -> None:
    (refused,) = submitted(*errors).completions()
    assert refused == Completion(K(str(errors.index(TOO_LONG)), 0, 0), failure=str(TOO_LONG))


def test_what_vllm_refuses_of_all_is_not_the_rollouts_fault() -> None:
    done = submitted(TOO_LONG, TOO_LONG).completions()
    assert done == [Completion(K(n, 0, 0), unanswered=str(TOO_LONG)) for n in ("0", "1")]


def test_a_dying_engine_ends_the_run_and_fails_no_rollout() -> None:
    class EngineDeadError(Exception):
        pass

    def step() -> list[object]:
        raise EngineDeadError("EngineCore encountered an issue")

    with pytest.raises(EngineDied, match=r"vLLM has lost 1 rollout$"):
        submitted(None).completions()
    with pytest.raises(EngineDied, match="stopped: EngineCore encountered an issue"):
        submitted(EngineDeadError("dead"), step=step).completions()
    with pytest.raises(EngineDied, match=r"vLLM has lost 1 rollout \(dead\)"):
        submitted(EngineDeadError("dead")).completions()


def test_who_waits_for_output_is_woken_when_the_engines_process_is_killed() -> None:
    core = SimpleNamespace(resources=SimpleNamespace(engine_dead=False), outputs_queue=Queue())
    watch(core)
    core.resources.engine_dead = True
    assert isinstance(core.outputs_queue.get(timeout=60), RuntimeError)
    watch(SimpleNamespace())  # an engine in this process
