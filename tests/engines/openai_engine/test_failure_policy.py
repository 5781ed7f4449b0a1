"""Who is at fault decides (docs/gpus_and_servers.md, "Failures"): whole scripts on servers that
refuse, and what is on record of it, and after how long."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import served
from helpers.fakes import contents
from helpers.http_server import DONE, Answer, Received, Scripted, Server, message, usage
from helpers.scripted import Ran, refused
from helpers.served import SECRET
from helpers.talkers import (
    LISTED,
    OSS,
    STEPS,
    Talker,
    error,
    flags,
    is_trial,
    nothing,
    refusing_where,
    run,
)
from helpers.tokenizer import save_tokenizer
from kflow.engines.openai_engine import retry
from kflow.types import Key

QWEN = "vllm_kflow_qwen"
pytestmark = pytest.mark.usefixtures("quickly")


def failures(ran: Ran) -> list[str | None]:
    """Of all rollouts on record, in the files of complete steps and in journals."""
    records = [r for path in ran.folder.glob("pred*") for r in json.loads(path.read_bytes())[1:]]
    for path in ran.folder.glob("rollouts_*.jsonl"):
        lines = map(json.loads, path.read_text().splitlines())
        records += [line["rollout"] for line in lines if "rollout" in line]
    return [record["failure"] for record in records]


def resumed(talker: Talker, server: Server, folder: Path) -> Ran:
    """The same command once the server is well."""
    talker.before = nothing
    return run(OSS, [*STEPS, *flags(server)], folder)


# The account and the configuration.


def late(received: Received) -> bool:
    return received.number > 5


# Name -> which requests are refused, the status, its words.
REFUSED_ACCOUNTS: dict[str, tuple[Callable[[Received], bool], int, bytes]] = {
    "credit for short replies": (
        lambda received: late(received) and received.body["max_tokens"] > 1000,
        402, error("more credit, or fewer max_tokens", code=402),
    ),
    "a wrong path": (late, 404, error("not any more")),
    "a quota that is used up": (late, 429, error("check your plan", code="insufficient_quota")),
}  # fmt: skip


@pytest.mark.parametrize(
    ("which", "status", "body"), REFUSED_ACCOUNTS.values(), ids=REFUSED_ACCOUNTS
)
def test_what_an_account_is_refused_mid_run_is_nobodys_failure(
    which: Callable[[Received], bool], status: int, body: bytes, tmp_path: Path
) -> None:
    talker = Talker(before=refusing_where(which, status, body))
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server), "--max_outage", "1000"], tmp_path)
        assert (ran.code, set(failures(ran))) == (1, {None})
        assert f"HTTP {status}: {json.loads(body)['error']['message']}" in ran.complaints[-1]
        assert not [line for line in ran.complaints if "answers again" in line]
        asked, left = len(server.received), 9 - len(failures(ran))
        assert asked < 60
        again = resumed(talker, server, tmp_path)
        assert len(server.received) - asked == 1 + left
    assert (again.code, failures(again)) == (0, [None] * 9)


def test_a_blip_of_the_account_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a router whose servers restart, or a gateway that is short of quota now and then."""
    monkeypatch.setattr(retry, "ACCOUNT_PATIENCE", 60.0)

    async def rule(received: Received, answer: Answer) -> bool:
        if 4 < received.number < 8:
            await answer.whole(404, b"no backend")
        elif received.number % 3 == 2:
            await answer.whole(400, error("insufficientquota: top up"))
        else:
            return False
        return True

    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
        assert len(server.received) > 1 + 9 + 3
    assert (ran.code, failures(ran)) == (0, [None] * 9), ran.err


# The request.


def filtering(where: Key) -> Talker:
    """Refuses one rollout's prompt, whenever it comes, and answers the others of its step only
    after that, so that their next ones are sent later."""

    async def rule(received: Received, answer: Answer) -> bool:
        if not is_trial(received) and talker.key(received) == where:
            await answer.whole(400, error("the prompt was filtered", code="content_filter"))
            return True
        while (
            not is_trial(received)
            and talker.key(received).step == where.step
            and all(talker.key(asked) != where for asked in talker.rollouts)
        ):
            await asyncio.sleep(0.001)
        return False

    talker = Talker(before=rule)
    return talker


