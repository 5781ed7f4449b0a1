"""The version, and runs of the one before."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.fakes import ScriptedEngine
from helpers.scripted import run_script

TWO, THREE = (["--reflex_size", steps] for steps in ("2", "3"))


def test_a_run_of_0_2_goes_on_where_what_it_is_stays_the_same(tmp_path: Path) -> None:
    """It has a hash of the method's code on record, which is no longer compared."""
    whole = run_script("vllm_kflow_qwen", THREE, tmp_path / "whole", ScriptedEngine())
    begun = run_script("vllm_kflow_qwen", TWO, tmp_path / "begun", ScriptedEngine())
    path = begun.folder / "run.json"
    run = json.loads(path.read_bytes())
    run["method_code"] = "0" * 64
    for session in run["sessions"]:
        session["versions"]["knowledge-flow"] = "0.2.0"
    path.write_text(json.dumps(run))
    ended = run_script("vllm_kflow_qwen", THREE, tmp_path / "begun", ScriptedEngine())
    assert (ended.code, ended.predictions()) == (0, whole.predictions())
    sessions = ended.run()["sessions"]
    assert len({session["versions"]["knowledge-flow"] for session in sessions}) == 2
