"""Who is at fault decides (docs/gpus_and_servers.md, "Failures"): whole scripts on servers that
refuse, and what is on record of it, and after how long."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from helpers.fakes import K, contents
from helpers.http_server import DONE, Answer, Received, Scripted, Server, delta, message, usage
from helpers.scripted import Ran, refused, run_script
from helpers.served import SECRET, quick
from helpers.talkers import LISTED, OSS, STEPS, Rule, Talker, error, flags, is_trial, refusing, run
from helpers.tokenizer import save_tokenizer
from kflow.engines.openai_engine import retry
from kflow.types import Key

QWEN = "vllm_kflow_qwen"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


def failures(ran: Ran) -> list[str | None]:
    """Of all rollouts on record, in the files of complete steps and in journals."""
    records = [r for path in ran.folder.glob("pred*") for r in json.loads(path.read_bytes())[1:]]
    for path in ran.folder.glob("rollouts_*.jsonl"):
        lines = map(json.loads, path.read_text().splitlines())
        records += [line["rollout"] for line in lines if "rollout" in line]
    return [record["failure"] for record in records]


def resumed(script: str, talker: Talker, server: Server, argv: list[str], folder: Path) -> Ran:
    """The same command once the server is well."""
    talker.before = well
    return run(script, [*argv, *flags(server)], folder)


async def well(received: Received, answer: Answer) -> bool:
    return False


# The account and the configuration.


def poor(number: int, most: int) -> Rule:
    """An account that after so many rollouts has credit for short replies alone."""

    async def rule(received: Received, answer: Answer) -> bool:
        if received.number > number and received.body["max_tokens"] > most:
            await answer.whole(402, error("more credit, or fewer max_tokens", code=402))
            return True
        return False

    return rule


@pytest.mark.parametrize("most", [1000, 0], ids=["for short replies", "for none"])
def test_credit_that_runs_out_is_nobodys_failure(most: int, tmp_path: Path) -> None:
    talker = Talker(before=poor(4, most))
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
        assert ran.code == 1
        assert "HTTP 402: more credit" in ran.complaints[-1]
        assert set(failures(ran)) == {None}
        asked, left = len(server.received), 9 - len(failures(ran))
        assert asked < 60
        again = resumed(OSS, talker, server, STEPS, tmp_path)
        assert len(server.received) - asked == 1 + left
    assert (again.code, failures(again)) == (0, [None] * 9)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_an_account_or_an_address_is_refused_mid_run_is_not_on_record(
    status: int, tmp_path: Path
) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        if received.number > 5:
            await answer.whole(status, error("not any more"))
        return received.number > 5

    talker = Talker(before=rule)
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
        again = resumed(OSS, talker, server, STEPS, tmp_path)
    assert (ran.code, set(failures(ran))) == (1, {None})
    assert f"HTTP {status}: not any more" in ran.complaints[-1]
    assert not [line for line in ran.complaints if "answers again" in line]
    assert (again.code, failures(again)) == (0, [None] * 9)


def test_a_used_up_quota_is_not_waited_for_like_a_limit_of_requests(tmp_path: Path) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        if received.number > 5:
            await answer.whole(429, error("check your plan", code="insufficient_quota"))
        return received.number > 5

    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server), "--max_outage", "1000"], tmp_path)
    assert (ran.code, set(failures(ran))) == (1, {None})
    assert "HTTP 429: check your plan" in ran.complaints[-1]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "insufficientquota: top up"),
        (429, "INSUFFICIENT QUOTA of concurrent requests"),
        (503, "Loading model"),
    ],
)
def test_a_gateway_that_has_no_room_now_and_then_costs_nothing(
    status: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "ACCOUNT_PATIENCE", 60.0)

    async def rule(received: Received, answer: Answer) -> bool:
        if received.number % 3 == 2:
            await answer.whole(status, error(words))
        return received.number % 3 == 2

    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
    assert (ran.code, failures(ran)) == (0, [None] * 9), ran.err


def test_a_blip_of_the_account_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a router whose servers restart."""
    seen: list[int] = []

    async def rule(received: Received, answer: Answer) -> bool:
        if 4 < received.number < 8:
            seen.append(received.number)
            await answer.whole(404, b"no backend")
            return True
        return False

    monkeypatch.setattr(retry, "ACCOUNT_PATIENCE", 60.0)
    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
    assert (ran.code, failures(ran), len(seen)) == (0, [None] * 9, 3)


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
    async def rule(received: Received, answer: Answer) -> bool:
        refuse = talker.key(received).step == 1
        if refuse:
            await answer.whole(400, error("no later step, please"))
        return refuse

    talker = Talker(before=rule)
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
        assert (ran.code, failures(ran)) == (1, [None] * 3)
        assert "no later step, please" in ran.complaints[-1]
        again = resumed(OSS, talker, server, STEPS, tmp_path)
    assert (again.code, failures(again)) == (0, [None] * 9)