def test_a_rollout_that_is_refused_where_its_like_is_not_has_failed(tmp_path: Path) -> None:
    """Others of its step are sent after it was refused, and accepted."""
    talker = filtering(Key("", "first", 0, 0))
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
    assert ran.code == 0, ran.err
    (failure,) = [failure for failure in failures(ran) if failure is not None]
    assert failure == f"{server.url}: HTTP 400: the prompt was filtered"
    assert ran.step(0)[1]["failure"] == failure


@pytest.mark.parametrize("last", [False, True], ids=["at once", "after a reply"])
def test_the_only_chain_stays_open_unless_its_refusal_is_to_be_recorded(
    last: bool, tmp_path: Path
) -> None:
    talker = filtering(Key("", "first", 0, int(last)))
    argv = [*STEPS, "--limit", "1"]
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*argv, *flags(server)], tmp_path)
        assert ran.code == (1 if last else 2)
        assert "HTTP 400: the prompt was filtered" in ran.complaints[-1]
        assert "--record_refusals" in ran.complaints[-1]
        assert len(talker.rollouts) == int(last) + retry.TRIES
        assert failures(ran) == [None] * last
        ran = run(OSS, [*argv, *flags(server), "--record_refusals"], tmp_path)
    assert ran.code == 0
    failed = [failure is not None for failure in failures(ran)]
    assert sum(failed) == 1
    assert ran.step(int(last))[1]["failure"].endswith("HTTP 400: the prompt was filtered")


def test_a_whole_step_that_is_refused_is_nobodys_failure(tmp_path: Path) -> None:
    talker = Talker()
    talker.before = refusing_where(lambda r: talker.key(r).step == 1, 400, error("no later step"))
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
        assert (ran.code, failures(ran)) == (1, [None] * 3)
        assert "no later step" in ran.complaints[-1]
        again = resumed(talker, server, tmp_path)
    assert (again.code, failures(again)) == (0, [None] * 9)


def test_a_bad_spell_of_refusals_is_nobodys_failure(tmp_path: Path) -> None:
    """Any eight requests in turn, while earlier replies go on."""
    rule = refusing_where(lambda r: 4 < r.number < 13, 400, b"bad gateway, sort of")
    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, ["--reflex_size", "4", *flags(server)], tmp_path)
        while ran.code == 1:
            assert set(failures(ran)) == {None}
            ran = run(OSS, ["--reflex_size", "4", *flags(server)], tmp_path)
    assert (ran.code, failures(ran)) == (0, [None] * 12)


# Lengths.


WINDOW, TEMPLATE = 4096, 60  # tokens: the server's window, and what its template adds to a prompt


def strict(received: Received) -> tuple[int, int]:
    """The tokens of a prompt and the largest budget that is left, on a server of bytes."""
    prompt = TEMPLATE + sum(len(m["content"].encode()) for m in received.body["messages"])
    return prompt, WINDOW - prompt


def test_a_budget_that_is_too_long_by_the_servers_template_is_lowered(tmp_path: Path) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        (prompt, left), budget = strict(received), received.body["max_tokens"]
        if budget <= left or is_trial(received):
            return False
        said = (
            f"This model's maximum context length is {WINDOW} tokens. However, you requested "
            f"{prompt + budget} tokens ({prompt} in the messages, {budget} in the completion)."
        )
        await answer.whole(400, error(said))
        return True

    model = tmp_path / "tokenizer"
    save_tokenizer(model, None)
    (model / "config.json").write_text("{}")
    talker = Talker(before=rule)
    with Server(talker, LISTED) as server:
        named = ["--model_name", str(model), "--served_model_name", "some/model"]
        argv = [*STEPS, *flags(server), *named, "--max_new_tokens", str(WINDOW)]
        ran = run(OSS, argv, tmp_path)
    assert (ran.code, failures(ran)) == (0, [None] * 9), ran.err
    taken = {talker.key(r): strict(r)[1] for r in talker.rollouts}
    for record in ran.step(2)[1:]:
        assert record["max_tokens"] == taken[Key("", record["id"], 0, 2)]
    (line,) = [line for line in ran.complaints if "max_tokens in their records" in line]
    assert server.url in line


