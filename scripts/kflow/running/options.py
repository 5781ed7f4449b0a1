"""The flags of every script, as fields of frozen dataclasses by subject; settings.py joins them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from kflow.flags import Addresses, JsonObject, Must, Name, Share, Whole, flag
from kflow.ground.terminal import shortened

Postfix = Annotated[str, Meta(pattern=r"\A[^/\0]*\Z", description="a name without slashes")]
Cost = Annotated[float, Meta(ge=0, le=1_000_000_000)]
Drafts = Annotated[
    str,
    Meta(pattern=r"\A(ngram|suffix|eagle3:.+)\Z", description="ngram, suffix or eagle3:MODEL"),
]


AS_JSON = "json"  # of --dry_run


def check_dry_run(value: object) -> object:
    if not isinstance(value, bool) and value != AS_JSON:
        raise ValueError(f"must be True, False or {AS_JSON!r}, not {shortened(value)}")
    return value


def read_dry_run(text: str) -> str:
    if text != AS_JSON:
        raise ValueError(f"must be {AS_JSON} if a value is given, not {shortened(text)}")
    return text


DryRun = Annotated[bool | str, Must(check_dry_run, read_dry_run, alone=True)]


@dataclass(frozen=True)
class ExperimentFlags:
    """model_name, max_new_tokens, reflex_size: "" and 0 stand for the experiment's."""

    model_name: Name = flag(
        "",
        "hub name (NAME or NAME@REVISION) or local folder; smollm2: a small model, prepared once",
        "NAME_OR_FOLDER",
    )
    max_new_tokens: Annotated[int, Meta(ge=64, le=1_000_000_000)] = flag(
        0, "the context window; a reply may use the method's share of it", "TOKENS", results=True
    )
    reflex_size: Annotated[int, Meta(ge=1, le=1_000_000)] = flag(
        0, "steps per chain, each of one rollout unless the method has several", "STEPS"
    )
    token_budget: Whole | None = flag(
        None,
        "end a chain with the step at which its prompt and reply tokens reach this many (never)",
        "TOKENS",
        results=True,
    )
    prompt_dir: Name | None = flag(
        None, "use the prompt texts in this folder (the method's own)", "FOLDER"
    )
    force_sections: bool = flag(
        False,
        "constrain replies to the method's sections, for models too small to keep the format; "
        "changes the method for reasoning models",
        results=True,
    )


@dataclass(frozen=True)
class Sampling:
    temperature: Annotated[float, Meta(ge=0, le=2)] = flag(
        0.6, "sampling temperature, 0 to 2", results=True
    )
    top_p: Share | None = flag(
        None,
        "sample from the likeliest tokens that together have this probability, above 0 and at most "
        "1 (the engine's default: 1)",
        results=True,
    )
    top_k: Whole | None = flag(
        None,
        "sample from this many of the likeliest tokens (the engine's default: no limit)",
        results=True,
    )
    seed: Annotated[int, Meta(ge=0)] = flag(
        0, "seed from which every rollout's sampling seed is derived", results=True
    )


@dataclass(frozen=True)
class Data:
    """dataset: "" stands for the experiment's; None for what is known of a data set."""

    dataset: Name = flag(
        "",
        "hub name (NAME or NAME@REVISION), a local .json, .jsonl, .csv or .parquet file with the "
        "columns 'problem' (or 'question') and 'answer', 'quickstart' for the bundled problems, or "
        "reasoning_gym/TASK or reasoning_gym/mix:FILE for generated ones",
        "NAME_OR_FILE",
    )
    dataset_args: JsonObject = flag(
        {}, "settings of a generated data set: size, seed and the task's own", "JSON"
    )
    split: Name | None = flag(None, "split of a hub data set (a known set's own, else train)")
    dataset_config: Name | None = flag(
        None, "configuration of a hub data set that has several (a known set's own)", "NAME"
    )
    problem_column: Name | None = flag(
        None, "column with the questions (a known set's own, else problem or question)", "COLUMN"
    )
    answer_column: Name | None = flag(
        None, "column with the correct answers (a known set's own, else answer)", "COLUMN"
    )
    answer_type: Name | None = flag(
        None,
        "what the answers are: integer, expression (mathematical), choice (a letter), or a type of "
        "your own as package.module:Type (a known set's own, else integer)",
        "TYPE",
    )
    limit: Whole | None = flag(None, "only the first N problems", "N")


@dataclass(frozen=True)
class Schedule:
    num_seeds: Annotated[int, Meta(ge=1, le=10_000)] = flag(
        1, "independent chains per problem, each with its own sampling seeds", "K"
    )
    stop_when_stable: Annotated[int, Meta(ge=2)] | None = flag(
        None,
        "stop a chain early once its last N answers agree; later steps repeat its last record "
        "(never)",
        "N",
        results=True,
    )
    max_failures: Annotated[int, Meta(ge=0)] | None = flag(
        None, "end the run once more than N rollouts have failed for good (never)", "N"
    )
    retry_failed: bool = flag(
        False,
        "ask failed rollouts on record again, unless a later step of their chain depends on them",
    )
    schedule: Literal["free", "barrier"] = flag(
        "free",
        "free: no chain waits for another; barrier: every step waits for all chains, for "
        "comparison only",
    )