def test_a_bad_spell_of_refusals_is_nobodys_failure(tmp_path: Path) -> None:
    """Any eight requests in turn, while earlier replies go on."""

    async def rule(received: Received, answer: Answer) -> bool:
        spell = 4 < received.number < 13
        if spell:
            await answer.whole(400, b"bad gateway, sort of")
        return spell

    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, ["--reflex_size", "4", *flags(server)], tmp_path)
        while ran.code == 1:
            assert set(failures(ran)) == {None}
            ran = run(OSS, ["--reflex_size", "4", *flags(server)], tmp_path)
    assert (ran.code, failures(ran)) == (0, [None] * 12)


# Seeds and lengths.


@pytest.mark.parametrize("engine", ["chat", "openai"])
def test_a_server_with_signed_seeds_answers_every_rollout(engine: str, tmp_path: Path) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        large = received.body["seed"] >= 1 << 31
        if large:
            await answer.whole(400, error("seed must be at most 2147483647"))
        return large

    if engine == "chat":
        with Server(Talker(before=rule), LISTED) as server:
            ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
    else:
        scripted = Scripted(before=lambda received, answer, key: rule(received, answer))
        with Server(scripted) as server:
            argv = ["--engine", "openai", "--served_model_name", "model", "--base_url", server.url]
            ran = run_script(QWEN, [*STEPS, *argv], tmp_path, served=scripted.chat)
    assert (ran.code, failures(ran)) == (0, [None] * 9)
    seeds = [record["sampling_seed"] for step in range(3) for record in ran.step(step)[1:]]
    assert max(seeds) >= 1 << 31  # the whole seed is on record


WINDOW, TEMPLATE = 4096, 60  # tokens: the server's window, and what its template adds to a prompt


def strict(received: Received) -> tuple[int, int]:
    """The tokens of a prompt and the largest budget that is left, on a server of bytes."""
    prompt = TEMPLATE + sum(len(m["content"].encode()) for m in received.body["messages"])
    return prompt, WINDOW - prompt


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is {window} tokens. However, you requested {total} "
        "tokens ({prompt} in the messages, {budget} in the completion).",
        "'max_tokens' is too large: {budget}. This model's maximum context length is {window} "
        "tokens and your request has {prompt} input tokens.",
        "Requested token count exceeds the model's maximum context length of {window} tokens. You "
        "requested a total of {total} tokens: {prompt} tokens from the input messages.",
        "`inputs` tokens + `max_new_tokens` must be <= {window}. Given: {prompt} `inputs` tokens "
        "and {budget} `max_new_tokens`",
    ],
)
def test_a_budget_that_is_too_long_by_the_servers_template_is_lowered(
    words: str, tmp_path: Path
) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        (prompt, left), budget = strict(received), received.body["max_tokens"]
        if budget <= left or is_trial(received):
            return False
        said = words.format(window=WINDOW, total=prompt + budget, prompt=prompt, budget=budget)
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
    (line,) = [line for line in ran.complaints if "max_tokens of their records" in line]
    assert server.url in line


def test_a_window_that_is_much_smaller_ends_the_start_with_its_size(tmp_path: Path) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        words = "maximum context length is 2048 tokens. However, you requested 9000 tokens."
        await answer.whole(400, error(words))
        return True

    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, [*flags(server), "--max_new_tokens", "8192"], tmp_path)
        assert len(server.received) == retry.TRIES
    refused(ran, "maximum context length is 2048", "lower --max_new_tokens to 2048")
    assert not (tmp_path / "results").exists()


TOO_LONG = {
    "code": 400,
    "type": "exceed_context_size_error",
    "message": "request (9000 tokens) exceeds the available context size (4096 tokens)",
}