TOO_LONG = {
    "code": 400,
    "type": "exceed_context_size_error",
    "message": "request (9000 tokens) exceeds the available context size (4096 tokens)",
}


@pytest.mark.parametrize("status", [200, 500])
def test_a_prompt_without_room_is_refused_whatever_the_status(status: int, tmp_path: Path) -> None:
    """As llama.cpp has said it: to one rollout, and to the first request."""
    lacking, body = Key("", "second", 0, 1), json.dumps({"error": TOO_LONG}).encode()
    talker = Talker()
    talker.before = refusing_where(
        lambda r: not is_trial(r) and talker.key(r) == lacking, status, body
    )
    argv = [*STEPS, "--record_refusals", "--max_outage", "0.05"]
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*argv, *flags(server)], tmp_path)
        assert ran.code == 0, ran.err
        (failure,) = [failure for failure in failures(ran) if failure is not None]
        assert "exceeds the available context size (4096 tokens)" in failure
        talker.before, asked = refusing_where(is_trial, status, body), len(server.received)
        argv += ["--max_new_tokens", "8192"]
        ran = run(OSS, [*argv, *flags(server)], tmp_path / "at the start")
        assert len(server.received) - asked == retry.TRIES
    refused(ran, "context size (4096 tokens)", "lower --max_new_tokens to 4096")


# Failed rollouts, asked again.


def test_failed_rollouts_of_the_last_step_are_asked_again(tmp_path: Path) -> None:
    """They stay on record until a server is there to ask."""
    talker = filtering(Key("", "second", 0, 2))
    with Server(talker, LISTED) as server:
        argv = [*STEPS, *flags(server)]
        ran = run(OSS, [*argv, "--record_refusals"], tmp_path)
        whole = ran.predictions()
        assert [r["failure"] is not None for r in ran.step(2)[1:]] == [False, True, False]
        talker.before, asked = nothing, len(talker.rollouts)
        assert run(OSS, argv, tmp_path).predictions() == whole
        assert len(talker.rollouts) == asked
        before = contents(tmp_path / "results")
        server.shut()
        gone = run(OSS, [*argv, "--retry_failed"], tmp_path)
        assert gone.code == 2
        assert "start the server first" in gone.complaints[-1]
        assert contents(tmp_path / "results") == before
        server.open()
        again = run(OSS, [*argv, "--retry_failed"], tmp_path)
        assert [talker.key(r)[1:4] for r in talker.rollouts[asked:]] == [("second", 0, 2)]
    assert (again.code, failures(again)) == (0, [None] * 9)
    after = again.predictions()
    assert {n for n in whole if whole[n] != after[n]} == {"predictions_2.json"}
    kept = [record for record in again.step(2)[1:] if record["id"] != "second"]
    assert kept == [r for r in json.loads(whole["predictions_2.json"])[1:] if r["id"] != "second"]


def test_failed_rollouts_that_later_steps_rest_on_stay(tmp_path: Path) -> None:
    talker = filtering(Key("", "second", 0, 1))
    with Server(talker, LISTED) as server:
        argv = [*STEPS, *flags(server)]
        ran = run(OSS, [*argv, "--record_refusals"], tmp_path)
        whole, asked = ran.predictions(), len(talker.rollouts)
        talker.before = nothing
        again = run(OSS, [*argv, "--retry_failed"], tmp_path)
        assert len(talker.rollouts) == asked
    assert again.code == 0
    assert again.predictions() == whole
    assert [line for line in again.complaints if "later steps rest on" in line]


