"""The environment variables that the installed vLLM reads, by its own list; not imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from kflow.engines.vllm_engine.recipes import Installed
from kflow.types import UserError

# An entry of the dictionary in vllm/envs.py.
ENTRY = re.compile(r'^    "(VLLM_\w+)":', re.MULTILINE)
QUOTED = "[\"']{}[\"']"


def check(names: Iterable[str], vllm: Installed, folder: Path | None = None) -> None:
    """Raises UserError for variables of vLLM that this one ignores. folder: of its sources; nothing
    is checked without any."""
    own = {name for name in names if name.startswith("VLLM_")}
    folder = folder or sources(vllm)
    if not own or not (folder / "envs.py").exists():
        return
    known = set(ENTRY.findall((folder / "envs.py").read_text()))
    if known and (ignored := sorted(n for n in own - known if not read_elsewhere(n, folder))):
        raise UserError(
            f"vLLM {vllm.version} ignores {', '.join(ignored)}: unset what was meant for another "
            "version, or correct its name."
        )


def sources(vllm: Installed) -> Path:
    """Where its modules are, unless it runs from a checkout."""
    try:
        return Path(str(distribution(vllm.package).locate_file("vllm")))
    except PackageNotFoundError:
        return Path(os.devnull)


def read_elsewhere(name: str, folder: Path) -> bool:
    """Whether any of vLLM's modules names a variable that its list lacks, as some do."""
    quoted = re.compile(QUOTED.format(re.escape(name)))
    return any(quoted.search(path.read_text(errors="replace")) for path in folder.rglob("*.py"))
