"""The flags of every script, as fields of frozen dataclasses by subject; settings.py joins them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kflow.engines.vllm_engine import speculation
from kflow.flags import WHOLE, Choice, JsonObject, Number, Switch, Text, Urls, flag
from kflow.running import tracking

LONGEST_PATH = 4096  # bytes


def path(text: str) -> str:
    if not text:
        return "must not be empty"
    if "\0" in text or len(text) > LONGEST_PATH:
        return f"must be a name of at most {LONGEST_PATH:,} characters without NUL"
    return ""


def postfix(text: str) -> str:
    return "must be a name without slashes" if "/" in text or "\0" in text else ""


NAME = Text(path)


@dataclass(frozen=True)
class ExperimentFlags:
    """model_name, max_new_tokens, reflex_size: "" and 0 stand for the experiment's."""

    model_name: str = flag(
        "",
        "hub name (NAME or NAME@REVISION) or local folder",
        NAME,
        "NAME_OR_FOLDER",
    )
    max_new_tokens: int = flag(
        0,
        "the context window; a reply may use the method's share of it",
        Number(int, 64, 1e9),
        "TOKENS",
    )
    reflex_size: int = flag(
        0,
        "steps per chain, each of one rollout unless the method has several",
        Number(int, 1, 1e6),
        "STEPS",
    )
    token_budget: int | None = flag(
        None,
        "end a chain with the step at which its prompt and reply tokens reach this many (never)",
        WHOLE,
        "TOKENS",
    )
    prompt_dir: str | None = flag(
        None, "use the prompt texts in this folder (the method's own)", NAME, "FOLDER"
    )
    force_sections: bool = flag(
        False,
        "constrain replies to the method's sections, for models too small to keep the format; "
        "changes the method for reasoning models",
        Switch(),
    )


@dataclass(frozen=True)
class Sampling:
    temperature: float = flag(0.6, "sampling temperature, 0 to 2", Number(float, 0, 2))
    top_p: float | None = flag(
        None,
        "sample from the likeliest tokens that together have this probability, above 0 and at most "
        "1 (the engine's default: 1)",
        Number(float, 0, 1, open_low=True),
    )
    top_k: int | None = flag(
        None,
        "sample from this many of the likeliest tokens (the engine's default: no limit)",
        WHOLE,
    )
    seed: int = flag(0, "seed from which every rollout's own is derived", Number(int, 0))


@dataclass(frozen=True)
class Data:
    """dataset: "" stands for the experiment's; None for what is known of a data set."""

    dataset: str = flag(
        "",
        "hub name (NAME or NAME@REVISION), a local .json, .jsonl, .csv or .parquet file with the "
        "columns 'problem' and 'answer', or 'quickstart' for the bundled problems",
        NAME,
        "NAME_OR_FILE",
    )
    split: str | None = flag(None, "split of a hub data set (a known set's own, else train)", NAME)
    dataset_config: str | None = flag(
        None, "configuration of a hub data set that has several (a known set's own)", NAME, "NAME"
    )
    problem_column: str | None = flag(
        None, "column with the questions (a known set's own, else problem)", NAME, "COLUMN"
    )
    answer_column: str | None = flag(
        None, "column with the correct answers (a known set's own, else answer)", NAME, "COLUMN"
    )
    answer_type: str | None = flag(
        None,
        "what the answers are: integers, mathematical expressions, or the letters of a multiple "
        "choice (a known set's own, else integer)",
        Choice(("integer", "expression", "choice")),
    )
    limit: int | None = flag(None, "only the first N problems", WHOLE, "N")


@dataclass(frozen=True)
class Schedule:
    num_seeds: int = flag(
        1,
        "independent chains per problem, each with its own sampling seeds",
        Number(int, 1, 10_000),
        "K",
    )
    stop_when_stable: int | None = flag(
        None,
        "stop a chain early once its last N answers agree; later steps repeat its last record "
        "(never)",
        Number(int, 2),
        "N",
    )
    max_failures: int | None = flag(
        None,
        "end the run once more than N rollouts have failed for good (never)",
        Number(int, 0),
        "N",
    )
    schedule: str = flag(
        "free",
        "free: no chain waits for another; barrier: every step waits for all chains, for "
        "comparison only",
        Choice(("free", "barrier")),
    )


