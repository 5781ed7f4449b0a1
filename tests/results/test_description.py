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

SERVER = ServerRecord("http://h/v1", "m", "vllm", "0.32.0", None, ("seed",), request={"top_p": 0.6})


@pytest.mark.parametrize(
    ("described", "written"),
    [
        (NOTHING_KNOWN, {}),
        (
            Description("published", {"a": "b"}, ("Off.",), Capacity(9, 0.5, 18, 1, 1, None)),
            {
                "recipe": "published", "kernels": {"a": "b"}, "deviations": ["Off."],
                "kv_cache": {
                    "kv_tokens": 9, "full_windows": 0.5, "window": 18, "rollouts_in_flight": 1,
                    "decoded_at_once": 1, "preemption_above": None,
                },
            },
        ),
        (
            Description(servers=(SERVER,), canary=CanaryResult(0, 10)),
            {
                "servers": [{
                    "url": "http://h/v1", "model": "m", "kind": "vllm", "version": "0.32.0",
                    "window": None, "refused": ["seed"], "request": {"top_p": 0.6},
                }],
                "canary": {"right": 0, "asked": 10, "wrong": []},
            },
        ),
    ],
)  # fmt: skip
def test_what_says_nothing_is_absent(described: Description, written: dict[str, object]) -> None:
    session = provenance.session(described, {})
    assert session.engine == described
    assert manifest.plain(session)["engine"] == written


@pytest.mark.parametrize("path", sorted(ROOT.glob("results/*/*/run.json")), ids=str)
def test_records_of_earlier_runs_are_written_as_they_were(path: Path) -> None:
    saved = json.loads(path.read_text())
    saved.pop("method_code", None)  # of 0.2, which nothing compared
    assert json.dumps(manifest.plain(manifest.read(saved, path))) == json.dumps(saved)
