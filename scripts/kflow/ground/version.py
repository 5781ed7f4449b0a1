"""Versions: this program's, which run.json records and packaging reads, and installed packages'."""

from __future__ import annotations

import importlib.metadata

VERSION = "0.3.0"
TITLE = f"knowledge-flow {VERSION}"


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
