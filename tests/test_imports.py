"""Imports point one way: from a room to rooms that stand before it in ROOMS, never back. And how
much of the house there is to hold.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
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
    "testing",
    "analysis",
    "analysis.page",
    "analysis.export",
    "__init__",
)
# What a reader of the loop or of results never needs.
APART = {"loop": ("engines", "running", "families"), "results": ("engines", "running", "families")}
# At most so many lines, with all that it imports.
CLOSURES = {
    "loop.flow": 2_350,
    "analysis.compare": 5_840,
}
MOST_ROOMS = 22
MOST_ARROWS = 80  # from a room to another
LONGEST, LONGEST_FLOW = 450, 90
# A module under 40 lines belongs into a neighbour, unless three rooms import it. These stay: the
# families are a file each, and the others are what authors of methods import, or the machine.
SHORTEST = 40
SHORT = {
    "families.family",
    "families.qwen",
    "ground.hardware",
    "methods.candidates",
    "votes",
}


@cache
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


def module_of(name: str) -> str:
    """The module that holds an imported name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        for module in (".".join(parts[:end]), ".".join([*parts[:end], "__init__"])):
            if module in modules():
                return module
    return "__init__"


@cache
def needs(module: str) -> set[str]:
    """The modules that a module imports itself."""
    return {module_of(name) for name in imports(modules()[module])} - {module}


def closure(module: str) -> set[str]:
    """A module and all that it imports."""
    found, waiting = set[str](), [module]
    while waiting:
        if (each := waiting.pop()) not in found:
            found.add(each)
            waiting += needs(each)
    return found


def lines(module: str) -> int:
    return len(modules()[module].read_text().splitlines())


@pytest.mark.parametrize("module", [each for each in modules() if not each.endswith("__init__")])
def test_no_module_needs_itself(module: str) -> None:
    assert module not in set().union(*map(closure, needs(module)))


@pytest.mark.parametrize("module", CLOSURES)
def test_a_module_stands_on_few_lines(module: str) -> None:
    assert sum(map(lines, closure(module))) <= CLOSURES[module]


def test_there_are_few_rooms_and_arrows_between_them() -> None:
    arrows = {(room_of(one), room_of(other)) for one in modules() for other in needs(one)}
    assert len(ROOMS) <= MOST_ROOMS
    assert len({(one, other) for one, other in arrows if one != other}) <= MOST_ARROWS


def test_a_module_is_neither_long_nor_a_slice_of_another() -> None:
    assert lines("loop.flow") <= LONGEST_FLOW
    assert [module for module in modules() if lines(module) > LONGEST] == []
    needed_by = {
        module: {room_of(one) for one in modules() if module in needs(one)} for module in modules()
    }
    short = {
        module
        for module, rooms in needed_by.items()
        if lines(module) < SHORTEST and len(rooms) < 3 and not module.endswith("__init__")
    }
    assert short <= SHORT


def test_every_room_is_on_the_map() -> None:
    page = (KFLOW.parents[1] / "docs" / "how_it_works.md").read_text()
    table = page.partition("## The rooms")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([\w/]+)` \|", table, re.MULTILINE)
    assert [room.replace("/", ".") for room in named] == list(ROOMS)
