"""The flags every entry script takes, and the checks that need nothing but their values."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

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


def server_url(text: str) -> str:
    """The address of a server, without the slash at its end. Complaints do not repeat it: it may
    hold a password."""
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        whole = False
    if not whole or not text.isprintable() or " " in text or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError("must be like http://HOST:PORT/v1")
    if "@" in parts.netloc:
        raise argparse.ArgumentTypeError(
            "must be without user and password; a key goes into OPENAI_API_KEY"
        )
    return text.rstrip("/")


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

    add_engines(parser)

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
    given = sys.argv[1:] if argv is None else argv
    if any(argument.partition("=")[0] in ("--api_key", "--api-key") for argument in given):
        parser.error("a key is read from OPENAI_API_KEY in the environment, never from a flag")
    flags = parser.parse_args(given)
    check_engine(parser, flags)
    if "/" in flags.output_postfix or "\0" in flags.output_postfix:
        parser.error("argument --output_postfix: must be a name without slashes")
    return flags


# Flags of one engine only, each with the value it has where that engine runs and it is not given.
VLLM_ONLY: dict[str, object] = {
    "tensor_parallel_size": None,
    "pipeline_parallel_size": None,
    "distributed_executor_backend": None,
    "gpu_memory_utilization": None,
    "dtype": None,
    "enforce_eager": None,
    "max_num_seqs": None,
    "engine_args": {},
}
SERVER_ONLY: dict[str, object] = {
    "base_url": None,
    "served_model_name": None,
    "max_concurrency": None,
    "request_timeout": 3600.0,
    "max_outage": 30.0,
    "prompt_as_text": False,
}


def add_engines(parser: Parser) -> None:
    positive = between(int, 1)
    engine = parser.add_argument_group("the engine")
    engine.add_argument(
        "--engine",
        choices=("vllm", "openai"),
        default="vllm",
        help="vllm runs in this process; openai asks running servers (%(default)s)",
    )
    engine.add_argument(
        "--trust_remote_code", action="store_true", help="run code that comes with the model (off)"
    )

    vllm = parser.add_argument_group("the vLLM engine (--engine vllm)")
    vllm.add_argument(
        "--tensor_parallel_size",
        type=positive,
        metavar="N",
        help="GPUs that share one copy of the model (all of this node)",
    )
    vllm.add_argument(
        "--pipeline_parallel_size",
        type=positive,
        metavar="N",
        help="stages the model is cut into (1)",
    )
    vllm.add_argument(
        "--distributed_executor_backend",
        choices=("mp", "ray", "uni", "external_launcher"),
        help="ray spreads the engine over the nodes of a Ray cluster (vLLM's choice)",
    )
    vllm.add_argument(
        "--gpu_memory_utilization",
        type=between(float, 0, 1, open_low=True),
        metavar="SHARE",
        help="of each GPU's memory (0.9)",
    )
    vllm.add_argument(
        "--dtype", help="of the weights (bfloat16; float32 on a CPU without bfloat16 instructions)"
    )
    vllm.add_argument(
        "--enforce_eager",
        action="store_true",
        default=None,
        help="no graphs: a quicker start and slower tokens",
    )
    vllm.add_argument(
        "--max_num_seqs", type=positive, metavar="N", help="rollouts the engine works on at a time"
    )
    vllm.add_argument(
        "--engine_args",
        type=json_object,
        metavar="JSON",
        help="any other vLLM arguments, as a JSON object",
    )

    server = parser.add_argument_group(
        "a server (--engine openai)",
        "Any server with the OpenAI completions API, with sampling and prompts as for the vLLM "
        "engine. A key is read from OPENAI_API_KEY in the environment.",
    )
    server.add_argument(
        "--base_url",
        type=server_url,
        action="append",
        metavar="URL",
        help="like http://HOST:8000/v1; may be repeated: a chain keeps to one server, and moves "
        "while that one is away",
    )
    server.add_argument(
        "--served_model_name", metavar="NAME", help="the model's name there (--model_name)"
    )
    server.add_argument(
        "--max_concurrency",
        type=positive,
        metavar="N",
        help="requests in flight at a time, over all servers (all chains)",
    )
    server.add_argument(
        "--request_timeout",
        type=between(float, 0, 1e6, open_low=True),
        metavar="SECONDS",
        help="without a single byte, after which a request is sent again: not of a whole reply, "
        "which streams, but of its wait in the server's queue and its prefill (3600)",
    )
    server.add_argument(
        "--max_outage",
        type=between(float, 0, 1e6),
        metavar="MINUTES",
        help="without an answer from any server, after which the run ends (30)",
    )
    server.add_argument(
        "--prompt_as_text",
        action="store_true",
        default=None,
        help="for a server that takes no token ids; it may cut the prompt into other tokens",
    )


def check_engine(parser: Parser, flags: argparse.Namespace) -> None:
    """Refuse flags of the engine that does not run; fill in the defaults of the one that does."""
    vllm = flags.engine == "vllm"
    mine, other = (VLLM_ONLY, SERVER_ONLY) if vllm else (SERVER_ONLY, VLLM_ONLY)
    for name in other:
        if getattr(flags, name) is not None:
            belongs = "openai" if vllm else "vllm"
            parser.error(f"argument --{name}: belongs to --engine {belongs}, not {flags.engine}")
        delattr(flags, name)
    for name, default in mine.items():
        if getattr(flags, name) is None:
            setattr(flags, name, default)
    if not vllm and not flags.base_url:
        parser.error("argument --base_url: is needed with --engine openai")
