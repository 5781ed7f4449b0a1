"""The truth, first half: the Qwen scripts on SmolLM2 in a real engine, from flags to files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

import study_qwen
from helpers.engine_runs import (
    BLOCK,
    BLOCKS,
    QUESTIONS,
    RIVERS,
    SMOLLM2,
    Kept,
    SmolLM2,
    check,
    check_refusal,
    check_sections,
    check_seeds,
    problems,
    run,
    slots_of,
    steps_of,
)
from helpers.fakes import K
from kflow import study
from kflow.engines.vllm_engine.recipes import cpu_dtype, node
from kflow.types import EngineState, KvCache, Request

pytestmark = pytest.mark.engine


class Case(NamedTuple):
    """window: little more than twice the longest prompt. widths: of the first two steps."""

    window: int
    widths: tuple[int, int] = (1, 1)
    flags: tuple[str, ...] = ()


QWEN = {
    "vllm_kflow_qwen": Case(896),
    "vllm_kflow_qwen24": Case(896),
    "vllm_kflow_qwen_knowledgeRegen": Case(960),
    "vllm_kflow_qwen_positiveKnowledge": Case(1408),
    "vllm_qwen_markovian_thinking": Case(256),
    "vllm_qwen_markovian_whole_tail": Case(256),
    "vllm_qwen_parallel_thinking": Case(320),
    "vllm_qwen_refine": Case(576),
    "vllm_qwen_rsa": Case(704, (2, 2), ("--rollouts_per_step", "2", "--aggregate", "2")),
    "vllm_qwen_trt": Case(576, (1, 2)),
    "vllm_qwen_rse": Case(768, (2, 2), ("--attempts", "2")),
    "vllm_qwen_pacore": Case(704, (2, 1), ("--rounds", "2")),
}


@pytest.mark.parametrize("script", QWEN)
def test_qwen_scripts(script: str, smollm2: SmolLM2, tmp_path: Path) -> None:
    case = QWEN[script]
    flags = ["--model_name", smollm2.model, "--max_new_tokens", str(case.window)]
    flags += ["--enforce_eager", "--force_sections", "--reflex_size", "2", *case.flags]
    kept = run(script, [*flags, *problems(tmp_path)], smollm2.engine)
    steps = steps_of(tmp_path)
    check(kept, steps, smollm2.chat, case.widths)
    check_sections(steps)
    for step, (_, *records) in enumerate(steps):
        for record, _ in slots_of(records):
            assert record["question"].startswith("<|im_start|>system")
            # A tail that is one sentence, too long for its share, is left out.
            tail = "markovian" in script and not record["pred_solution"].startswith("\nLet me keep")
            assert bool(record["carried_tokens"]) == (tail and step > 0)


def test_the_dtype_on_record_is_the_engines(smollm2: SmolLM2, tmp_path: Path) -> None:
    flags = ["--model_name", smollm2.model, "--max_new_tokens", "256", "--reflex_size", "1"]
    script = "vllm_qwen_markovian_thinking"
    used = str(smollm2.engine._engine.vllm_config.model_config.dtype).removeprefix("torch.")
    assert used == cpu_dtype(node().release)
    for given in ([], ["--dtype", used]):
        place = ["--output_postfix", "given" if given else "default"]
        run(script, [*flags, *given, *place, *problems(tmp_path)], smollm2.engine)
    for path in tmp_path.rglob("run.json"):
        record = json.loads(path.read_bytes())
        (session,) = record["sessions"]
        assert session["arguments"]["dtype"] == record["engine"]["arguments"]["dtype"] == used
        assert record["settings"]["dtype"] == (used if "given" in str(path) else None)


def test_a_study_in_one_engine(smollm2: SmolLM2, tmp_path: Path) -> None:
    """Arms of unlike widths in one engine; their own scripts then find their runs complete."""
    widths = {"refine": (1, 1, 1), "parallel": (1, 1, 1), "rsa": (2,), "trt": (1, 2)}
    arms = [arm for arm in study_qwen.STUDY.arms if arm.prefix.removeprefix("vllm_") in widths]
    flags = ["--model_name", smollm2.model, "--max_new_tokens", "576", "--enforce_eager"]
    flags += ["--force_sections", *problems(tmp_path)]
    budget = ["--rollouts", "3", "--rollouts_per_step", "2", "--aggregate", "2"]
    engines: list[Kept] = []
    most = 0

    class Watched(Kept):
        def completions(self):  # type: ignore[no-untyped-def]
            nonlocal most
            most = max(most, len(self.requests) - len(self.completed))
            return super().completions()

    def lend(*_: object) -> Kept:
        engines.append(Watched(smollm2.engine))
        return engines[-1]

    with pytest.raises(SystemExit) as ended:
        study.main(replace(study_qwen.STUDY, arms=tuple(arms)), [*flags, *budget], lend)
    assert ended.value.code == 0
    (kept,) = engines
    assert most >= len(QUESTIONS) * (1 + 3 + 2 + 1)  # every arm's first rollouts at once
    for arm in arms:
        expected = widths[arm.prefix.removeprefix("vllm_")]
        folder = tmp_path / "results" / f"{arm.prefix}_576_"
        own = Kept(smollm2.engine)
        for all_of, of_arm in ((kept.requests, own.requests), (kept.completed, own.completed)):
            of_arm.update({k: v for k, v in all_of.items() if str(folder) in k.run})  # type: ignore[attr-defined]
        check(own, steps_of(folder), smollm2.chat, expected)
    again = run("vllm_qwen_refine", [*flags, "--reflex_size", "3"], smollm2.engine)
    assert again.requests == {}


def watch(smollm2: SmolLM2, monkeypatch: pytest.MonkeyPatch) -> list[EngineState]:
    """The engine's figures after each of its steps, from now on."""
    vllm, seen = smollm2.engine._engine, []
    step = vllm.step

    def watched():  # type: ignore[no-untyped-def]
        outputs = step()
        seen.append(smollm2.engine.progress())
        return outputs

    monkeypatch.setattr(vllm, "step", watched)
    return seen