def test_failed_rollouts_of_independent_attempts_are_all_asked_again(tmp_path: Path) -> None:
    """The same files as of a run in which nothing was refused. Failures that are asked again do not
    count against the most."""
    script, talker = "vllm_oss_parallel_thinking", filtering(Key("", "second", 0, 0))
    with Server(Talker(), LISTED) as server:
        good = run(script, [*STEPS, *flags(server)], tmp_path / "good")
    with Server(talker, LISTED) as server:
        argv = [*STEPS, *flags(server)]
        ran = run(script, [*argv, "--record_refusals"], tmp_path)
        assert ran.code == 0
        assert ran.step(0)[2]["failure"]
        talker.before, asked = nothing, len(talker.rollouts)
        refused(run(script, [*argv, "--max_failures", "0"], tmp_path), "1 failed rollout on record")
        again = run(script, [*argv, "--max_failures", "0", "--retry_failed"], tmp_path)
        assert len(talker.rollouts) == asked + 1
    assert again.code == 0
    assert again.predictions() == good.predictions()


# The start, and what is said of waits.


def test_a_wait_longer_than_the_outage_ends_the_start(tmp_path: Path) -> None:
    rule = refusing_where(lambda r: True, 429, error("daily limit"), Retry_After="3600")
    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, flags(server), tmp_path)
        assert len(server.received) == 1
    refused(ran, "asks to wait 3,600 seconds (HTTP 429: daily limit)", "--max_outage")


def test_a_wait_that_is_asked_for_is_kept_and_said_with_its_reason(tmp_path: Path) -> None:
    rule = refusing_where(lambda r: r.number == 2, 429, error("slow down"), Retry_After="4")
    with Server(Talker(before=rule), LISTED) as server:
        began = time.monotonic()
        ran = run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path)
    assert ran.code == 0
    assert time.monotonic() - began > 4
    (line,) = ran.complaints
    assert line.startswith(f"{server.url}: HTTP 429: slow down; asked again in 4 seconds")