@pytest.mark.parametrize("status", [200, 500])
def test_a_prompt_without_room_is_refused_whatever_the_status(status: int, tmp_path: Path) -> None:
    """As llama.cpp has said it."""
    lacking = Key("", "second", 0, 1)

    async def rule(received: Received, answer: Answer) -> bool:
        no_room = not is_trial(received) and talker.key(received) == lacking
        if no_room:
            await answer.whole(status, json.dumps({"error": TOO_LONG}).encode())
        return no_room

    talker = Talker(before=rule)
    with Server(talker, LISTED) as server:
        argv = [*STEPS, *flags(server), "--record_refusals", "--max_outage", "1"]
        ran = run(OSS, argv, tmp_path)
    assert ran.code == 0, ran.err
    (failure,) = [failure for failure in failures(ran) if failure is not None]
    assert "exceeds the available context size (4096 tokens)" in failure


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_first_prompt_without_room_ends_the_start(status: int, tmp_path: Path) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        await answer.whole(status, json.dumps({"error": TOO_LONG}).encode())
        return True

    with Server(Talker(before=rule), LISTED) as server:
        argv = [*flags(server), "--max_new_tokens", "8192", "--max_outage", "0.05"]
        ran = run(OSS, argv, tmp_path)
        assert len(server.received) == retry.TRIES
    refused(ran, "context size (4096 tokens)", "lower --max_new_tokens to 4096")


def test_an_adapters_window_is_its_models(tmp_path: Path) -> None:
    base = {"id": "base", "owned_by": "vllm", "max_model_len": 2048}
    adapter = {"id": "some/model", "owned_by": "vllm", "max_model_len": None, "parent": "base"}
    models = json.dumps({"data": [base, adapter]}).encode()
    with Server(Talker(), models=models) as server:
        ran = run(OSS, [*flags(server), "--max_new_tokens", "8192"], tmp_path)
        assert not server.received
    refused(ran, "a window of 2048 tokens, less than --max_new_tokens 8192")


# Failed rollouts, asked again.


def test_failed_rollouts_of_the_last_step_are_asked_again(tmp_path: Path) -> None:
    talker = filtering(Key("", "second", 0, 2))
    with Server(talker, LISTED) as server:
        argv = [*STEPS, *flags(server)]
        ran = run(OSS, [*argv, "--record_refusals"], tmp_path)
        whole = ran.predictions()
        assert [r["failure"] is not None for r in ran.step(2)[1:]] == [False, True, False]
        talker.before, asked = well, len(talker.rollouts)
        assert run(OSS, argv, tmp_path).predictions() == whole
        assert len(talker.rollouts) == asked
        again = run(OSS, [*argv, "--retry_failed"], tmp_path)
        assert [talker.key(r)[1:4] for r in talker.rollouts[asked:]] == [("second", 0, 2)]
    assert (again.code, failures(again)) == (0, [None] * 9)
    after = again.predictions()
    assert {n for n in whole if whole[n] != after[n]} == {"predictions_2.json"}
    kept = [ran_again for ran_again in again.step(2)[1:] if ran_again["id"] != "second"]
    before = [r for r in json.loads(whole["predictions_2.json"])[1:] if r["id"] != "second"]
    assert kept == before


def test_failed_rollouts_are_on_record_until_a_server_is_there_to_ask(tmp_path: Path) -> None:
    talker = filtering(Key("", "second", 0, 2))
    with Server(talker, LISTED) as server:
        argv = [*STEPS, *flags(server)]
        run(OSS, [*argv, "--record_refusals"], tmp_path)
    before = contents(tmp_path / "results")
    ran = run(OSS, [*argv, "--retry_failed"], tmp_path)  # the server has gone
    assert ran.code == 2
    assert "start the server first" in ran.complaints[-1]
    assert contents(tmp_path / "results") == before


def test_failures_that_are_asked_again_do_not_count_against_the_most(tmp_path: Path) -> None:
    script, talker = "vllm_oss_parallel_thinking", filtering(Key("", "second", 0, 0))
    with Server(talker, LISTED) as server:
        argv = [*STEPS, *flags(server)]
        run(script, [*argv, "--record_refusals"], tmp_path)
        talker.before = well
        refused(run(script, [*argv, "--max_failures", "0"], tmp_path), "1 failed rollout on record")
        again = run(script, [*argv, "--max_failures", "0", "--retry_failed"], tmp_path)
    assert (again.code, failures(again)) == (0, [None] * 9)


def test_failed_rollouts_that_later_steps_rest_on_stay(tmp_path: Path) -> None:
    talker = filtering(Key("", "second", 0, 1))
    with Server(talker, LISTED) as server:
        argv = [*STEPS, *flags(server)]
        ran = run(OSS, [*argv, "--record_refusals"], tmp_path)
        whole, asked = ran.predictions(), len(talker.rollouts)
        talker.before = well
        again = run(OSS, [*argv, "--retry_failed"], tmp_path)
        assert len(talker.rollouts) == asked
    assert again.code == 0
    assert again.predictions() == whole
    assert [line for line in again.complaints if "later steps rest on" in line]


