"""A vLLM server with a family's recipe: the flags and variables that the same recipe has in the
process, as one `vllm serve` command.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from . import hardware, memory, provenance, recipes, variables
from .experiment import end
from .families import gpt_oss, qwen
from .families.family import Family
from .flags import WHOLE, Parser, reader
from .launch import apply
from .recipes import Load, Node, Recipe
from .types import UserError

FAMILIES = {"gpt_oss": gpt_oss.FAMILY, "qwen3": qwen.FAMILY}
# Copies of a model are worth more than a larger one once a copy holds this many whole windows.
WINDOWS_PER_COPY = 8


def main(argv: Sequence[str] | None = None) -> None:
    """Print the command and execute it; further flags go to `vllm serve`, where the last of two
    conflicting flags counts."""
    parser = Parser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--recipe", choices=("published", "throughput"), default="published")
    parser.add_argument("--max-num-seqs", type=reader(WHOLE), help="rollouts decoded at a time")
    parser.add_argument("--dry_run", action="store_true", help="print the command and stop")
    own, others = parser.parse_known_args(argv)
    end(lambda: serve(FAMILIES[own.family], own.recipe, own.max_num_seqs, own.dry_run, others))


def serve(
    family: Family, name: str, sequences: int | None, dry_run: bool, others: Sequence[str]
) -> None:
    node, config = recipes.node(), config_of(family)
    recipe = server_recipe(family, name, sequences, node, config, os.environ)
    if node.vllm is not None:
        variables.check(os.environ.keys() - recipe.environment.keys(), node.vllm)
    # Without an address vLLM listens on all of the machine's.
    words = [
        "vllm",
        "serve",
        family.model,
        "--host",
        "127.0.0.1",
        *flags(recipe.arguments),
        *others,
    ]
    for sentence in recipe.deviations:
        print(f"Unlike the {name} recipe: {sentence}", file=sys.stderr)
    settings = [f"{key}={value}" for key, value in recipe.environment.items() if value is not None]
    print(
        shlex.join(["env", *settings, *words] if settings else words), file=sys.stderr, flush=True
    )
    if dry_run:
        return
    apply(recipe.environment)
    try:
        os.execvp("vllm", words)
    except FileNotFoundError:
        raise UserError(
            "There is no vllm here to serve with: install requirements_current.txt or "
            "requirements.txt."
        ) from None


def config_of(family: Family) -> Mapping[str, Any]:
    """The model's config, {} where neither a cache nor a network has it."""
    try:
        return provenance.config(family.model, provenance.model(family.model))
    except UserError:
        return {}


def server_recipe(
    family: Family,
    name: str,
    sequences: int | None,
    node: Node,
    config: Mapping[str, Any],
    environ: Mapping[str, str],
) -> Recipe:
    """sequences: rollouts decoded at a time, None for vLLM's choice."""
    given: dict[str, Any] = {"max_model_len": family.max_new_tokens}
    if sequences is not None:
        given["max_num_seqs"] = sequences
    if name == "throughput" and node.vllm is not None:
        gpus = recipes.gpu_count()
        if (size := smallest_copy(config, node.gpus, gpus, family.max_new_tokens)) < gpus:
            given |= {"tensor_parallel_size": size, "data_parallel_size": gpus // size}
    load = Load(sequences, config)
    return recipes.recipe(family.engine_args, family.environment, given, node, load, name, environ)


def smallest_copy(
    config: Mapping[str, Any], gpus: Sequence[hardware.Gpu], number: int, window: int
) -> int:
    """GPUs per copy of the model so that each holds some whole windows; all where it is not known.
    number: of GPUs in use."""
    model = memory.facts(config)
    if model is None or not gpus:
        return number
    smallest = min(gpu.memory for gpu in gpus)
    for size in (1, 2, 4):
        tokens = memory.kv_tokens(model, smallest, size, 0.9)
        if number % size == 0 and tokens >= WINDOWS_PER_COPY * window:
            return size
    return number


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Engine arguments as flags of `vllm serve`."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}", *map(str, value)]
        else:
            text = json.dumps(value) if isinstance(value, Mapping) else str(value)
            words += [f"--{flag}", text]
    return words
