"""What run.json says of an engine: written without what says nothing, and read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.scripted import ROOT
from kflow.results import manifest
from kflow.results.description import (
    NOTHING_KNOWN,
    CanaryResult,
    Capacity,
    Description,
    ServerRecord,
)
from kflow.running import provenance

SERVER = ServerRecord("http://h/v1", "m", "vllm", "0.32.0", None, request={"temperature": 0.6})
WRITTEN = {
    "url": "http://h/v1", "model": "m", "kind": "vllm", "version": "0.32.0", "window": None,
    "request": {"temperature": 0.6},
}  # fmt: skip


@pytest.mark.parametrize(
    ("described", "written"),
    [
        (NOTHING_KNOWN, {}),
        (
            Description("published", {"experts": "Marlin"}, ("It is off.",)),
            {
                "recipe": "published",
                "kernels": {"experts": "Marlin"},
                "deviations": ["It is off."],
            },
        ),
        (
            Description("published", kv_cache=Capacity(9, 0.5, 18, 1, 1, None)),
            {
                "recipe": "published",
                "kv_cache": {
                    "kv_tokens": 9, "full_windows": 0.5, "window": 18, "rollouts_in_flight": 1,
                    "decoded_at_once": 1, "preemption_above": None,
                },
            },
        ),
        (
            Description(servers=(SERVER,), canary=CanaryResult(0, 10)),
            {"servers": [WRITTEN], "canary": {"right": 0, "asked": 10, "wrong": []}},
        ),
    ],
)  # fmt: skip
def test_what_says_nothing_is_absent(described: Description, written: dict[str, object]) -> None:
    session = provenance.session(described, {})
    assert session.engine == described
    assert manifest.plain(session)["engine"] == written


def test_what_a_server_refuses_stands_before_its_request() -> None:
    refusing = ServerRecord("http://h/v1", "m", "vllm", None, None, ("seed",), {})
    (server,) = manifest.plain(Description(servers=(refusing,)))["servers"]
    assert list(server)[-2:] == ["refused", "request"]
    assert server["refused"] == ["seed"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("results/*/*/run.json")), ids=str)
def test_records_of_earlier_runs_are_written_as_they_were(path: Path) -> None:
    saved = json.loads(path.read_text())
    saved.pop("method_code", None)  # of 0.2, which nothing compared
    assert json.dumps(manifest.plain(manifest.read(saved, path))) == json.dumps(saved)