def test_failed_rollouts_of_independent_attempts_are_all_asked_again(tmp_path: Path) -> None:
    """The same files as of a run in which nothing was refused."""
    script, talker = "vllm_oss_parallel_thinking", filtering(Key("", "second", 0, 0))
    with Server(Talker(), LISTED) as server:
        good = run(script, [*STEPS, *flags(server)], tmp_path / "good")
    with Server(talker, LISTED) as server:
        argv = [*STEPS, *flags(server)]
        ran = run(script, [*argv, "--record_refusals"], tmp_path)
        assert ran.code == 0
        assert ran.step(0)[2]["failure"]
        talker.before, asked = well, len(talker.rollouts)
        again = run(script, [*argv, "--retry_failed"], tmp_path)
        assert len(talker.rollouts) == asked + 1
    assert again.code == 0
    assert again.predictions() == good.predictions()


# The start, and what is said of waits.


def test_a_wait_longer_than_the_outage_ends_the_start(tmp_path: Path) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        await answer.whole(429, error("daily limit"), Retry_After="3600")
        return True

    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, flags(server), tmp_path)
        assert len(server.received) == 1
    refused(ran, "asks to wait 3,600 seconds (HTTP 429: daily limit)", "--max_outage")


def test_a_wait_is_said_with_its_reason(tmp_path: Path) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        if received.number == 2:
            await answer.whole(429, error("slow down"), Retry_After="4")
        return received.number == 2

    with Server(Talker(before=rule), LISTED) as server:
        ran = run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path)
    assert ran.code == 0
    (line,) = ran.complaints
    assert line.startswith(f"{server.url}: HTTP 429: slow down; asked again in 4 seconds")


REMEDIES = {
    "no key": (401, "No auth credentials found", False, ["wants a key", "set OPENAI_API_KEY"]),
    "a wrong key": (401, f"{SECRET} is no key", True, ["refuses the key in OPENAI_API_KEY", "***"]),
    "a key without access": (403, "not for you", True, ["refuses the key in OPENAI_API_KEY"]),
    "no credit": (402, "nothing left", True, ["has no credit", "nothing left"]),
    "no such model": (
        404, "The model `some/model` does not exist.", True,
        ["does not serve some/model", "as --model_name"],
    ),
    "no such model, as a bad request": (
        400, "some/model is not a valid model ID", True,
        ["does not serve some/model", "as --model_name"],
    ),
    "no such path": (404, "Not Found", True, ["cannot be used", "usually ends in /v1"]),
    "elsewhere": (307, "", True, ["redirects", "usually ends in /v1"]),
    "a key that is a bad request": (
        400, "API key not valid. Please pass a valid API key.", True, ["refuses the key in"],
    ),
    "a minute's tokens": (
        413, "Request too large: Limit 8000, Requested 32979", True, ["lower --max_new_tokens"],
    ),
    "a minute's tokens, as too many requests": (
        429, "Request too large: Limit 30000, Requested 342389", True, ["lower --max_new_tokens"],
    ),
    "a range of budgets": (
        400, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", True,
        ["lower --max_new_tokens to 8192"],
    ),
    "another vocabulary": (400, "Token id 151859 is out of vocabulary", True, ["Token id 151859"]),
    "an unknown value": (400, "temperature must be 1", True, ["change --temperature"]),
}  # fmt: skip


