"""Preemptions on record: by rollout, in the summaries of the steps, and where they did harm in what
a reader is shown; and what is known of the KV cache before them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.fakes import ScriptedEngine, obliging
from helpers.scripted import run_script
from kflow.results.runs import read
from kflow.types import Completion, Key, KvCache, Request

QWEN, RSA = "vllm_kflow_qwen", "vllm_qwen_rsa"
FLAGS = ["--reflex_size", "2"]
LOST = "A rollout was preempted and resumed without the tokens it had already generated"


def preempted(lost: bool):  # type: ignore[no-untyped-def]
    """The second problem's rollouts are preempted: at step k, k + 1 times."""

    def script(request: Request, prompt: str) -> Completion | str:
        reply = obliging(request, prompt)
        if request.key.problem != "second":
            return reply
        number = request.key.step + 1
        completion = Completion(request.key, reply, 9, "stop", preemptions=number)
        return replace(completion, lost_context=lost)

    return script


@pytest.mark.parametrize("lost", [False, True])
def test_a_preempted_rollout_is_on_record_and_in_its_steps_summary(
    lost: bool, tmp_path: Path
) -> None:
    ran = run_script(QWEN, FLAGS, tmp_path, ScriptedEngine(preempted(lost)))
    assert ran.code == 0
    for number in (0, 1):
        summary, first, second, third = ran.step(number)
        assert (summary["preemptions"], summary.get("lost_context")) == (number + 1, lost or None)
        assert (second["preemptions"], second.get("lost_context")) == (number + 1, lost or None)
        for record in (first, third):
            assert not {"preemptions", "lost_context"} & record.keys()
        assert f"{number + 1} preempted" in ran.err
    assert ran.err.count("1 with lost context") == 2 * lost
    assert ran.err.count(LOST) == lost
    notes = " ".join(read(ran.folder, "run").notes)
    assert ("has 2 rollouts of 6 that continued without their own reply" in notes) is lost


# Script and flags -> rollouts in flight at a time, and tokens each may have before preemption.
IN_FLIGHT = {
    "one a chain": (QWEN, [*FLAGS, "--num_seeds", "2"], 6, 1_000_000 // 4),
    "several a step": (RSA, ["--reflex_size", "1", "--rollouts_per_step", "4"], 12, 250_000),
    "all at once": ("vllm_qwen_parallel_thinking", ["--reflex_size", "5"], 15, 250_000),
    "the cache holds all": (QWEN, [*FLAGS, "--limit", "1"], 1, None),
}


@pytest.mark.parametrize("case", IN_FLIGHT)
def test_what_the_kv_cache_holds_is_said_and_recorded(case: str, tmp_path: Path) -> None:
    script, flags, in_flight, above = IN_FLIGHT[case]
    engine = ScriptedEngine()
    engine.kv_cache = KvCache(1_000_000, 4)  # type: ignore[attr-defined]
    ran = run_script(script, flags, tmp_path, engine)
    assert ran.code == 0
    (session,) = ran.run()["sessions"]
    assert session["engine"]["kv_cache"] == {
        "kv_tokens": 1_000_000,
        "full_windows": 3.81,
        "window": 262_144,
        "rollouts_in_flight": in_flight,
        "decoded_at_once": min(in_flight, 4),
        "preemption_above": above,
    }
    assert ran.err.startswith("KV cache: 1,000,000 tokens, 3.8 full windows of 262,144; ")


def test_a_resumed_run_counts_the_chains_that_are_left_and_one_anew_all(tmp_path: Path) -> None:
    script, flags = "vllm_qwen_parallel_thinking", ["--reflex_size", "5"]

    def first(waiting: list[Key]) -> list[Key]:
        return [min(waiting, key=lambda key: (key.problem != "first", key.step))]

    run_script(script, flags, tmp_path, ScriptedEngine(stop_after=5, pick=first))
    for more, in_flight in (([], 10), (["--overwrite"], 15)):
        engine = ScriptedEngine()
        engine.kv_cache = KvCache(1_000_000, 128)  # type: ignore[attr-defined]
        ran = run_script(script, [*flags, *more], tmp_path, engine)
        kv_cache = ran.run()["sessions"][-1]["engine"]["kv_cache"]
        assert kv_cache["rollouts_in_flight"] == in_flight
