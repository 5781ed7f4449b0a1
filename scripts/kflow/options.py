"""The flags of every script, as fields of frozen dataclasses by subject; settings.py joins them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import speculation, tracking
from .flags import WHOLE, Choice, JsonObject, Number, Switch, Text, Urls, flag

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
        "the context window; a reply gets the method's fraction of it",
        Number(int, 64, 1e9),
        "TOKENS",
    )
    reflex_size: int = flag(
        0,
        "steps per chain; a step is one rollout unless the method has several",
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
    temperature: float = flag(0.6, "0 to 2", Number(float, 0, 2))
    top_p: float | None = flag(
        None, "above 0, at most 1 (the engine's default: 1)", Number(float, 0, 1, open_low=True)
    )
    top_k: int | None = flag(None, "at least 1 (the engine's default: no limit)", WHOLE)
    seed: int = flag(0, "every rollout's seed derives from it", Number(int, 0))


@dataclass(frozen=True)
class Data:
    """dataset: "" stands for the experiment's; None for what is known of a data set."""

    dataset: str = flag(
        "",
        "hub name (NAME or NAME@REVISION), a local .json, .jsonl, .csv or .parquet with 'problem' "
        "and 'answer', or 'quickstart'",
        NAME,
        "NAME_OR_FILE",
    )
    split: str | None = flag(None, "of a hub data set (a known set's own, else train)", NAME)
    dataset_config: str | None = flag(
        None, "of a hub data set that has several configurations (a known set's own)", NAME, "NAME"
    )
    problem_column: str | None = flag(
        None, "where the questions are (a known set's own, else problem)", NAME, "COLUMN"
    )
    answer_column: str | None = flag(
        None, "where the right answers are (a known set's own, else answer)", NAME, "COLUMN"
    )
    answer_type: str | None = flag(
        None,
        "what the answers are: integers, mathematical expressions, or the letters of choices (a "
        "known set's own, else integer)",
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
        "vllm runs in this process; openai sends requests to running servers; chat to servers "
        "with chat completions only",
        Choice(("vllm", "openai", "chat")),
    )
    trust_remote_code: bool = flag(False, "execute code that comes with the model (off)", Switch())
    canary: bool = flag(
        False,
        "ask ten sums before the run; fewer than eight right end it with code 1 for a published "
        "model",
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
        "vLLM's arguments and kernels: as published, or the installed vLLM's fastest without loss "
        "of precision",
        Choice(("published", "throughput")),
    )
    tensor_parallel_size: int | None = flag(
        None, "GPUs that share one copy of the model (all of this node)", WHOLE, "N"
    )
    pipeline_parallel_size: int | None = flag(None, "pipeline stages (1)", WHOLE, "N")
    distributed_executor_backend: str | None = flag(
        None,
        "ray: one engine over the nodes of a Ray cluster (vLLM's choice)",
        Choice(("mp", "ray", "uni", "external_launcher")),
    )
    gpu_memory_utilization: float | None = flag(
        None, "of each GPU's memory (0.9)", Number(float, 0, 1, open_low=True), "SHARE"
    )
    dtype: str | None = flag(
        None,
        "of the weights (bfloat16; float32 on a CPU without bfloat16 instructions)",
        Text(),
    )
    enforce_eager: bool = flag(False, "no CUDA graphs: faster start, slower decoding", Switch())
    max_num_seqs: int | None = flag(
        None, "rollouts decoded at a time (as many as there are, up to 1,024)", WHOLE, "N"
    )
    speculate: str | None = flag(
        None,
        "speculative decoding, with drafts from the text so far (ngram), from earlier replies too "
        "(suffix), or by a draft model (eagle3:MODEL); faster, other samples of the same "
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
        "like http://HOST:8000/v1; repeat it for several servers: a chain stays on one, and moves "
        "only while that one is down",
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
        "without a new token, after which a request is sent again; includes queueing and prefill",
        Number(float, 0, 1e6, open_low=True),
        "SECONDS",
    )
    max_outage: float = flag(
        30.0,
        "without an answer from any server, after which the run ends",
        Number(float, 0, 1e6),
        "MINUTES",
    )
    prompt_as_text: bool = flag(
        False,
        "send prompts as text, to servers that take no token ids; they may tokenize differently "
        "(--engine openai only)",
        Switch(),
    )
    prompt_price: float | None = flag(
        None,
        "per million prompt tokens, in any currency; with --reply_price, costs are shown",
        Number(float, 0, 1e9),
        "PRICE",
    )
    reply_price: float | None = flag(
        None, "per million tokens of replies", Number(float, 0, 1e9), "PRICE"
    )


@dataclass(frozen=True)
class Results:
    results_dir: str = flag("./results", "parent of the results folders", NAME, "FOLDER")
    output_postfix: str = flag(
        "", "the last part of the results folder's name (empty)", Text(postfix), "NAME"
    )
    track: str | None = flag(
        None,
        "log every step to trackio or wandb, to be installed separately (off)",
        Text(tracking.wrong),
        "TRACKER[:PROJECT]",
    )
    overwrite: bool = flag(
        False, "start over; existing results are moved aside, not deleted", Switch()
    )
    dry_run: bool = flag(
        False,
        "check settings and machine, print what run.json would hold and the first prompt, and stop",
        Switch(),
    )
