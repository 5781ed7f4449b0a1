"""When a request is sent again, where to, and when a run gives up: without a clock or a network."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from kflow.engines.openai_engine import retry
from kflow.engines.openai_engine.retry import Attempts, Fault, Fleet, Verdict, fault_of, pause
from kflow.types import EngineDied

NOW = datetime(2025, 10, 21, 7, 28, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("statuses", "flags"),
    [
        ([400, 405, 410, 413, 415, 422, 451], {"rejects"}),
        ([429], {"busy"}),
        ([408, 409, 425, 500], set()),
        ([401, 403, 404, 407, 204, 302, 307, 502, 503, 504, 529, 999], {"down"}),
    ],
)
def test_what_a_status_says_of_server_and_request(statuses: list[int], flags: set[str]) -> None:
    for status in statuses:
        fault = fault_of(status, "why", 3.0)
        raised = {n for n in ("down", "rejects", "busy", "broken") if getattr(fault, n)}
        assert (raised, fault.asked_pause, str(fault)) == (flags, 3.0, "why")


def test_pauses_double_up_to_a_limit() -> None:
    longest = [pause(faults, None, 1800, 1.0) for faults in range(1, 10)]
    assert longest == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert [pause(faults, None, 1800, 0.0) for faults in range(1, 10)] == [p / 2 for p in longest]
    assert pause(10**9, None, 1800, 1.0) == 30


def test_a_server_that_asks_for_a_pause_gets_it_but_not_for_ever() -> None:
    assert pause(1, 60.0, 1800, 0.0) == 60.25
    assert pause(1, 60.0, 1800, 1.0) == 60.5
    assert pause(1, 1e9, 1800, 1.0) == 1800.5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 999_999_999.0),
        ("Tue, 21 Oct 2025 07:28:30 GMT", 30.0),
        ("Tue, 21 Oct 2025 07:28:30", 30.0),
        ("Tue, 21 Oct 2025 07:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("", None),
        ("٣", 3.0),
        ("²", None),
        ("Tue, 99 Oct 2025 99:28:30 GMT", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 251641355459.0),
        ("1e999", None),
        (",", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry.retry_after(header, NOW) == seconds


DOWN, BUSY = Fault("refused", down=True), Fault("HTTP 429")


def fleet(servers: int = 3, outage: float = 100.0) -> tuple[Fleet, list[str]]:
    lines: list[str] = []
    return Fleet([f"http://s{number}/v1" for number in range(servers)], outage, lines.append), lines


def test_chains_are_dealt_out_evenly_and_stay() -> None:
    servers, _ = fleet()
    chains = [(problem, seed) for seed in range(4) for problem in "abc"]
    dealt = [servers.choose(chain, 0.0) for chain in chains]
    assert sorted(dealt) == [0] * 4 + [1] * 4 + [2] * 4
    assert [servers.choose(chain, 9.0) for chain in reversed(chains)] == dealt[::-1]


def test_a_chain_moves_while_its_server_is_down_and_comes_back() -> None:
    servers, _ = fleet()
    assert [servers.choose(chain, 0.0) for chain in "abc"] == [0, 1, 2]
    servers.fault(1, DOWN, 5.0)
    assert [servers.choose(chain, 6.0) for chain in "abc"] == [0, 2, 2]
    servers.fault(2, DOWN, 6.0)
    assert [servers.choose(chain, 7.0) for chain in "abc"] == [0, 0, 0]
    servers.alive(1, None)
    assert [servers.choose(chain, 8.0) for chain in "abc"] == [0, 1, 0]


def test_one_request_at_a_time_tries_a_server_that_was_down() -> None:
    servers, _ = fleet(2)
    assert [servers.choose(chain, 0.0) for chain in "ab"] == [0, 1]
    servers.fault(0, DOWN, 0.0)
    again = retry.ASK_AGAIN
    assert servers.choose("a", again - 1) == 1
    assert [servers.choose("a", again) for _ in range(3)] == [0, 1, 1]
    assert [servers.choose("a", 2 * again) for _ in range(2)] == [0, 1]


def test_a_busy_server_keeps_its_chains() -> None:
    servers, _ = fleet(2)
    servers.choose("a", 0.0)
    servers.fault(0, BUSY, 0.0)
    assert servers.choose("a", 1.0) == 0


def test_with_every_server_down_a_chain_tries_its_own() -> None:
    servers, _ = fleet(2)
    assert [servers.choose(chain, 0.0) for chain in "ab"] == [0, 1]
    servers.fault(0, DOWN, 0.0)
    servers.fault(1, DOWN, 0.0)
    assert [servers.choose(chain, 1.0) for chain in "ab"] == [0, 1]


def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    servers, lines = fleet(1)
    servers.fault(0, DOWN, 0.0)
    servers.alive(0, None)
    assert lines == []  # one broken connection is no outage
    for now in range(5):
        servers.fault(0, DOWN, float(now))
    assert lines == ["http://s0/v1: refused; retrying for up to 1.66667 minutes (--max_outage)"]
    servers.alive(0, None)
    servers.alive(0, None)
    assert lines[1:] == ["http://s0/v1 answers again"]
    servers.fault(0, DOWN, 50.0)
    servers.fault(0, DOWN, 51.0)
    assert len(lines) == 3


def test_the_run_ends_when_no_server_has_answered_for_too_long() -> None:
    servers, _ = fleet(2)
    servers.fault(0, DOWN, 0.0)
    servers.fault(0, DOWN, 500.0)  # the other one may be well
    servers.fault(1, DOWN, 500.0)
    servers.fault(0, DOWN, 599.0)
    with pytest.raises(EngineDied, match=r"^No server has answered for .* http://s1/v1 last: re"):
        servers.fault(1, DOWN, 600.0)


def test_any_sign_of_life_begins_the_wait_anew() -> None:
    servers, _ = fleet(1)
    servers.fault(0, BUSY, 0.0)
    servers.alive(0, None)
    servers.fault(0, BUSY, 99.0)
    servers.fault(0, BUSY, 198.0)
    with pytest.raises(EngineDied, match="HTTP 429"):
        servers.fault(0, BUSY, 199.0)


def test_without_patience_the_first_fault_ends_the_run() -> None:
    servers, _ = fleet(1, 0.0)
    with pytest.raises(EngineDied):
        servers.fault(0, DOWN, 1.0)


def test_a_request_that_was_rejected_goes_to_the_next_server() -> None:
    servers, _ = fleet(3)
    assert [servers.choose("a", 0.0, rejected) for rejected in range(4)] == [0, 1, 2, 0]


REJECTED, BROKEN = Fault("HTTP 400: no", rejects=True), Fault("closed", broken=True)
NEVER = float("-inf")


def test_a_refusal_is_final_when_another_was_accepted_in_between() -> None:
    attempts = Attempts(100.0)
    assert attempts.fault(0, REJECTED, 5.0, 4.0) is None
    # Accepted since then, but sent before: it may have passed before what refuses now was there.
    assert attempts.fault(0, REJECTED, 6.0, 5.0) is None
    assert attempts.fault(0, DOWN, 7.0, 6.5) is None
    assert attempts.fault(0, REJECTED, 8.0, 6.5) == Verdict("HTTP 400: no", final=True)


def test_a_refusal_of_one_server_says_nothing_of_another() -> None:
    attempts = Attempts(100.0)
    assert attempts.fault(0, REJECTED, 5.0, NEVER) is None
    assert attempts.fault(1, REJECTED, 6.0, 5.5) is None
    assert attempts.rejected == 2
    assert attempts.fault(0, REJECTED, 7.0, NEVER) is None
    assert attempts.fault(1, REJECTED, 8.0, 6.5) == Verdict("HTTP 400: no", final=True)


@pytest.mark.parametrize("fault", [DOWN, REJECTED, Fault("HTTP 500")])
def test_a_request_is_left_open_after_the_outage(fault: Fault) -> None:
    attempts = Attempts(60.0)
    assert [attempts.fault(0, fault, now, NEVER) for now in (3.0, 40.0, 62.9)] == [None] * 3
    open_ = Verdict(f"{fault} (retried for 1 minutes (--max_outage))", final=False)
    assert attempts.fault(0, fault, 63.0, NEVER) == open_


def test_the_wait_begins_anew_after_a_part_of_a_reply_but_not_for_ever() -> None:
    attempts = Attempts(60.0)
    for time in range(0, 100 * (retry.MOST_BROKEN - 1), 100):
        assert attempts.fault(0, BROKEN, float(time), NEVER) is None
        assert attempts.faults == 1
        assert attempts.fault(0, DOWN, time + 59.0, NEVER) is None
    assert attempts.fault(0, BROKEN, 9999.0, NEVER) == Verdict("closed (8 times)", final=False)


def test_a_busy_server_is_waited_for_as_long_as_it_works_for_others() -> None:
    attempts, busy = Attempts(60.0), fault_of(429, "later", None)
    assert [attempts.fault(0, busy, 1000.0 * n, 0.0) for n in range(9)] == [None] * 9
    assert attempts.fault(0, DOWN, 9000.0, 0.0) is None
    verdict = attempts.fault(0, busy, 9060.0, 0.0)
    assert verdict is not None
    assert not verdict.final