@dataclass(frozen=True)
class AnyEngine:
    engine: str = flag(
        "vllm",
        "vllm runs in this process; openai sends requests to running servers, and chat to those "
        "that have only chat completions",
        Choice(("vllm", "openai", "chat")),
    )
    trust_remote_code: bool = flag(False, "execute code that comes with the model (off)", Switch())
    canary: bool = flag(
        False,
        "ask ten sums before the run, which ends there with exit code 1 if a published model gets "
        "fewer than eight right",
        Switch(),
    )
    change_engine: bool = flag(
        False,
        "resume with a different engine; each rollout records it",
        Switch(),
    )


@dataclass(frozen=True)
class VllmFlags:
    recipe: str = flag(
        "published",
        "vLLM's arguments and kernels: those of the published runs, or the installed vLLM's "
        "fastest without loss of precision",
        Choice(("published", "throughput")),
    )
    tensor_parallel_size: int | None = flag(
        None, "GPUs that share one copy of the model (all GPUs of this node)", WHOLE, "N"
    )
    pipeline_parallel_size: int | None = flag(None, "pipeline stages (1)", WHOLE, "N")
    distributed_executor_backend: str | None = flag(
        None,
        "ray: one engine over the nodes of a Ray cluster (vLLM's choice)",
        Choice(("mp", "ray", "uni", "external_launcher")),
    )
    gpu_memory_utilization: float | None = flag(
        None,
        "share of each GPU's memory that vLLM may use (0.9)",
        Number(float, 0, 1, open_low=True),
        "SHARE",
    )
    dtype: str | None = flag(
        None,
        "data type of the weights (bfloat16; float32 on a CPU without bfloat16 instructions)",
        Text(),
    )
    enforce_eager: bool = flag(False, "no CUDA graphs: faster start, slower decoding", Switch())
    max_num_seqs: int | None = flag(
        None, "rollouts decoded at a time (all that are in flight, up to 1,024)", WHOLE, "N"
    )
    speculate: str | None = flag(
        None,
        "speculative decoding, with drafts from the text so far (ngram), from earlier replies too "
        "(suffix), or by a draft model (eagle3:MODEL); faster, with other samples of the same "
        "distribution (off)",
        Text(speculation.wrong),
        "DRAFTS",
    )
    engine_args: Mapping[str, object] = flag(
        {}, "any other vLLM arguments, as a JSON object", JsonObject(), "JSON"
    )


@dataclass(frozen=True)
class ServerFlags:
    base_url: tuple[str, ...] = flag(
        (),
        "address of a server, like http://HOST:8000/v1; repeat the flag for several: a chain stays "
        "on one server and moves only while that one is down",
        Urls(),
        "URL",
    )
    served_model_name: str | None = flag(
        None, "the server's name for the model (--model_name)", NAME, "NAME"
    )
    max_concurrency: int | None = flag(
        None, "requests in flight at a time, over all servers (no limit)", WHOLE, "N"
    )
    request_timeout: float = flag(
        3600.0,
        "resend a request after this many seconds without a new token; queueing and prefill count",
        Number(float, 0, 1e6, open_low=True),
        "SECONDS",
    )
    max_outage: float = flag(
        30.0,
        "end the run after this many minutes without an answer from any server",
        Number(float, 0, 1e6),
        "MINUTES",
    )
    prompt_as_text: bool = flag(
        False,
        "send prompts as text, to servers that take no token ids; these may tokenize them "
        "differently (--engine openai only)",
        Switch(),
    )
    prompt_price: float | None = flag(
        None,
        "price per million prompt tokens, in any currency; with --reply_price, costs are shown",
        Number(float, 0, 1e9),
        "PRICE",
    )
    reply_price: float | None = flag(
        None, "price per million reply tokens", Number(float, 0, 1e9), "PRICE"
    )


@dataclass(frozen=True)
class Results:
    results_dir: str = flag("./results", "parent of the results folders", NAME, "FOLDER")
    output_postfix: str = flag(
        "", "the last part of the results folder's name (empty)", Text(postfix), "NAME"
    )
    track: str | None = flag(
        None,
        "log every step to trackio or wandb, which you install separately (off)",
        Text(tracking.wrong),
        "TRACKER[:PROJECT]",
    )
    overwrite: bool = flag(
        False, "start over; existing results are moved aside, not deleted", Switch()
    )
    dry_run: bool = flag(
        False,
        "check settings and machine, print the plan, and start nothing; exit code 2 if anything is "
        "wrong",
        Switch(),
    )
