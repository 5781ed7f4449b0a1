"""The environment variables that the installed vLLM reads, by its own list; not imported."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from .types import UserError

# An entry of the dictionary in vllm/envs.py.
ENTRY = re.compile(r'^    "(VLLM_\w+)":', re.MULTILINE)
QUOTED = "[\"']{}[\"']"


def check(names: Iterable[str], version: str, folder: Path | None = None) -> None:
    """Raises UserError for variables of vLLM that this one ignores. folder: of its sources; nothing
    is checked without any."""
    folder = folder or sources()
    if folder is None or not (folder / "envs.py").exists():
        return
    known = set(ENTRY.findall((folder / "envs.py").read_text()))
    own = [name for name in names if name.startswith("VLLM_") and name not in known]
    if known and (ignored := sorted(name for name in own if not read_elsewhere(name, folder))):
        raise UserError(
            f"vLLM {version} ignores {', '.join(ignored)}: unset what was meant for another "
            "version, or correct its name."
        )


def sources() -> Path | None:
    """Where vLLM is installed."""
    spec = importlib.util.find_spec("vllm")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def read_elsewhere(name: str, folder: Path) -> bool:
    """Whether any of vLLM's modules names a variable that its list lacks, as some do."""
    quoted = re.compile(QUOTED.format(re.escape(name)))
    return any(quoted.search(path.read_text(errors="replace")) for path in folder.rglob("*.py"))
