"""run.json: what a run is (`Manifest`) and every start of it (`Session`). `--dry_run` prints the
first; resume compares a part of it. No key is written: not one in the environment, not one in an
address, not one among the engine's arguments.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

import msgspec

from . import hub, provenance, recipes
from .problems import Source
from .provenance import Model
from .redaction import SECRET, public, public_argument
from .settings import IDENTITY
from .terminal import shortened
from .types import UserError

ENVIRONMENT = (
    "VLLM_", "CUDA_VISIBLE_DEVICES", "HF_", "TOKENIZERS_", "OMP_NUM_THREADS", "ONEDNN_", "ATEN_",
)  # fmt: skip


@dataclass(frozen=True)
class ExperimentRecord:
    """family: its name. method: its class, by qualified name; ahead: `Method.ahead`. fields: the
    method's."""

    prefix: str
    family: str
    reasoning_effort: str | None
    method: str
    ahead: bool
    fields: dict[str, Any]


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
    """One start of the program. engine: how the engine described itself; arguments: as passed to
    it this time."""

    argv: list[str]
    started: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    machine: str
    processors: int | None
    gpus: list[str]
    environment: dict[str, str]
    engine: dict[str, Any]
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What a run is. model, problems: None where a dry run could not find them. prompts: the sha256
    of each prompt file. answers: the answer type's name. method_code: a hash over the method's
    code, on record and not compared: resume compares what the code makes of the replies."""

    experiment: ExperimentRecord
    model: Model | None
    problems: ProblemsRecord | None
    prompts: dict[str, str]
    answers: str | None
    sampling: dict[str, Any]
    settings: dict[str, Any]
    engine: EngineRecord
    method_code: str
    sessions: list[Session] = field(default_factory=list)


def session(engine: Mapping[str, object], arguments: Mapping[str, object]) -> Session:
    commit, dirty = provenance.code()
    return Session(
        argv=[public_argument(word) for word in provenance.command()],
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=commit,
        dirty=dirty,
        versions=provenance.versions(),
        machine=platform.platform(),
        processors=os.cpu_count(),
        gpus=provenance.gpus(),
        environment=environment(),
        engine=public(engine),
        arguments=public(arguments),
    )


def environment() -> dict[str, str]:
    return {
        name: public(value)
        for name, value in sorted(os.environ.items())
        if name.startswith(ENVIRONMENT) and not SECRET.search(name) and name not in hub.set_here
    }


def plain(value: Any) -> Any:
    """A dataclass as it comes back from JSON."""
    return json.loads(json.dumps(public(asdict(value)), ensure_ascii=False, allow_nan=False))


def shown(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def read(run: Mapping[str, Any], folder: object) -> Manifest:
    """The manifest on disk. Raises UserError for one that this version did not write."""
    try:
        return msgspec.convert(run, Manifest)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UserError(
            f"{folder} holds a run of another version of this program (run.json: {error}): give "
            "--output_postfix a new name, or --overwrite to move it aside."
        ) from error


def identity(manifest: Manifest) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    record = plain(manifest)
    problems, settings = record["problems"] or {}, record["settings"]
    arguments = record["engine"]["arguments"]
    same = recipes.SAME_RESULTS if record["engine"]["kind"] == "vllm" else SAME_REPLIES
    if settings.get("speculate") is not None:
        same |= {"speculative_config"}  # whose sizes follow from the number of chains
    return {
        **{name: record[name] for name in ("experiment", "model", "prompts", "answers")},
        "problems": {name: problems.get(name) for name in ("number", "hash")},
        "sampling": record["sampling"],
        "settings": {name: settings[name] for name in IDENTITY if name in settings},
        "engine": {name: value for name, value in arguments.items() if name not in same},
    }


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


def check(before: Manifest, now: Manifest, folder: object) -> None:
    """Raises UserError naming everything in which the run on disk is another one."""
    if differing := differences(identity(before), identity(now)):
        raise UserError(
            f"{folder} holds a run with other settings ({'; '.join(differing)}): give "
            "--output_postfix a new name, or --overwrite to move it aside."
        )