@dataclass(frozen=True)
class AnyEngine:
    engine: Literal["vllm", "openai", "chat"] = flag(
        "vllm",
        "vllm runs in this process; openai sends requests to running servers, and chat to those "
        "that have only chat completions",
        results=True,
    )
    trust_remote_code: bool = flag(False, "execute code that comes with the model (off)")
    canary: bool = flag(
        False,
        "ask ten sums before the run starts; if a published model gets fewer than eight right, "
        "stop with exit code 2",
    )
    change_engine: bool = flag(False, "resume with a different engine; each rollout records it")


@dataclass(frozen=True)
class VllmFlags:
    recipe: Literal["published", "throughput"] = flag(
        "published",
        "vLLM's arguments and kernels: those of the published runs, or the installed vLLM's "
        "fastest without loss of precision",
    )
    as_published: bool = flag(
        False,
        "undo what this program changes in vLLM's published arguments: async scheduling on, "
        "vLLM's own batch, CUDA graphs of 2,048, no prefix caching for several seeds; before vLLM "
        "0.11.2 a preempted rollout then loses its reply",
    )
    tensor_parallel_size: Whole | None = flag(
        None, "GPUs that share one copy of the model (all GPUs of this node)", "N"
    )
    pipeline_parallel_size: Whole | None = flag(None, "pipeline stages (1)", "N")
    distributed_executor_backend: Literal["mp", "ray", "uni", "external_launcher"] | None = flag(
        None, "ray: one engine over the nodes of a Ray cluster (vLLM's choice)"
    )
    gpu_memory_utilization: Share | None = flag(
        None, "share of each GPU's memory that vLLM may use (0.9)", "SHARE"
    )
    dtype: Name | None = flag(
        None, "data type of the weights (bfloat16; float32 on a CPU without bfloat16 instructions)"
    )
    enforce_eager: bool = flag(False, "no CUDA graphs: faster start, slower decoding")
    max_num_seqs: Whole | None = flag(
        None, "rollouts decoded at a time (all that are in flight, up to 1,024)", "N"
    )
    speculate: Drafts | None = flag(
        None,
        "speculative decoding, with drafts from the text so far (ngram), from earlier replies too "
        "(suffix), or by a draft model (eagle3:MODEL); faster, with other samples of the same "
        "distribution (off)",
        "DRAFTS",
        results=True,
    )
    engine_args: JsonObject = flag({}, "any other vLLM arguments, as a JSON object", "JSON")


@dataclass(frozen=True)
class ServerFlags:
    base_url: Addresses = flag(
        (),
        "address of a server, like http://HOST:8000/v1; repeat the flag for several: a chain stays "
        "on one server and moves only while that one is down. @FILE: a file of addresses, one per "
        "line, which is read again when it changes",
        "URL",
    )
    served_model_name: Name | None = flag(
        None, "the server's name for the model (--model_name)", "NAME"
    )
    max_concurrency: Whole | None = flag(
        None, "requests in flight at a time, over all servers (no limit)", "N"
    )
    request_timeout: Annotated[float, Meta(gt=0, le=1_000_000)] = flag(
        3600.0,
        "resend a request after this many seconds without a new token; queueing and prefill count",
        "SECONDS",
    )
    max_outage: Annotated[float, Meta(ge=0, le=1_000_000)] = flag(
        30.0, "end the run after this many minutes without an answer from any server", "MINUTES"
    )
    prompt_as_text: bool = flag(
        False,
        "send prompts as text, for servers that accept no token ids; the server may tokenize them "
        "differently (--engine openai only)",
        results=True,
    )
    record_refusals: bool = flag(
        False,
        "record a refused rollout as failed for good even where no other rollout can show that the "
        "fault is its own, as with a single chain; without this flag its step stays open",
    )
    request_args: JsonObject = flag(
        {},
        "more fields for every request, as a JSON object, such as those by which a router chooses "
        "a host",
        "JSON",
        results=True,
    )
    prompt_price: Cost | None = flag(
        None,
        "price per million prompt tokens, in any currency (what the server's list of models says)",
        "PRICE",
    )
    reply_price: Cost | None = flag(None, "price per million reply tokens", "PRICE")
    max_cost: Cost | None = flag(
        None,
        "end the run once it has cost this much; in a study, all arms together (never)",
        "COST",
    )


@dataclass(frozen=True)
class Results:
    results_dir: Name = flag("./results", "parent of the results folders", "FOLDER")
    output_postfix: Postfix = flag("", "the last part of the results folder's name (empty)", "NAME")
    overwrite: bool = flag(False, "start over; existing results are moved aside, not deleted")
    dry_run: DryRun = flag(
        False,
        "check settings and machine, print the plan, and start nothing; exit code 2 if anything is "
        "wrong; json: also print what run.json would hold and the first prompt",
        "json",
    )