REMEDIES = {
    "a wrong key": (401, f"{SECRET} is no key", ["refuses the key in OPENAI_API_KEY", "***"]),
    "a minute's tokens": (429, "Request too large: Limit 8000", ["lower --max_new_tokens"]),
    "a page, as of a web interface": (
        200, "<!doctype html><title>Chat</title>", ["<!doctype html>", "usually ends in /v1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "words", "named"), REMEDIES.values(), ids=REMEDIES)
def test_a_wrong_setting_ends_the_start_with_its_remedy(
    code: int, words: str, named: list[str], tmp_path: Path
) -> None:
    """test_refusals.py has the others."""
    page = words.encode() if code == 200 else None
    rule = refusing_where(lambda r: True, code, page or error(words))
    with Server(Talker(before=rule), LISTED, models=page) as server:
        ran = run(OSS, flags(server), tmp_path)
        assert len(server.received) == retry.TRIES
    refused(ran, server.url, *named)
    assert SECRET not in ran.err
    assert not (tmp_path / "results").exists()


# What a server does to prompts and replies without a word.


@pytest.mark.parametrize(
    ("finish", "counted", "told"),
    [
        ("stop", usage(9, prompt_tokens=20), "it has counted 20 tokens of a prompt of about "),
        # At 4,096 tokens of prompt and reply, whatever is asked for.
        ("length", usage(4000, prompt_tokens=96), "a reply was truncated at 4000 tokens of 117964"),
    ],
)
def test_a_prompt_or_a_reply_that_a_server_cuts_is_told_once(
    finish: str, counted: bytes, told: str, tmp_path: Path
) -> None:
    """As Ollama does."""

    async def rule(received: Received, answer: Answer) -> bool:
        if not is_trial(received):
            text = talker.reply(received)[1]
            await answer.stream(message(finish, content=text), counted, DONE)
        return not is_trial(received)

    talker = Talker(before=rule)
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
    assert ran.code == 0
    (line,) = [line for line in ran.complaints if "num_ctx" in line]
    assert line.startswith(f"{server.url}: {told}")


def test_markup_in_the_text_is_no_part_of_what_is_passed_on(tmp_path: Path) -> None:
    """As llama.cpp sends it with --reasoning-format none."""

    async def rule(received: Received, answer: Answer) -> bool:
        if is_trial(received):
            return False
        thoughts, text = talker.reply(received)
        whole = (
            f"<|channel|>analysis<|message|>{thoughts}<|end|><|start|>assistant"
            f"<|channel|>final<|message|>{text}<|return|>"
        )
        await answer.stream(message("stop", content=whole), DONE)
        return True

    talker = Talker(before=rule)
    with Server(talker, LISTED) as server:
        more = ["--rollouts_per_step", "4", "--aggregate", "2", "--reflex_size", "2"]
        ran = run("vllm_oss_rsa", [*flags(server), *more], tmp_path)
    assert ran.code == 0, ran.err
    for received in talker.rollouts:
        prompt = received.body["messages"][-1]["content"]
        assert "<|" not in prompt
        assert "thoughts" not in prompt


def test_a_reply_that_ends_in_an_unknown_way_is_kept_counted_and_told(tmp_path: Path) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        if not is_trial(received):
            ending = message(*[None, "content_filter"][received.number % 2 :][:1], content="It")
            await answer.stream(ending, DONE)
        return not is_trial(received)

    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, ["--reflex_size", "2", *flags(server)], tmp_path)
    assert ran.code == 0
    assert sum(ran.step(step)[0]["other_finish_reasons"] for step in range(2)) == 6
    told = [line for line in ran.err.splitlines() if "such replies are kept" in line]
    assert len(told) == 2
    assert any("content_filter" in line for line in told)


# Keys and proxies.


@pytest.mark.parametrize("key", ["abc1", "vllm", SECRET])
def test_a_key_is_neither_shown_nor_on_record(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is a part of the address too, and the server repeats both."""
    monkeypatch.setenv("OPENAI_API_KEY", key)

    async def rule(received: Received, answer: Answer) -> bool:
        refuse = not is_trial(received) and talker.key(received)[1:4] == ("second", 0, 2)
        if refuse:
            said = error(f"{key} may not POST {received.headers['authorization']} /{key}/v1")
            await answer.whole(400, said)
        return refuse

    talker = Talker(before=rule)
    with Server(talker, LISTED, prefix=f"/{key}") as server:
        argv = [*STEPS, *flags(server), "--record_refusals"]
        ran = run(OSS, argv, tmp_path)
    assert ran.code == 0, ran.err
    (failure,) = [failure for failure in failures(ran) if failure is not None]
    assert failure.endswith("/***/v1: HTTP 400: *** may not POST Bearer *** /***/v1")
    whole = ran.out + ran.err + "".join(map(bytes.decode, contents(tmp_path / "results").values()))
    assert f"/{key}/" not in whole
    assert f" {key} " not in whole


@pytest.mark.parametrize("key", ["sk-local-0001", "EMPTY", "vllm", "m", "seed"])
def test_a_placeholder_for_a_key_changes_nothing(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    scripted = Scripted()
    with Server(scripted) as server:
        argv = ["--reflex_size", "1", *served.flags(server)]
        ran = served.run(QWEN, scripted, argv, tmp_path)
        assert ran.code == 0
        body = server.received[-1].body
    (described,) = ran.run()["sessions"][0]["engine"]["servers"]
    assert described["kind"] == "vllm"
    assert (body["top_k"], body["min_p"], body["return_token_ids"]) == (-1, 0.0, True)
    sent = ran.run()["engine"]["arguments"]["request"]
    assert sent == {name: body[name] for name in sent}


def test_a_proxy_is_named_where_it_fails_and_left_out_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def proxy(received: Received, answer: Answer) -> None:
        await answer.whole(503, b"<html>proxy</html>")

    with Server(proxy) as between, Server(Talker(), LISTED) as server:
        monkeypatch.setenv("http_proxy", f"http://me:word@127.0.0.1:{between.port}")
        ran = run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path)
        assert not between.received + between.looked
        assert ran.code == 0
        ran = run(OSS, flags("http://192.0.2.7:8000/v1"), tmp_path / "elsewhere")
    through = f"through the proxy http://***@127.0.0.1:{between.port}"
    refused(ran, through, "set no_proxy=192.0.2.7.")
