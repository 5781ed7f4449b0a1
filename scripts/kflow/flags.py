"""The flags every entry script takes, and the checks that need nothing but their values."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from .terminal import printable

Number = TypeVar("Number", int, float)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(f"{self.prog}: {message}; see --help.") + "\n")


def between(
    kind: Callable[[str], Number], low: float, high: float = math.inf, open_low: bool = False
) -> Callable[[str], Number]:
    """A number from `low` to `high`; without `low` itself if `open_low`."""
    bounds = f"{'above' if open_low else 'at least'} {low:g}"
    bounds += "" if high == math.inf else f" and at most {high:g}"

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or (open_low and value == low):
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {name}, {bounds}, not {text!r}")
        return value

    return parse


def json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object in quotes, not {text!r}")
    return value


def parse(
    description: str | None,
    model_name: str,
    max_new_tokens: int,
    dataset: str,
    argv: list[str] | None = None,
) -> argparse.Namespace:
    """The command line, checked value by value, with an experiment's defaults."""
    parser = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    positive = between(int, 1)

    method = parser.add_argument_group("the experiment")
    method.add_argument(
        "--model_name",
        default=model_name,
        metavar="NAME_OR_FOLDER",
        help="hub name or local folder (%(default)s)",
    )
    method.add_argument(
        "--max_new_tokens",
        type=between(int, 64),
        default=max_new_tokens,
        metavar="TOKENS",
        help="the context window; a reply gets the method's fraction of it (%(default)s)",
    )
    method.add_argument(
        "--reflex_size",
        type=positive,
        default=64,
        metavar="STEPS",
        help="rollouts per problem (%(default)s)",
    )
    method.add_argument(
        "--prompt_dir",
        metavar="FOLDER",
        help="use the prompt texts in this folder (scripts/kflow/prompts)",
    )
    method.add_argument(
        "--force_sections",
        action="store_true",
        help="constrain replies to the method's sections; changes the method for "
        "models that think first, meant for models too small to keep the format",
    )

    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "--temperature", type=between(float, 0, 2), default=0.6, help="0 to 2 (%(default)s)"
    )
    sampling.add_argument(
        "--top_p",
        type=between(float, 0, 1, open_low=True),
        default=None,
        help="above 0, at most 1 (the engine's default: 1)",
    )
    sampling.add_argument(
        "--top_k", type=positive, default=None, help="at least 1 (the engine's default: no limit)"
    )
    sampling.add_argument(
        "--seed",
        type=between(int, 0),
        default=0,
        help="every rollout's seed derives from it (%(default)s)",
    )

    data = parser.add_argument_group("problems")
    data.add_argument(
        "--dataset",
        default=dataset,
        metavar="NAME_OR_FILE",
        help="hub name (NAME or NAME@REVISION), a local .json, .jsonl, .csv or "
        ".parquet with 'problem' and 'answer', or 'quickstart' (%(default)s)",
    )
    data.add_argument("--split", default="train", help="of a hub data set (%(default)s)")
    data.add_argument("--limit", type=positive, metavar="N", help="only the first N problems")

    schedule = parser.add_argument_group("the schedule")
    schedule.add_argument(
        "--num_seeds",
        type=positive,
        default=1,
        metavar="K",
        help="independent chains per problem, chain k with seed + k (%(default)s)",
    )
    schedule.add_argument(
        "--stop_when_stable",
        type=between(int, 2),
        metavar="N",
        help="a chain whose last N answers agree rests; its last record stands for later steps",
    )
    schedule.add_argument(
        "--max_failures",
        type=between(int, 0),
        metavar="N",
        help="end the run when more than N rollouts have failed (never)",
    )
    schedule.add_argument(
        "--schedule",
        choices=("free", "barrier"),
        default="free",
        help="barrier waits for all of a step before the next, for comparison only",
    )

    engine = parser.add_argument_group("the vLLM engine")
    engine.add_argument(
        "--tensor_parallel_size",
        type=positive,
        metavar="N",
        help="GPUs that share one copy of the model (all)",
    )
    engine.add_argument(
        "--pipeline_parallel_size",
        type=positive,
        metavar="N",
        help="stages the model is cut into (1)",
    )
    engine.add_argument(
        "--gpu_memory_utilization",
        type=between(float, 0, 1, open_low=True),
        metavar="SHARE",
        help="of each GPU's memory (0.9)",
    )
    engine.add_argument("--dtype", help="of the weights (bfloat16)")
    engine.add_argument(
        "--enforce_eager",
        action="store_true",
        default=None,
        help="no graphs: a quicker start and slower tokens",
    )
    engine.add_argument(
        "--max_num_seqs", type=positive, metavar="N", help="rollouts the engine works on at a time"
    )
    engine.add_argument(
        "--trust_remote_code", action="store_true", help="run code that comes with the model (off)"
    )
    engine.add_argument(
        "--engine_args",
        type=json_object,
        default={},
        metavar="JSON",
        help="any other vLLM arguments, as a JSON object",
    )

    output = parser.add_argument_group("results")
    output.add_argument(
        "--results_dir",
        default="./results",
        metavar="FOLDER",
        help="where results folders go (%(default)s)",
    )
    output.add_argument(
        "--output_postfix",
        default="",
        metavar="NAME",
        help="the last part of the results folder's name (empty)",
    )
    output.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew; what is there is moved aside, not deleted",
    )
    output.add_argument(
        "--dry_run",
        action="store_true",
        help="print the configuration, the engine's arguments and the first prompt, and stop",
    )
    flags = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if "/" in flags.output_postfix or "\0" in flags.output_postfix:
        parser.error("argument --output_postfix: must be a name without slashes")
    return flags
