"""Imports point one way: from a room to rooms that stand before it in ROOMS, never back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

KFLOW = Path(__file__).resolve().parents[1] / "scripts" / "kflow"
# From the ground up. A module of kflow's own folder is a room; of a folder below, its folder is.
ROOMS = (
    "types",
    "ground",
    "flags",
    "sections",
    "votes",
    "answers",
    "method",
    "families",
    "problems",
    "results",
    "loop",
    "methods",
    "engines.openai_engine",
    "engines.vllm_engine",
    "running",
    "experiment",
    "study",
    "analysis",
    "analysis.page",
    "analysis.export",
    "__init__",
)
# What a reader of the loop or of results never needs.
APART = {"loop": ("engines", "running", "families"), "results": ("engines", "running", "families")}


def modules() -> dict[str, Path]:
    """Every module by its dotted name below kflow."""
    paths = sorted(KFLOW.rglob("*.py"))
    return {".".join(path.relative_to(KFLOW).with_suffix("").parts): path for path in paths}


def room_of(module: str) -> str:
    """The room that a dotted name stands in: the longest name in ROOMS that it begins with."""
    rooms = [room for room in ROOMS if f"{module}.".startswith(f"{room}.")]
    return max(rooms, key=len, default="__init__")


def imports(path: Path) -> Iterator[str]:
    """The names below kflow that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            base = node.module or ""
            if base == "kflow":
                yield from (alias.name for alias in node.names)
            elif base.startswith("kflow."):
                yield from (f"{base}.{alias.name}".removeprefix("kflow.") for alias in node.names)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from (name.removeprefix("kflow.") for name in names if name.startswith("kflow."))


def test_every_module_stands_in_a_room() -> None:
    strangers = [m for m in modules() if room_of(m) == "__init__" and m != "__init__"]
    assert [m for m in strangers if not m.endswith("__init__")] == []


@pytest.mark.parametrize("module", modules())
def test_imports_point_to_the_rooms_before(module: str) -> None:
    room = room_of(module)
    for name in imports(modules()[module]):
        target = room_of(name)
        assert ROOMS.index(target) <= ROOMS.index(room), f"{module} ({room}) imports {name}"
        assert not target.startswith(APART.get(room, ())), f"{module} imports {name}"
