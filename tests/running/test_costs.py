"""What a run on servers costs: said before it begins, while it works and on its records, and the
limit that ends it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import study_oss
from helpers.fakes import contents
from helpers.http_server import Answer, Received, Server
from helpers.scripted import Ran, ended, refused
from helpers.served import quick
from helpers.talkers import LISTED, OSS, STEPS, Talker, error, flags, run
from kflow import study as studies
from kflow.analysis import compare
from kflow.engines.openai_engine import network
from kflow.engines.openai_engine.servers import listed_price
from kflow.ground.price import Price, money
from kflow.running.checks import volume
from kflow.running.plan import millions

PRICED = LISTED | {"pricing": {"prompt": "0.001", "completion": "0.005"}, "context_length": 131_072}
PRICES = ["--prompt_price", "1000", "--reply_price", "5000"]
# A rollout of 100 and 200 tokens costs 1.10 by either.
ONE = ["--reflex_size", "1"]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


def work(
    home: Path, argv: Sequence[str], talker: Talker | None = None, listed: dict[str, Any] = PRICED
) -> Ran:
    """A run on a server of its own."""
    with Server(talker or Talker(), listed) as server:
        return run(OSS, [*argv, *flags(server)], home)


# Before it begins.


def test_a_plan_has_the_prices_of_the_servers_own_list(tmp_path: Path) -> None:
    with Server(Talker(), PRICED) as server:
        planned = run(OSS, [*STEPS, *flags(server), "--dry_run"], tmp_path)
        assert not server.received
    assert planned.code == 0
    assert " serves some/model, with a window of 131,072" in planned.out
    # 9 rollouts of 20,000 tokens, or of the window, at 5,000 per million.
    assert (
        "cost: about 900.00 (9 rollouts of an assumed 20,000 tokens), at most 5,898" in planned.out
    )
    assert "by the server's list: 1,000 and 5,000 per million prompt and reply" in planned.out
    assert "time: 180,000 tokens at 600 tokens/s in total: 5 min (assumed)" in planned.out
    slow = work(tmp_path, [*STEPS, "--dry_run", "--max_concurrency", "1"])
    assert "time: 180,000 tokens at 200 tokens/s in total: 15 min (assumed)" in slow.out


def test_without_prices_the_plan_says_how_many_tokens(tmp_path: Path) -> None:
    planned = work(tmp_path, [*STEPS, "--dry_run"], listed=LISTED)
    tokens = "9 rollouts, about 180,000 tokens (at an assumed 20,000 each)"
    assert f"cost: no prices given: {tokens}\n" in planned.out


@pytest.mark.parametrize("more", [[], ["--dry_run"]], ids=["run", "dry"])
def test_a_model_that_a_server_does_not_list_is_wrong(more: list[str], tmp_path: Path) -> None:
    with Server(Talker(), PRICED | {"id": "another/model"}) as server:
        refused(run(OSS, [*flags(server), *more], tmp_path), "does not serve some/model")
        assert not server.received


def test_costs_are_the_first_line_of_a_start(tmp_path: Path) -> None:
    whole = work(tmp_path, ONE)
    further = work(tmp_path, ["--reflex_size", "2"])
    assert whole.err.startswith("Cost: about 300.00 (3 rollouts of an assumed 20,000 tokens), at ")
    assert further.err.startswith("Cost: 3.30 so far, then about 300.00 (3 rollouts of ")
    assert further.out.endswith("Cost: 6.60\n")


def test_flags_have_the_last_word_on_prices(tmp_path: Path) -> None:
    ran = work(tmp_path, [*STEPS, *PRICES[:3], "0"])
    assert "; by the flags: 1,000 and 0.00 per million" in ran.err
    assert ran.out.endswith("Cost: 0.90\n")


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("http://192.0.2.1/v1", True),
        ("http://localhost:9/v1", False),
        ("http://[::1]:9/v1", False),
    ],
)
def test_a_server_that_others_reach_wants_a_key(
    url: str, wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr(network, "CONNECT_TIMEOUT", 0.1)
    planned = run(OSS, [*flags(url), "--dry_run"], tmp_path)
    words = f"there is no key for {url}: set OPENAI_API_KEY"
    assert (planned.code, f"wrong: {words}" in planned.out) == ((2, True) if wrong else (0, False))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert run(OSS, [*flags(url), "--dry_run"], tmp_path).code == 0


def test_servers_of_ones_own_nodes_need_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    (tmp_path / "servers").write_text("http://192.0.2.1/v1\n")
    planned = run(OSS, [*flags(f"@{tmp_path / 'servers'}"), "--dry_run"], tmp_path)
    assert planned.code == 0
    assert "window and prices: http://192.0.2.1/v1 cannot be reached" in planned.out


# While it works.


def test_a_run_ends_where_its_cost_is_reached_and_goes_on_when_it_is_raised(tmp_path: Path) -> None:
    talker = Talker()
    ran = work(tmp_path, [*STEPS, "--max_cost", "5"], talker)
    asked = len(talker.rollouts)
    again = work(tmp_path, [*STEPS, "--max_cost", "5"], talker)
    assert len(talker.rollouts) == asked
    whole = work(tmp_path, [*STEPS, "--max_cost", "1000"], talker)
    assert (ran.code, again.code, whole.code) == (1, 2, 0)
    assert "5.50, has reached --max_cost 5" in ran.complaints[-1]
    assert again.complaints[-1] == ran.complaints[-1]
    assert whole.out.endswith("Cost: 9.90\n")
    assert json.loads((whole.folder / "status.json").read_bytes())["cost"] == pytest.approx(9.9)
    # What was in flight at the limit is asked again.
    assert 9 <= len(talker.rollouts) <= 9 + 2


def test_a_limit_is_that_of_all_arms_of_a_study(tmp_path: Path) -> None:
    def study(limit: str) -> Ran:
        argv = ["--arms", "vllm,vllm_refine", "--rollouts", "2", *flags(server)]
        argv += ["--max_cost", limit]
        return ended(tmp_path, argv, None, lambda own, _: studies.main(study_oss.STUDY, own))

    with Server(Talker(), PRICED) as server:
        first, again, whole = study("8"), study("8"), study("13.3")
    assert (first.code, again.code, whole.code) == (1, 2, 0), whole.err
    assert "The cost, 8.80, has reached --max_cost 8" in first.err
    assert [line for line in whole.out.splitlines() if "Cost" in line] == ["Cost: 6.60"] * 2


def test_a_limit_needs_prices(tmp_path: Path) -> None:
    argv, talker = [*STEPS, "--max_cost", "5"], Talker()
    for more in ([], ["--dry_run"]):
        ran = work(tmp_path, [*argv, *more], talker, LISTED)
        refused(ran, "--max_cost cannot be enforced", "give --prompt_price and --reply_price")
    assert not talker.rollouts
    assert not ran.results.exists()
    assert work(tmp_path, [*STEPS, *PRICES, "--max_cost", "50"], listed=LISTED).code == 0


# On record.


def test_what_a_server_says_of_cost_and_provider_is_on_record(tmp_path: Path) -> None:
    talker = Talker(cost=0.25, provider="Some\x1b[2J host")
    ran = work(tmp_path, ["--reflex_size", "2"], talker)
    further = work(tmp_path, STEPS, talker)
    records = further.step(1)[1:]
    assert {record["cost"] for record in records} == {0.25}
    assert {record["provider"] for record in records} == {r"Some\x1b[2J host"}
    assert (ran.out.splitlines()[-1], further.out.splitlines()[-1]) == ("Cost: 1.50", "Cost: 2.25")


@pytest.mark.parametrize(
    ("listed", "charged", "expected"),
    [
        pytest.param(PRICED, (None, None), 9.9, id="prices of the list"),
        pytest.param(LISTED, (0.25,), 2.25, id="charged alone"),
        pytest.param(LISTED, (0.25, None), None, id="a part does not pass for the whole"),
    ],
)
def test_what_a_run_cost_is_said_where_all_of_it_is_known(
    listed: dict[str, Any],
    charged: tuple[float | None, ...],
    expected: float | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ExitStack() as up:
        servers = [up.enter_context(Server(Talker(cost=each), listed)) for each in charged]
        ran = run(OSS, [*STEPS, *flags(*servers)], tmp_path)
    costs = {record.get("cost") for step in range(3) for record in ran.step(step)[1:]}
    assert costs == set(charged)
    assert ran.out.endswith(f"Cost: {expected:.2f}\n" if expected else f"{ran.folder}\n")
    compare.main(None, [str(ran.folder), "--json"])
    compared = json.loads(capsys.readouterr().out)["runs"][0]["cost"]
    assert compared == (expected and pytest.approx(expected))


@dataclass
class Silent(Talker):
    """Has nothing to say to one problem."""

    def reply(self, received: Received) -> tuple[str, str]:
        return ("", "") if self.key(received).problem == "third" else super().reply(received)


def test_what_is_asked_again_is_not_counted_twice(tmp_path: Path) -> None:
    ran = work(tmp_path, [*ONE, "--record_refusals"], Silent())
    assert ran.step(0)[0]["failed"] == 1
    (failed,) = (record for record in ran.step(0)[1:] if record["failure"])
    assert (failed["prompt_tokens"], failed["completion_tokens"]) == (100, 200)
    again = work(tmp_path, [*ONE, "--retry_failed"])
    assert again.step(0)[0]["failed"] == 0
    assert again.out.splitlines()[-1] == "Cost: 3.30"


def test_a_reply_without_text_is_charged_each_time_it_is_asked_for(tmp_path: Path) -> None:
    talker = Silent(cost=0.25)
    ran = work(tmp_path, [*ONE, "--record_refusals"], talker, listed=LISTED)
    costs = [record["cost"] for record in ran.step(0)[1:]]
    assert sum(costs) == 0.25 * len(talker.rollouts)
    assert max(costs) == 0.25 * (len(talker.rollouts) - 2) > 0.25
    assert ran.out.splitlines()[-1] == f"Cost: {sum(costs):.2f}"


def test_what_was_not_sent_is_absent(tmp_path: Path) -> None:
    ran = work(tmp_path, STEPS, listed=LISTED)
    assert not {"cost", "provider"} & ran.step(1)[1].keys()
    assert not {"request_args", "max_cost"} & ran.run()["settings"].keys()
    assert "price" not in ran.run()["sessions"][0]["engine"]["servers"][0]
    assert "cost" not in json.loads((ran.folder / "status.json").read_bytes())


ROUTED = {"provider": {"order": ["one", "two"], "allow_fallbacks": False}}


def test_more_fields_are_sent_with_every_request_and_are_part_of_the_run(tmp_path: Path) -> None:
    more = ["--request_args", json.dumps(ROUTED | {"api_key": "hf_hidden"})]
    with Server(Talker(), LISTED) as server:
        argv = [*ONE, *flags(server)]
        ran = run(OSS, [*argv, *more], tmp_path)
        assert all(each.body["provider"] == ROUTED["provider"] for each in server.received)
        assert all(each.body["api_key"] == "hf_hidden" for each in server.received)
        assert len(server.received) > 3
        refused(run(OSS, argv, tmp_path), "settings.request_args: ", "--change_engine")
        further = run(OSS, ["--reflex_size", "2", *flags(server), "--change_engine"], tmp_path)
    assert ran.run()["settings"]["request_args"]["provider"] == ROUTED["provider"]
    assert further.code == 0
    assert "request_args null" in further.step(1)[1]["engine"]
    assert not any(b"hf_hidden" in content for content in contents(tmp_path).values())


def test_what_the_program_sends_is_not_overridden(tmp_path: Path) -> None:
    argv = [*flags("http://h/v1"), "--request_args", '{"fine": 1, "seed": 1}']
    ran = run(OSS, argv, tmp_path)
    refused(ran, "argument --request_args: seed is sent by the program")
    assert not ran.results.exists()


def test_a_server_that_refuses_such_a_field_is_not_blamed_on_another_flag(tmp_path: Path) -> None:
    async def refuse(received: Received, answer: Answer) -> bool:
        await answer.whole(400, error("provider: unknown host 'one'"))
        return True

    argv = [*STEPS, "--request_args", json.dumps(ROUTED)]
    refused(work(tmp_path, argv, Talker(before=refuse), LISTED), "change --request_args")


# What is read and shown.


@pytest.mark.parametrize(
    ("pricing", "expected"),
    [
        ({"prompt": "0.00000005", "completion": "0.00000025"}, Price(0.05, 0.25)),
        ({"prompt": "0", "completion": 0, "request": "1"}, Price(0, 0)),
        ({"prompt": "-1", "completion": "-1"}, None),
        ({"prompt": "nan", "completion": "1"}, None),
        ({"prompt": [], "completion": {}}, None),
        ({"prompt": "1e300", "completion": "1"}, None),
        ("0.1", None),
    ],
)
def test_the_prices_of_a_list_of_models(pricing: Any, expected: Price | None) -> None:
    assert listed_price(pricing) == expected


def test_figures_have_the_digits_and_the_unit_that_say_something() -> None:
    shown = [money(each) for each in (0, 3.2e-05, 0.0042, 0.012, 0.0999, 0.1, 12.3, 1234.5)]
    assert shown == ["0.00", "0.000032", "0.0042", "0.012", "0.100", "0.10", "12.30", "1,234"]
    assert len(money(1e-300)) < 20
    shown = [volume(each) for each in (0, 90_000, 17e6, 1.4e8, 6.5e10, 4.7e11)]
    assert shown == ["0 kB", "90 kB", "17 MB", "0.14 GB", "65 GB", "470 GB"]
    shown = [millions(each) for each in (320_000, 1_500_000, 38_400_000)]
    assert shown == ["320,000 tokens", "1.5 million tokens", "38 million tokens"]
