"""When a request is sent again, where to, and when a run gives up: without a clock or a network."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from kflow.engines.openai_engine import retry
from kflow.engines.openai_engine.retry import (
    Demand,
    Fault,
    Fleet,
    Next,
    Tries,
    Who,
    fault_of,
    pause,
)
from kflow.types import EngineDied

NOW = datetime(2025, 10, 21, 7, 28, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("statuses", "who", "flags"),
    [
        ([400, 405, 410, 413, 415, 422, 451], Who.REQUEST, set()),
        ([429], Who.SERVER, {"busy"}),
        ([408, 409, 425, 500], Who.SERVER, set()),
        ([502, 503, 504, 529, 999], Who.SERVER, {"down"}),
        ([401, 402, 403, 404, 407, 501, 204, 302, 307], Who.ACCOUNT, {"down"}),
    ],
)
def test_what_a_status_says_of_who_is_at_fault(
    statuses: list[int], who: Who, flags: set[str]
) -> None:
    for status in statuses:
        fault = fault_of(status, "why", 3.0)
        raised = {n for n in ("down", "busy", "broken") if getattr(fault, n)}
        assert (fault.who, raised, fault.status, str(fault)) == (who, flags, status, "why")
        assert fault.asked_pause == (3.0 if who is Who.SERVER else None)


@pytest.mark.parametrize(
    ("words", "who"),
    [
        ("HTTP 500: the request exceeds the available context size. try increasing", Who.REQUEST),
        ("HTTP 500: input (9 tokens) is larger than the max context size (8", Who.REQUEST),
        ("HTTP 500: Context size has been exceeded.", Who.SERVER),  # by all requests together
    ],
)
def test_a_prompt_without_room_is_no_fault_of_the_server(words: str, who: Who) -> None:
    fault = fault_of(500, words, None)
    assert fault.who is who
    assert ("lower --max_concurrency" in fault.words) == (who is Who.SERVER)


def test_a_fault_is_fit_to_be_shown_and_read_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-long-secret")
    fault = Fault("\x1b[31m sk-a-long-secret " + "x" * 1000)
    assert "sk-a-long-secret" in fault.words
    assert str(fault).startswith("\\x1b[31m *** xxx")
    assert len(str(fault)) == 600


def test_pauses_double_up_to_a_limit_and_are_as_long_as_a_server_asks() -> None:
    longest = [pause(faults, Fault(""), 1800, 1.0) for faults in (*range(1, 10), 10**9)]
    assert longest == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert [pause(faults, Fault(""), 1800, 0.0) for faults in (1, 9)] == [0.25, 15]
    waits = [(60.0, 0.0), (60.0, 1.0), (1e9, 1.0)]
    asked = [pause(1, Fault("", asked_pause=seconds), 1800, jitter) for seconds, jitter in waits]
    assert asked == [60.25, 60.5, 1800.5]


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
        ("1.5", None),
        ("٣", 3.0),
        ("²", None),
        ("Tue, 99 Oct 2025 99:28:30 GMT", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 251641355459.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry.retry_after(header, NOW) == seconds


DOWN, BUSY = Fault("refused", down=True), Fault("HTTP 429")
ASKS = Demand("run", 1, False, 100, 150)


def fleet(servers: int = 3, outage: float = 100.0) -> tuple[Fleet, list[str]]:
    lines: list[str] = []
    return Fleet([f"http://s{number}/v1" for number in range(servers)], outage, lines.append), lines


def fault(servers: Fleet, server: int, why: Fault, now: float, seconds: float = 1.0) -> None:
    servers.fault(server, why, now, seconds)


def test_chains_are_dealt_out_evenly_and_stay() -> None:
    servers, _ = fleet()
    chains = [(problem, seed) for seed in range(4) for problem in "abc"]
    dealt = [servers.choose(chain, 0.0) for chain in chains]
    assert sorted(dealt) == [0] * 4 + [1] * 4 + [2] * 4
    assert [servers.choose(chain, 9.0) for chain in reversed(chains)] == dealt[::-1]


def test_a_chain_moves_while_its_server_is_down_and_comes_back() -> None:
    servers, _ = fleet()
    assert [servers.choose(chain, 0.0) for chain in "abc"] == [0, 1, 2]
    fault(servers, 1, DOWN, 5.0)
    assert [servers.choose(chain, 6.0) for chain in "abc"] == [0, 2, 2]
    fault(servers, 2, DOWN, 6.0)
    assert [servers.choose(chain, 7.0) for chain in "abc"] == [0, 0, 0]
    servers.accept(1, ASKS, 7.0, 7.5)
    assert [servers.choose(chain, 8.0) for chain in "abc"] == [0, 1, 0]


def test_one_request_at_a_time_tries_a_server_that_was_down() -> None:
    servers, _ = fleet(2)
    assert [servers.choose(chain, 0.0) for chain in "ab"] == [0, 1]
    fault(servers, 0, DOWN, 0.0)
    again = retry.ASK_AGAIN
    assert servers.choose("a", again - 1) == 1
    assert [servers.choose("a", again) for _ in range(3)] == [0, 1, 1]
    assert [servers.choose("a", 2 * again) for _ in range(2)] == [0, 1]


def test_a_busy_server_keeps_its_chains_and_so_does_one_where_all_are_down() -> None:
    servers, _ = fleet(2)
    assert [servers.choose(chain, 0.0) for chain in "ab"] == [0, 1]
    fault(servers, 0, BUSY, 0.0)
    assert servers.choose("a", 1.0) == 0
    fault(servers, 0, DOWN, 0.0)
    fault(servers, 1, DOWN, 0.0)
    assert [servers.choose(chain, 1.0) for chain in "ab"] == [0, 1]


def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    servers, lines = fleet(1)
    fault(servers, 0, DOWN, 0.0)
    servers.accept(0, ASKS, 0.5, 0.6)
    assert lines == []  # one broken connection is no outage
    for now in range(5):
        fault(servers, 0, DOWN, float(now))
    (line,) = lines
    assert line == "http://s0/v1: refused; retrying for up to 1.66667 minutes (--max_outage)"
    assert servers.waits == "http://s0/v1: refused"
    servers.alive(0)  # a reply from before goes on
    assert len(lines) == 1
    servers.accept(0, ASKS, 6.0, 6.1)
    servers.accept(0, ASKS, 6.0, 6.1)
    assert lines[1:] == ["http://s0/v1 answers again"]


def test_a_server_that_breaks_replies_off_answers_again_with_a_whole_one() -> None:
    servers, lines = fleet(1)
    for now in range(4):
        servers.accept(0, ASKS, now, now + 0.1)
        fault(servers, 0, Fault("cut", broken=True), now + 0.2, 5.0)
    assert [line.partition(";")[0] for line in lines] == ["http://s0/v1: cut"]
    servers.complete(0)
    servers.accept(0, ASKS, 6.0, 6.1)
    servers.complete(0)
    assert lines[1:] == ["http://s0/v1 answers again"]
    assert servers.waits is None


def test_a_long_pause_is_told_at_once_and_a_busy_servers_once_a_minute() -> None:
    servers, lines = fleet(1)
    busy = fault_of(429, "HTTP 429", 20.0)
    fault(servers, 0, busy, 0.0, 20.3)
    assert lines == [
        "http://s0/v1: HTTP 429; asked again in 20 seconds, retrying for up to 1.66667 minutes "
        "(--max_outage)"
    ]
    for now in (20.0, 40.0):
        servers.accept(0, ASKS, now, now)
        fault(servers, 0, busy, now, 20.3)
    assert len(lines) == 1
    fault(servers, 0, busy, 61.0, 20.3)
    assert len(lines) == 2


def test_the_run_ends_when_no_server_has_answered_for_too_long() -> None:
    servers, _ = fleet(2)
    fault(servers, 0, DOWN, 0.0)
    fault(servers, 0, DOWN, 500.0)  # the other one may be well
    fault(servers, 1, DOWN, 500.0)
    fault(servers, 0, DOWN, 599.0)
    with pytest.raises(EngineDied, match=r"^No server has answered for .* was http://s1/v1: re"):
        fault(servers, 1, DOWN, 600.0)


def test_any_sign_of_life_begins_the_wait_anew() -> None:
    servers, _ = fleet(1)
    fault(servers, 0, BUSY, 0.0)
    servers.alive(0)
    fault(servers, 0, BUSY, 99.0)
    fault(servers, 0, BUSY, 198.0)
    with pytest.raises(EngineDied, match="HTTP 429"):
        fault(servers, 0, BUSY, 199.0)


def test_an_account_never_counts_as_an_outage() -> None:
    servers, _ = fleet(1, 10.0)
    for now in range(0, 100, 5):
        fault(servers, 0, fault_of(402, "no credit", None), float(now))


def test_a_request_that_was_refused_goes_to_the_next_server() -> None:
    servers, _ = fleet(3)
    assert [servers.choose("a", 0.0, refused) for refused in range(4)] == [0, 1, 2, 0]


REFUSED, BROKEN = Fault("HTTP 400: no", Who.REQUEST, status=400), Fault("closed", broken=True)


def trials(attempts: Tries, servers: Fleet, why: Fault, *times: float, to: int = 0) -> list[Next]:
    """What follows a fault at each time, of requests that were sent a moment before."""
    return [attempts.fault(to, why, now - 0.1, now, servers) for now in times]


@pytest.mark.parametrize(
    ("other", "covers"),
    [
        (ASKS, True),
        (ASKS._replace(step=2, budget=101, whole=200), True),
        (ASKS._replace(budget=99), False),
        (ASKS._replace(whole=149), False),
        (ASKS._replace(step=0), False),
        (ASKS._replace(constrained=True), False),
        (ASKS._replace(run="canary"), False),
    ],
)
def test_only_a_rollout_that_asks_as_much_shows_whose_a_refusal_is(
    other: Demand, covers: bool
) -> None:
    attempts, (servers, _) = Tries(ASKS, 100.0), fleet(1)
    assert trials(attempts, servers, REFUSED, 5.0) == [Next.AGAIN]
    servers.accept(0, other, 6.0, 6.5)
    assert trials(attempts, servers, REFUSED, 8.0) == [Next.FAILED if covers else Next.AGAIN]


def test_a_refusal_is_final_only_by_what_was_accepted_between_two_of_them() -> None:
    attempts, (servers, _) = Tries(ASKS, 100.0), fleet(1)
    servers.accept(0, ASKS, 3.0, 4.0)
    assert trials(attempts, servers, REFUSED, 5.0) == [Next.AGAIN]
    # Accepted since then, but sent before: it may have passed before what refuses now was there.
    servers.accept(0, ASKS, 4.9, 5.5)
    assert trials(attempts, servers, REFUSED, 6.0) == [Next.AGAIN]
    # Accepted only after this one was sent: what refused may be gone by now.
    servers.accept(0, ASKS, 6.5, 6.95)
    assert trials(attempts, servers, REFUSED, 7.0) == [Next.AGAIN]
    assert trials(attempts, servers, REFUSED, 8.0) == [Next.FAILED]


def test_a_refusal_of_one_server_says_nothing_of_another() -> None:
    attempts, (servers, _) = Tries(ASKS, 100.0), fleet(2)
    assert trials(attempts, servers, REFUSED, 5.0) == [Next.AGAIN]
    servers.accept(1, ASKS, 5.5, 5.6)
    assert trials(attempts, servers, REFUSED, 6.0, to=1) == [Next.AGAIN]
    assert attempts.refused == 2
    assert trials(attempts, servers, REFUSED, 7.0) == [Next.ASIDE]
    servers.accept(1, ASKS, 7.5, 7.6)
    assert attempts.may_pass(servers)
    assert trials(attempts, servers, REFUSED, 8.0, to=1) == [Next.FAILED]


def test_an_account_is_tried_three_times_at_the_start_and_for_a_while_later() -> None:
    unpaid = fault_of(402, "no credit", None)
    attempts, (servers, _) = Tries(ASKS, 1e6), fleet(1)
    assert trials(attempts, servers, unpaid, 0.0, 1.0, 2.0) == [Next.AGAIN, Next.AGAIN, Next.ASIDE]
    assert not attempts.may_pass(servers)
    servers.accept(0, ASKS._replace(budget=1), 0.0, 3.0)
    assert attempts.may_pass(servers)
    assert trials(attempts, servers, unpaid, 20.0, 39.0) == [Next.AGAIN] * 2
    assert trials(attempts, servers, unpaid, retry.ACCOUNT_PATIENCE) == [Next.OPEN]


@pytest.mark.parametrize("why", [DOWN, Fault("HTTP 500")])
def test_a_request_is_left_open_after_the_outage(why: Fault) -> None:
    attempts, (servers, _) = Tries(ASKS, 60.0), fleet(1)
    assert trials(attempts, servers, why, 3.0, 40.0, 62.9, 63.0) == [Next.AGAIN] * 3 + [Next.OPEN]
    assert str(attempts.last) == f"{why} (retried for 1 minutes (--max_outage))"


def test_the_wait_begins_anew_after_a_part_of_a_reply_but_not_for_ever() -> None:
    attempts, (servers, _) = Tries(ASKS, 60.0), fleet(1)
    for time in range(0, 100 * (retry.MOST_BROKEN - 1), 100):
        assert trials(attempts, servers, BROKEN, float(time)) == [Next.AGAIN]
        assert attempts.faults == 1
        assert trials(attempts, servers, DOWN, time + 59.0) == [Next.AGAIN]
    assert trials(attempts, servers, BROKEN, 9999.0) == [Next.OPEN]
    assert str(attempts.last) == "closed (8 times)"


def test_a_busy_server_is_waited_for_as_long_as_it_works_for_others() -> None:
    attempts, (servers, _), busy = Tries(ASKS, 60.0), fleet(1), fault_of(429, "later", None)
    assert trials(attempts, servers, busy, *(1000.0 * n for n in range(9))) == [Next.AGAIN] * 9
    assert trials(attempts, servers, DOWN, 9000.0) == [Next.AGAIN]
    assert trials(attempts, servers, busy, 9060.0) == [Next.OPEN]
