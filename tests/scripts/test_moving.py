"""A run resumed with another engine: only on request, and every record says so."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from test_killed import in_child

from helpers import scripted as scripts
from helpers.fakes import ScriptedEngine, contents, obliging
from helpers.http_server import Answer, Received, Scripted, Server
from helpers.scripted import Ran, refused, run_script
from helpers.served import quick
from kflow.analysis import compare
from kflow.analysis.page import page
from kflow.results.runs import read, read_all
from kflow.types import Key, Request

QWEN = "vllm_kflow_qwen"
STEPS = ["--reflex_size", "3"]
FLAG = "--change_engine to continue with the new engine"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(scripts, "VERSIONS", lambda: {"vllm": "0.10.2"})


def on(server: Server | str) -> list[str]:
    url = server if isinstance(server, str) else server.url
    return ["--engine", "openai", "--served_model_name", "model", "--base_url", url]


def served(scripted: Scripted, argv: list[str], home: Path) -> Ran:
    return run_script(QWEN, argv, home, served=scripted.chat)


def killed(home: Path, argv: list[str], after: int, **more: Any) -> None:
    """Start a run that is killed when it has so many replies."""
    replies = 0

    def script(request: Request, prompt: str) -> str:
        nonlocal replies
        replies += 1
        if replies > after:
            os.kill(os.getpid(), signal.SIGKILL)
        return obliging(request, prompt)

    engine = ScriptedEngine(script, pick=lambda waiting: waiting[:1])
    code = in_child(lambda: int(str(run_script(QWEN, argv, home, engine, **more).code)))
    assert code == -signal.SIGKILL


def slots(ran: Ran) -> list[dict[str, Any]]:
    return [record for step in range(3) for record in ran.step(step)[1:]]


def without_engine(files: dict[str, bytes]) -> list[Any]:
    """Parsed records, without what another engine changes in them."""
    steps = [json.loads(content) for content in files.values()]
    for _, *records in steps:
        for record in records:
            record.pop("engine", None)
            del record["digest"]
    return steps


def test_a_killed_run_goes_on_with_servers_and_back_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_script(QWEN, STEPS, tmp_path / "whole", ScriptedEngine())
    home = tmp_path / "moved"
    killed(home, STEPS, after=4)
    scripted = Scripted()
    with Server(scripted) as server:
        refused(served(scripted, [*STEPS, *on(server)], home), 'settings.engine: "vllm"', FLAG)
        assert not server.received
    # Killed again in the middle of what the other engine does.
    killed(home, [*STEPS, *on("http://127.0.0.1:9/v1"), "--change_engine"], after=2)
    scripted = Scripted()
    with Server(scripted, version="0.32.0") as server:
        ran = served(scripted, [*STEPS, *on(server), "--change_engine"], home)
        assert (ran.code, len(server.received)) == (0, 1 + 3)  # a short trial first
    first, second, third = (
        [record for record in slots(ran) if record.get("engine") == name]
        for name in (None, "server", "server (vllm 0.32.0)")
    )
    assert [len(part) for part in (first, second, third)] == [4, 2, 3]
    assert all("engine" not in record for record in first)
    assert without_engine(ran.predictions()) == without_engine(whole.predictions())

    # Replayed under either engine; the run's own needs no flag.
    again = served(scripted, [*STEPS, *on(server), "--change_engine"], home)
    assert (again.code, "is complete" in again.out) == (0, True)
    further = run_script(QWEN, ["--reflex_size", "4"], home, ScriptedEngine())
    assert further.code == 0
    assert all("engine" not in record for record in further.step(3)[1:])

    # run.json keeps what the run began with; its sessions say the rest.
    run = further.run()
    assert (run["engine"]["kind"], run["settings"]["engine"]) == ("vllm", "vllm")
    assert run["settings"]["reflex_size"] == 4
    assert run["sessions"][2]["engine"]["servers"][0]["version"] == "0.32.0"

    # In every comparison and on the page.
    monkeypatch.setenv("COLUMNS", "300")
    counts = "server (vllm 0.32.0) (3 of 12 rollouts), server (2 of 12 rollouts)"
    note = f"{further.folder} was resumed with another engine: {counts}"
    assert read(further.folder, "x").notes == (note,)
    for form in ([], ["--settings"], ["--json"], ["--csv"], ["--problem", "first"]):
        compare.main(None, [str(whole.folder), str(further.folder), *form])
        printed = capsys.readouterr()
        assert note in printed.err
        if form in (["--settings"], ["--json"]):
            assert "other engines" in printed.out
            assert "server (vllm 0.32.0) (3 of 12 rollouts)" in printed.out
    with open(tmp_path / "page.html", "w+b") as file:
        page.write(read_all([str(whole.folder), str(further.folder)]), file)
    assert "was resumed with another engine" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("versions", "flags", "differing", "name"),
    [
        ({"vllm": "0.32.0"}, [], 'version: ["vllm 0.10.2"] -> ["vllm 0.32.0"]', "vllm 0.32.0"),
        (
            {"vllm": "0.10.2"},
            ["--dtype", "float16"],
            'engine.dtype: "',
            'vllm 0.10.2, dtype "float16"',
        ),
        ({}, ["--dtype", "float16"], 'engine.dtype: "', 'vllm, dtype "float16"'),
    ],
)
def test_another_vllm_in_the_process_is_another_engine(
    versions: dict[str, str],
    flags: list[str],
    differing: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed(tmp_path, STEPS, after=5)
    monkeypatch.setattr(scripts, "VERSIONS", lambda: versions)
    before = contents(tmp_path)
    refused(run_script(QWEN, [*STEPS, *flags], tmp_path), differing, FLAG)
    assert contents(tmp_path) == before
    ran = run_script(QWEN, [*STEPS, *flags, "--change_engine"], tmp_path, ScriptedEngine())
    assert ran.code == 0
    assert [record.get("engine") for record in slots(ran)].count(name) == 4


def test_other_settings_are_refused_with_the_flag_too(tmp_path: Path) -> None:
    killed(tmp_path, STEPS, after=5)
    flags = ["--change_engine", "--dtype", "float16", "--temperature", "1"]
    ran = run_script(QWEN, [*STEPS, *flags], tmp_path)
    refused(ran, "sampling.temperature: 0.6 -> 1.0", "engine.dtype")
    assert FLAG not in ran.err


def test_a_server_of_another_version_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    async def away(received: Received, answer: Answer, key: Key) -> bool:
        if key.step == 1:
            await answer.whole(400, b"{}")
        return key.step == 1

    old, new = Scripted(before=away), Scripted()
    with Server(old, version="0.10.2") as server:
        argv = [*STEPS, *on(server), "--max_outage", "0"]
        assert served(old, argv, tmp_path).code == 1
    before = contents(tmp_path)
    with Server(new, version="0.32.0") as server:
        argv = [*STEPS, *on(server), "--canary", "--max_outage", "0"]
        refused(served(new, argv, tmp_path), "vllm 0.32.0", FLAG)
        assert len(server.received) == 1  # the short trial
        assert contents(tmp_path) == before
        ran = served(new, [*STEPS, *on(server), "--change_engine"], tmp_path)
    assert ran.code == 0
    names = [record.get("engine") for record in slots(ran)]
    assert names == [None] * 3 + ["server (vllm 0.32.0)"] * 6


def test_a_server_that_does_not_give_its_version_is_not_another_one(tmp_path: Path) -> None:
    first = Scripted()
    with Server(first, version="0.10.2") as server:
        assert served(first, ["--reflex_size", "1", *on(server)], tmp_path).code == 0
    second = Scripted()
    with Server(second, version=None) as server:
        ran = served(second, ["--reflex_size", "2", *on(server)], tmp_path)
    assert ran.code == 0
    assert all("engine" not in record for record in ran.step(1)[1:])
