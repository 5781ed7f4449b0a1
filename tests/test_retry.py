"""When a request is sent again, where to, and when a run gives up: without a clock or a network."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from kflow.engines import retry
from kflow.engines.retry import Fault, Fleet, fault_of, pause
from kflow.types import EngineDied

NOW = datetime(2025, 10, 21, 7, 28, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("status", "down", "own"),
    [
        (408, False, False),
        (429, False, False),
        (500, False, True),
        (502, True, False),
        (503, True, False),
        (504, True, False),
        (529, True, False),
        (401, True, False),
        (403, True, False),
        (404, True, False),
        (307, True, False),
    ],
)
def test_statuses_to_try_again(status: int, down: bool, own: bool) -> None:
    fault = fault_of(status, "why", 3.0)
    assert fault is not None
    assert (fault.down, fault.own, fault.asked_pause, str(fault)) == (down, own, 3.0, "why")


@pytest.mark.parametrize("status", [400, 405, 410, 413, 415, 422])
def test_statuses_of_a_wrong_request(status: int) -> None:
    assert fault_of(status, "why", None) is None


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
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry.retry_after(header, NOW) == seconds


DOWN, BUSY = Fault("refused", down=True), Fault("HTTP 429")


def fleet(servers: int = 3, outage: float = 100.0) -> tuple[Fleet, list[str]]:
    said: list[str] = []
    return Fleet([f"http://s{number}/v1" for number in range(servers)], outage, said.append), said


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
    servers.alive(1)
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
    servers, said = fleet(1)
    servers.fault(0, DOWN, 0.0)
    servers.alive(0)
    assert said == []  # one broken connection is no outage
    for now in range(5):
        servers.fault(0, DOWN, float(now))
    assert said == [
        "http://s0/v1: refused; asked again for up to 1.66667 minutes (--max_outage)"
    ]
    servers.alive(0)
    servers.alive(0)
    assert said[1:] == ["http://s0/v1 answers again"]
    servers.fault(0, DOWN, 50.0)
    servers.fault(0, DOWN, 51.0)
    assert len(said) == 3


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
    servers.alive(0)
    servers.fault(0, BUSY, 99.0)
    servers.fault(0, BUSY, 198.0)
    with pytest.raises(EngineDied, match="HTTP 429"):
        servers.fault(0, BUSY, 199.0)


def test_without_patience_the_first_fault_ends_the_run() -> None:
    servers, _ = fleet(1, 0.0)
    with pytest.raises(EngineDied):
        servers.fault(0, DOWN, 1.0)
