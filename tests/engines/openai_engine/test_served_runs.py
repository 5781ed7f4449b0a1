"""Whole scripts on scripted servers: the same files as from an engine in the process, whatever
the servers do on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from helpers.fakes import K, ScriptedEngine, contents, stable
from helpers.http_server import DONE, Answer, Received, Scripted, Server, delta, usage
from helpers.scripted import SCRIPTS, Ran, refused, run_script
from helpers.served import SECRET, flags, run
from kflow.results import runs
from kflow.types import Key

QWEN = "vllm_kflow_qwen"
STEPS = ["--reflex_size", "3"]
pytestmark = pytest.mark.usefixtures("quickly")


async def troubled(received: Received, answer: Answer, key: Key) -> bool:
    """Every other request is a victim of something; which one depends on the request's number."""
    faults = [
        lambda: answer.whole(429, Retry_After="0"),
        lambda: answer.whole(503, b"starting"),
        lambda: answer.whole(500, b'{"error": {"message": "out of luck"}}'),
        lambda: answer.stream(delta("Half of", [1])),
        lambda: answer.stream(delta("", [], "abort")),
        lambda: answer.whole(200, b"<html>Sign in</html>"),
        lambda: answer.whole(200),
        lambda: answer.whole(200, b'{"error": "busy"}', Content_Type="application/json"),
    ]
    if received.number % 2:
        await faults[received.number // 2 % len(faults)]()
        return True
    await asyncio.sleep(stable(key) % 5 / 1000)  # out of order
    return False


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_same_files_as_from_an_engine_in_the_process(script: str, tmp_path: Path) -> None:
    """Prompts go as text and as token ids."""
    as_text = ["--prompt_as_text"] if "24" in script else []
    whole = run_script(script, STEPS, tmp_path / "whole", ScriptedEngine())
    scripted = Scripted(before=troubled)
    with Server(scripted) as one, Server(scripted) as other:
        argv = [*STEPS, *flags(one, other), *as_text]
        ran = run(script, scripted, argv, tmp_path / "served")
        assert (ran.code, whole.code) == (0, 0)
        assert one.received
        assert other.received
        assert len(one.received) + len(other.received) > 12  # nine rollouts
        prompts = [received.body["prompt"] for received in one.received]
        assert all(isinstance(prompt, str) == bool(as_text) for prompt in prompts)
    assert len(whole.predictions()) == 3
    assert ran.predictions() == whole.predictions()


def test_many_seeds_at_once_from_where_an_event_loop_runs(tmp_path: Path) -> None:
    """As in a notebook."""
    argv = [*STEPS, "--num_seeds", "8"]
    whole = run_script(QWEN, argv, tmp_path / "whole", ScriptedEngine())
    scripted = Scripted(seeds=8)

    async def cell() -> Ran:
        with Server(scripted) as server:
            return run(QWEN, scripted, [*argv, *flags(server)], tmp_path / "served")

    files = [contents(r.folder, "seed_*/predictions_*") for r in (whole, asyncio.run(cell()))]
    assert len(files[0]) == 24
    assert files[0] == files[1]


def test_a_run_goes_on_after_an_outage(tmp_path: Path) -> None:
    whole = run_script(QWEN, STEPS, tmp_path / "whole", ScriptedEngine())

    async def gone(received: Received, answer: Answer, key: Key) -> bool:
        while key.step == 1 and len(server.received) < 6:  # none has a reply coming any more
            await asyncio.sleep(0.001)
        if key.step == 1:
            await answer.whole(503)
        return key.step == 1

    scripted = Scripted(before=gone)
    with Server(scripted) as server:
        argv = [*STEPS, *flags(server), "--max_outage", "0.001"]
        ran = run(QWEN, scripted, argv, tmp_path / "served")
        assert ran.code == 1
        *_, last = ran.complaints
        assert last.startswith("No server has answered for 0.001 minutes (--max_outage)")
        assert last.endswith("Run the same command again to resume.")
        scripted.before = None
        again = run(QWEN, scripted, argv, tmp_path / "served")
    assert again.code == 0
    assert again.predictions() == whole.predictions()


def test_a_request_that_is_not_answered_stays_open_and_the_others_go_on(tmp_path: Path) -> None:
    whole = run_script(QWEN, STEPS, tmp_path / "whole", ScriptedEngine())

    async def fail(received: Received, answer: Answer, key: Key) -> bool:
        if (key.problem, key.step) == ("first", 1):
            await answer.stream(delta("Half of it", [1]), delta("", [], "abort"))
            return True
        return False

    scripted = Scripted(before=fail)
    with Server(scripted) as server:
        argv = [*STEPS, *flags(server)]
        ran = run(QWEN, scripted, argv, tmp_path / "served")
        assert ran.code == 1
        *_, last = ran.complaints
        assert "finish_reason abort" in last
        assert last.endswith("Run the same command again to resume.")
        keys = {scripted.keys.get(received.body["seed"]) for received in server.received}
        assert {K(problem, 0, 2) for problem in ("second", "third")} <= keys
        scripted.before = None
        again = run(QWEN, scripted, argv, tmp_path / "served")
    assert again.code == 0
    assert again.predictions() == whole.predictions()


def test_what_a_server_was_found_to_do_is_told_by_the_results(tmp_path: Path) -> None:
    """As that it has put a token of its own before a prompt."""

    async def count_more(received: Received, answer: Answer, key: Key) -> bool:
        if key.step == 1:
            ids = scripted.chat.encode("No")
            counts = usage(len(ids), prompt_tokens=len(received.body["prompt"]) + 1)
            await answer.stream(delta("No", ids), delta("", [], "stop"), counts, DONE)
        return key.step == 1

    scripted = Scripted(before=count_more)
    with Server(scripted) as server:
        ran = run(QWEN, scripted, [*STEPS, *flags(server)], tmp_path)
    assert ran.code == 0
    (session,) = ran.run()["sessions"]
    (described,) = session["engine"]["servers"]
    (found,) = session["engine"]["findings"]
    assert found.startswith(f"{described['url']}: it has counted ")
    assert ran.complaints == [found]
    assert runs.read_one(ran.folder).notes == (f"{ran.folder}: {found}",)


def test_the_record_names_the_servers_and_no_key(tmp_path: Path) -> None:
    card = {"id": "model", "owned_by": "vllm", "max_model_len": 5000}
    scripted = Scripted()
    with Server(scripted, card) as server:
        argv = [*STEPS, *flags(server), "--max_new_tokens", "5000"]
        ran = run(QWEN, scripted, argv, tmp_path)
        assert ran.code == 0
        (session,) = ran.run()["sessions"]
        (described,) = session["engine"]["servers"]
        request = described.pop("request")
        assert described == {
            "url": server.url, "model": "model", "kind": "vllm", "version": "0.10.2", "window": 5000
        }  # fmt: skip
        (first, *_) = server.received
        body = {**first.body, **request}
        assert body == first.body
        assert first.headers["authorization"] == f"Bearer {SECRET}"
        assert [look.path for look in server.looked] == ["/v1/models", "/version", "/detokenize"]
        assert "authorization" not in server.looked[1].headers
    engine = ran.run()["engine"]
    assert (engine["kind"], engine["arguments"]["served_model_name"]) == ("openai", "model")
    assert engine["arguments"]["prompt_as_text"] is False
    assert "tensor_parallel_size" not in ran.run()["settings"]
    everything = b"".join(contents(tmp_path).values()) + (ran.out + ran.err).encode()
    assert SECRET.encode() not in everything


def test_what_changes_results_may_not_change_and_the_rest_may(tmp_path: Path) -> None:
    scripted = Scripted()
    with Server(scripted) as one, Server(scripted) as other:
        assert run(QWEN, scripted, [*STEPS, *flags(one)], tmp_path).code == 0
        more = ["--reflex_size", "4", *flags(other), "--max_concurrency", "2"]
        assert run(QWEN, scripted, more, tmp_path).code == 0
        as_text = run(QWEN, scripted, [*more, "--prompt_as_text"], tmp_path)
        refused(as_text, "prompt_as_text: false -> true")
        offline = run_script(QWEN, ["--reflex_size", "4"], tmp_path)
        refused(offline, 'settings.engine: "openai" -> "vllm"')
        card = {"id": "other", "owned_by": "vllm"}
        with Server(scripted, card) as third:
            renamed = [*more, *flags(third), "--served_model_name", "other"]
            refused(run(QWEN, scripted, renamed, tmp_path), "engine.served_model_name")
