"""The Hugging Face hub: whether it can be reached, tried once and quickly."""

from __future__ import annotations

import logging
import os
import socket
from functools import cache
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kflow.ground.terminal import first_line
from kflow.ground.version import version_of
from kflow.types import Unreachable, UserError

TIMEOUT = 10.0  # seconds
OFFLINE = "HF_HUB_OFFLINE"
TRANSFER = "HF_HUB_ENABLE_HF_TRANSFER"  # of the published runs


# Variables of the environment that this program has set, not its user.
set_here: set[str] = set()


@cache
def prepare() -> None:
    """To be called before the hub's libraries are imported. If the hub cannot be reached, makes
    them look in their cache at once instead of retrying half a minute for each file. Also unsets a
    variable of the published runs, of which newer libraries only warn: run.json would hold it."""
    if not uses_transfer(version_of("huggingface-hub")):
        os.environ.pop(TRANSFER, None)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not os.environ.get(OFFLINE) and not reachable(os.environ.get("HF_ENDPOINT") or ""):
        os.environ[OFFLINE] = "1"
        set_here.add(OFFLINE)


def uses_transfer(version: str | None) -> bool:
    """Whether this huggingface-hub still asks hf_transfer to download."""
    return version is not None and version.split(".")[0] == "0"


def failure(sentence: str) -> UserError:
    """The error for what the hub did not give: the user's mistake where it was asked."""
    return (Unreachable if os.environ.get(OFFLINE) else UserError)(sentence)


def reason(error: Exception) -> str:
    """Why the hub did not give something. Where this program itself has told the hub's library that
    there is no network, the library's words would only say that somebody did."""
    return "the hub cannot be reached from here" if OFFLINE in set_here else first_line(error)


def is_path(name: str) -> bool:
    """Whether a name can only be a local path's: a hub name has one slash at most, inside."""
    return name.startswith(("/", ".", "~")) or name.count("/") > 1 or name.endswith("/")


def reachable(endpoint: str) -> bool:
    """Whether something listens at the hub's address, or at a proxy's in front of it."""
    try:
        hub = urlsplit(endpoint or "https://huggingface.co")
        host, port = hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443)
        proxies = getproxies()
        if (hub.scheme in proxies or "all" in proxies) and not proxy_bypass(host):
            return True
        socket.create_connection((host, port), TIMEOUT).close()
    except (OSError, ValueError):
        return False
    return True


class ModelName(NamedTuple):
    """A model as --model_name gives it, parsed."""

    name: str  # a hub name, or a folder
    revision: str | None = None  # asked for, of a model on the hub

    @classmethod
    def parse(cls, text: str) -> ModelName:
        if os.path.isdir(text):
            return cls(text)
        name, _, revision = text.partition("@")
        return cls(name, revision or None)

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    @property
    def is_folder(self) -> bool:
        return os.path.isdir(self.name)

    @property
    def last_part(self) -> str:
        """Of the hub name or of the folder's path, `.` and `..` resolved, links not."""
        return os.path.basename(os.path.abspath(self.name))
