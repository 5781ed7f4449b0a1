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

from kflow.engines.vllm_engine import recipes
from kflow.engines.vllm_engine.arguments import check_variables
from kflow.engines.vllm_engine.recipes import Load, Node, Recipe
from kflow.families import gpt_oss, qwen
from kflow.families.family import Family
from kflow.flags import Share, Whole, reader
from kflow.ground import hardware
from kflow.ground.program import Parser
from kflow.ground.signals import end
from kflow.running.checks import PUBLISHED_WEIGHTS
from kflow.running.engine import apply
from kflow.types import UserError

FAMILIES = {"gpt_oss": gpt_oss.FAMILY, "qwen3": qwen.FAMILY}
# Flags of `vllm serve` that decide the recipe: argument -> short names, values, help.
SHAPE: Mapping[str, tuple[tuple[str, ...], Any, str]] = {
    "max_num_seqs": ((), Whole, "rollouts decoded at a time"),
    "max_model_len": ((), Whole, "the context window, in tokens"),
    "gpu_memory_utilization": ((), Share, "share of each GPU's memory to use"),
    "tensor_parallel_size": (("-tp",), Whole, "GPUs per copy of the model"),
    "pipeline_parallel_size": (("-pp",), Whole, "stages per copy of the model"),
    "data_parallel_size": (("-dp",), Whole, "copies of the model"),
}
LOCAL = ("--host", "127.0.0.1")  # without an address vLLM listens on all of the machine's
COPIES = {"tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the command and execute it; further flags go to `vllm serve`, where the last of two
    conflicting flags counts."""
    parser = Parser(main.__doc__)
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--recipe", choices=("published", "throughput"), default="published")
    for name, (short, kind, text) in SHAPE.items():
        names = [f"--{name.replace('_', '-')}", f"--{name}", *short]
        parser.add_argument(*names, dest=name, type=reader(kind), help=text)
    parser.add_argument("--dry_run", action="store_true", help="print the command and stop")
    own, others = parser.parse_known_args(argv)
    given = {name: getattr(own, name) for name in SHAPE if getattr(own, name) is not None}
    end(lambda: serve(FAMILIES[own.family], own.recipe, given, own.dry_run, others))


def serve(
    family: Family, name: str, own: Mapping[str, Any], dry_run: bool, others: Sequence[str]
) -> None:
    node = recipes.node()
    recipe = server_recipe(family, name, own, node, os.environ)
    if node.vllm is not None:
        check_variables(os.environ.keys() - recipe.environment.keys(), node.vllm)
    words = ["vllm", "serve", family.model, *LOCAL, *flags(recipe.arguments), *others]
    for sentence in recipe.deviations:
        print(f"Unlike the {name} recipe: {sentence}", file=sys.stderr)
    settings = [f"{key}={value}" for key, value in recipe.environment.items() if value is not None]
    command = ["env", *settings, *words] if settings else words
    print(shlex.join(command), file=sys.stderr, flush=True)
    if dry_run:
        return
    apply(recipe.environment)
    try:
        os.execvp("vllm", words)
    except FileNotFoundError:
        raise UserError(
            "The vllm command was not found: install requirements/current.txt or requirements.txt."
        ) from None


def server_recipe(
    family: Family,
    name: str,
    own: Mapping[str, Any],
    node: Node,
    environ: Mapping[str, str],
) -> Recipe:
    """own: the arguments of SHAPE that were given. Without max_num_seqs, vLLM chooses it."""
    given: dict[str, Any] = {"max_model_len": family.max_new_tokens, **own}
    if name == "throughput" and node.vllm is not None and not COPIES & own.keys():
        gpus = recipes.gpu_count()
        size = smallest_copy(PUBLISHED_WEIGHTS[family.model], node.gpus, gpus)
        if size < gpus:
            given |= {"tensor_parallel_size": size, "data_parallel_size": gpus // size}
    load = Load(own.get("max_num_seqs"), mxfp4=family is gpt_oss.FAMILY)
    return recipes.recipe(family.engine_args, family.environment, given, node, load, name, environ)


def smallest_copy(weights: int, gpus: Sequence[hardware.Gpu], number: int) -> int:
    """GPUs per copy of the model so that at least half of their memory is left beside its weights;
    all where it is not known. weights: bytes. number: of GPUs in use."""
    smallest = min((gpu.memory for gpu in gpus), default=0)
    fits = (n for n in (1, 2, 4) if number % n == 0 and weights <= n * smallest / 2)
    return next(fits, number)


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
