"""Drafts on a real engine, through the loop: the same replies in fewer engine steps."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import prepare_smollm2
from helpers.engine_runs import draw_from, problems, run, slots_of, start, steps_of
from kflow.families.chat import TemplateChat

pytestmark = pytest.mark.engine

SCRIPT = "vllm_qwen_refine"
# Greedy and one rollout at a time, so that a reply does not depend on what is in the batch; in
# float32, where checking several tokens at once hardly changes a logit's last bits.
FLAGS = ["--max_new_tokens", "576", "--reflex_size", "2", "--temperature", "0", "--enforce_eager"]
FLAGS += ["--max_num_seqs", "1", "--dtype", "float32", "--limit", "1"]


def tiny_model(folder: Path) -> str:
    """A small random model with SmolLM2's tokenizer that draws from two dozen tokens by the last
    one, and so goes round in circles."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(
        prepare_smollm2.prepare(), folder, ignore=shutil.ignore_patterns("*.safetensors")
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    draw_from(model, range(1000, 1024), 1.0)
    model.save_pretrained(folder)
    return str(folder)


def tiny_draft(folder: Path) -> str:
    """An EAGLE-3 draft model for the tiny one, as random and of the same two dozen tokens, so that
    it is right now and then."""
    import torch
    from safetensors.torch import save_file

    hidden, vocabulary = 128, 49_152
    shapes = {
        "fc": (hidden, 3 * hidden),
        "lm_head": (vocabulary, hidden),
        **{f"midlayer.self_attn.{name}_proj": (hidden, 2 * hidden) for name in "qkv"},
        "midlayer.self_attn.o_proj": (hidden, hidden),
        "midlayer.mlp.gate_proj": (2 * hidden, hidden),
        "midlayer.mlp.up_proj": (2 * hidden, hidden),
        "midlayer.mlp.down_proj": (hidden, 2 * hidden),
    }
    torch.manual_seed(1)
    weights = {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}
    weights["fc"][0, 0] = 1.0
    weights["lm_head"][:, 0] = -1.0
    weights["lm_head"][1000:1024, 0] = 1.0
    norms = ("norm", *(f"midlayer.{n}" for n in ("input_layernorm", "hidden_norm")))
    for name in (*norms, "midlayer.post_attention_layernorm"):
        weights[name] = torch.ones(hidden)
    folder.mkdir()
    save_file({f"{name}.weight": w for name, w in weights.items()}, folder / "model.safetensors")
    config = {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "draft_vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "eagle_aux_hidden_state_layer_ids": [0, 1, 2],
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def work(model: str, flags: list[str]) -> tuple[int, int]:
    """Engine steps and tokens of a run."""
    steps: list[Any] = []
    with closing(start(SCRIPT, flags, TemplateChat(model))) as engine:
        step = engine._engine.step

        def counted() -> Any:
            steps.append(step())
            return steps[-1]

        engine._engine.step = counted
        kept = run(SCRIPT, flags, engine)
    return len(steps), sum(each.tokens for each in kept.completed.values())


def test_drafts_change_nothing_but_the_number_of_engine_steps(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny")
    eagle3 = f"eagle3:{tiny_draft(tmp_path / 'draft')}"
    replies, steps, tokens = {}, {}, {}
    for drafts in ("none", "ngram", eagle3):
        folder = tmp_path / drafts.partition(":")[0]
        flags = ["--model_name", model, *FLAGS, *problems(folder)]
        flags += [] if drafts == "none" else ["--speculate", drafts]
        # In a process of its own: vLLM 0.32 starts no further engine in one that has had drafts.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            steps[drafts], tokens[drafts] = other.submit(work, model, flags).result()
        rollouts = [r for _, *records in steps_of(folder) for r, _ in slots_of(records)]
        replies[drafts] = [(r["question"], r["pred_solution"]) for r in rollouts]
    assert tokens["none"] <= steps["none"]
    for drafts in ("ngram", eagle3):
        assert replies[drafts] == replies["none"]
        assert tokens[drafts] == tokens["none"]
        assert steps[drafts] < steps["none"]


def test_the_cpu_build_still_ignores_the_temperature_of_drafts() -> None:
    """Where this fails, vLLM has fixed it: `speculation.check_sampling` can go."""
    import torch
    import vllm._custom_ops  # noqa: F401
    from vllm.utils.cpu_triton_utils import _expand_kernel_impl

    untouched = torch.full((5,), -7.0)
    _expand_kernel_impl(untouched, torch.tensor([0.6, 0.9]), torch.tensor([2, 5]), 0, 1)
    assert untouched.tolist() == [-7.0] * 5