def test_tokens_in_flight_grow_before_a_reply_is_finished(
    smollm2: SmolLM2, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = smollm2.engine
    prompt = tuple(smollm2.chat.render(RIVERS))
    seen = watch(smollm2, monkeypatch)
    for number, tokens in enumerate((6, 9)):
        engine.submit(Request(K(f"p{number}", 0, 0), prompt, tokens, number))
    assert engine.progress()[:3] == (0, 2, 0)
    (first,) = engine.completions()
    assert (first.key, first.tokens) == (K("p0", 0, 0), 6)
    assert [each[:3] for each in seen[:-1]] == [(2, 0, 2 * count) for count in range(1, 6)]
    assert seen[-1][:3] == (1, 0, 6)
    (last,) = engine.completions()
    assert last.key == K("p1", 0, 0)
    assert engine.progress()[:3] == (0, 0, 0)


def test_preemptions_are_counted_where_the_kv_cache_is_too_small(
    smollm2: SmolLM2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four prompts fill their blocks but for a few tokens; of the new ones that each then needs,
    there are two, and the third rollout takes the last one's."""
    engine = smollm2.engine
    at_once = engine._engine.vllm_config.scheduler_config.max_num_seqs
    assert engine.kv_cache == KvCache(BLOCKS * BLOCK, at_once)
    before = engine.progress().preemptions or 0
    seen, params = watch(smollm2, monkeypatch), engine._params

    def to_the_end(request: Request):  # type: ignore[no-untyped-def]
        chosen = params(request)
        chosen.ignore_eos, chosen.min_tokens = True, chosen.max_tokens
        return chosen

    monkeypatch.setattr(engine, "_params", to_the_end)
    length = (BLOCKS - 1) // 4 * BLOCK - 4
    for number in range(4):
        prompt = tuple(range(1000 * (number + 1), 1000 * (number + 1) + length))
        engine.submit(Request(K(f"p{number}", 0, 0), prompt, 12, number))
    done = []
    while completions := engine.completions():
        done += completions
    assert {each.key.problem: each.preemptions for each in done} == {
        "p0": 0, "p1": 0, "p2": 0, "p3": 1
    }  # fmt: skip
    assert [each.tokens for each in done] == [12] * 4
    assert not any(each.lost_context for each in done)
    assert engine.progress() == EngineState(0, 0, 0, 0.0, before + 1)
    assert max(figures.kv_usage or 0.0 for figures in seen) > 0.7


def test_a_seed_gives_the_same_reply_again(smollm2: SmolLM2) -> None:
    check_seeds(smollm2)


def test_a_refused_prompt_fails_its_rollout_only(smollm2: SmolLM2) -> None:
    check_refusal(smollm2, window=int(SMOLLM2[1]))