@pytest.mark.parametrize(("code", "words", "key", "named"), REMEDIES.values(), ids=REMEDIES)
def test_a_wrong_setting_ends_the_start_with_its_remedy(
    code: int,
    words: str,
    key: bool,
    named: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not key:
        monkeypatch.delenv("OPENAI_API_KEY")
    with Server(Talker(before=refusing({"model": words}, code)), LISTED) as server:
        ran = run(OSS, flags(server), tmp_path)
        assert len(server.received) == retry.TRIES
    refused(ran, server.url, *named)
    assert SECRET not in ran.err
    assert not (tmp_path / "results").exists()


def test_a_server_without_completions_is_told_from_one_without_the_model(tmp_path: Path) -> None:
    async def behave(received: Received, answer: Answer) -> None:
        await answer.whole(404, b'{"detail": "Not Found"}')

    with Server(behave) as server:
        argv = ["--engine", "openai", "--served_model_name", "model", "--base_url", server.url]
        ran = run_script(QWEN, argv, tmp_path, served=Scripted().chat)
    refused(ran, "has no /completions", "use --engine chat")


def test_the_nearest_names_are_told(tmp_path: Path) -> None:
    names = [f"vendor/model-{n}" for n in range(300)] + ["some/modell", "some/model-2", "a/b"]
    models = json.dumps({"data": [{"id": name} for name in names]}).encode()
    with Server(Talker(), models=models) as server:
        ran = run(OSS, flags(server), tmp_path)
    refused(ran, "does not serve some/model", "as --model_name: some/modell, some/model-2")


@pytest.mark.parametrize("listed", ["some/model", "some/*"])
def test_a_name_that_tells_a_router_how_to_choose_is_asked(listed: str, tmp_path: Path) -> None:
    with Server(Talker(), {"id": listed, "owned_by": "someone"}) as server:
        argv = [*flags(server), "--model_name", "some/model:nitro", "--reflex_size", "1"]
        ran = run(OSS, argv, tmp_path)
        assert {r.body["model"] for r in server.received} == {"some/model:nitro"}
    assert ran.code == 0


def test_a_page_in_the_place_of_a_server_is_told_at_once(tmp_path: Path) -> None:
    """A web interface answers every address with its page."""

    async def behave(received: Received, answer: Answer) -> None:
        await answer.whole(200, b"<!doctype html><title>Chat</title>")

    with Server(behave, models=b"<!doctype html>") as server:
        ran = run(OSS, flags(server), tmp_path)
        assert len(server.received) == retry.TRIES
    refused(ran, "<!doctype html>", "usually ends in /v1")


# What a server does to prompts and replies without a word.


def test_a_prompt_that_a_server_cuts_is_told(tmp_path: Path) -> None:
    async def rule(received: Received, answer: Answer) -> bool:
        if not is_trial(received):
            text = talker.reply(received)[1]
            counted = usage(9, prompt_tokens=20)
            await answer.stream(message("stop", content=text), counted, DONE)
        return not is_trial(received)

    talker = Talker(before=rule)
    with Server(talker, LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
    assert ran.code == 0
    (line,) = [line for line in ran.complaints if "num_ctx" in line]
    assert line.startswith(f"{server.url}: it has counted 20 tokens of a prompt of about")


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
        argv = ["--engine", "openai", "--served_model_name", "model", "--base_url", server.url]
        ran = run_script(QWEN, [*argv, "--reflex_size", "1"], tmp_path, served=scripted.chat)
        assert ran.code == 0
        body = server.received[-1].body
    (described,) = ran.run()["sessions"][0]["engine"]["servers"]
    assert described["kind"] == "vllm"
    assert (body["top_k"], body["min_p"], body["return_token_ids"]) == (-1, 0.0, True)
    sent = ran.run()["engine"]["arguments"]["request"]
    assert sent == {name: body[name] for name in sent}


def test_a_server_on_this_machine_is_asked_past_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def proxy(received: Received, answer: Answer) -> None:
        await answer.whole(503, b"<html>proxy</html>")

    with Server(proxy) as between, Server(Talker(), LISTED) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{between.port}")
        ran = run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path)
        assert not between.received + between.looked
    assert ran.code == 0


def test_a_proxy_that_stands_between_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def proxy(received: Received, answer: Answer) -> None:
        await answer.whole(503, b"<html>proxy</html>")

    with Server(proxy) as between:
        monkeypatch.setenv("http_proxy", f"http://me:word@127.0.0.1:{between.port}")
        ran = run(OSS, flags("http://192.0.2.7:8000/v1"), tmp_path)
    refused(ran, f"through the proxy http://***@127.0.0.1:{between.port}", "no_proxy=192.0.2.7")


def test_a_server_that_breaks_replies_off_is_asked_again(tmp_path: Path) -> None:
    """With a finish reason of its own for it."""
    scripted = Scripted()

    async def starved(received: Received, answer: Answer, key: Key) -> bool:
        if received.number % 2:
            reason = "insufficient_system_resource"
            await answer.stream(delta("Half of", [1]), delta("", [], reason))
        return bool(received.number % 2)

    scripted.before = starved
    with Server(scripted) as server:
        argv = ["--engine", "openai", "--served_model_name", "model", "--base_url", server.url]
        ran = run_script(QWEN, [*STEPS, *argv], tmp_path, served=scripted.chat)
    assert ran.code == 0
    assert {r["finish_reason"] for step in range(3) for r in ran.step(step)[1:]} == {"stop"}
    assert K("first", 0, 0) in scripted.keys.values()
