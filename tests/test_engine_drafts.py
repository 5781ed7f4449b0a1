"""Drafts on a real engine, through the loop: the same replies in fewer engine steps."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

import prepare_smollm2
from engine_runs import problems, run, slots_of, start, steps_of
from kflow.families.chat import TemplateChat

pytestmark = pytest.mark.engine

SCRIPT = "vllm_qwen_refine"
# Greedy and one rollout at a time, so that a reply does not depend on what is in the batch; in
# float32, where several tokens checked at once hardly change a logit's last bits.
FLAGS = ["--max_new_tokens", "576", "--reflex_size", "2", "--temperature", "0", "--enforce_eager"]
FLAGS += ["--max_num_seqs", "1", "--dtype", "float32", "--limit", "1"]


def test_drafts_change_nothing_but_the_number_of_engine_steps(tmp_path: Path) -> None:
    model = str(prepare_smollm2.prepare())
    chat = TemplateChat(model)
    replies, steps, tokens = {}, {}, {}
    for drafts in ("none", "ngram"):
        flags = ["--model_name", model, *FLAGS, *problems(tmp_path / drafts)]
        flags += [] if drafts == "none" else ["--speculate", drafts]
        with closing(start(SCRIPT, flags, chat)) as engine:
            step, taken = engine._engine.step, []

            def counted(step=step, taken=taken):  # type: ignore[no-untyped-def]
                taken.append(step())
                return taken[-1]

            engine._engine.step = counted
            kept = run(SCRIPT, flags, engine)
        rollouts = [r for _, *records in steps_of(tmp_path / drafts) for r, _ in slots_of(records)]
        replies[drafts] = [(r["question"], r["pred_solution"]) for r in rollouts]
        steps[drafts] = len(taken)
        tokens[drafts] = sum(each.tokens for each in kept.completed.values())
    assert replies["ngram"] == replies["none"]
    assert tokens["ngram"] == tokens["none"] <= steps["none"]
    assert steps["ngram"] < steps["none"]
