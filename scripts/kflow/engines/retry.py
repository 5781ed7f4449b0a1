"""When a request is sent again, where to, and when to stop: rules without a clock or a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from ..types import EngineDied

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
ASK_AGAIN = 10.0  # seconds after which one request tries a server that was down
OWN_FAULTS = 8  # faults of its own after which a request is given up while others succeed


class Fault(Exception):
    """A request was not answered, and may be if it is sent again; one clause for a message.

    asked_pause: seconds the server asks to wait. down: whether other requests would fare the
    same. own: whether the request itself may be what the server fails at.
    """

    def __init__(
        self, why: str, asked_pause: float | None = None, down: bool = False, own: bool = False
    ) -> None:
        super().__init__(why)
        self.asked_pause, self.down, self.own = asked_pause, down, own


def fault_of(status: int, why: str, asked_pause: float | None) -> Fault | None:
    """What an HTTP status other than 200 means; None: the request is wrong, and will stay so."""
    if status in (408, 409, 425, 429):
        return Fault(why, asked_pause)
    if status == 500:
        return Fault(why, asked_pause, own=True)
    # A wrong key, a missing model, a redirect: wrong of the server as a whole, not of a request.
    if status >= 500 or status in (401, 403, 404) or status < 400:
        return Fault(why, asked_pause, down=True)
    return None


def pause(faults: int, asked: float | None, longest: float, jitter: float) -> float:
    """Seconds before a request is sent again after its faults-th fault: doubling, at least what
    the server asks for, but no more than `longest`. jitter: 0 to 1, a fresh random number."""
    doubled = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(faults - 1, 30)) * (0.5 + jitter / 2)
    return doubled if asked is None else min(asked, longest) + doubled


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a number of them, or a date (RFC 9110)."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header.strip()[:9])
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, TypeError):
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or timezone.utc) - now).total_seconds())


class Fleet:
    """Which server a chain goes to, and since when none has answered; times in seconds.

    say: is told once when a server is away and once when it is back.
    """

    def __init__(self, urls: Sequence[str], max_outage: float, say: Callable[[str], None]) -> None:
        self._urls, self._max_outage, self._say = urls, max_outage, say
        self._homes: dict[object, int] = {}
        # Per server: when its first fault without a sign of life since was, when one request may
        # try it again (None: it is up), whether its absence was told.
        self._silent_since: list[float | None] = [None] * len(urls)
        self._try_at: list[float | None] = [None] * len(urls)
        self._told = [False] * len(urls)

    def choose(self, chain: object, now: float) -> int:
        """A chain's own server, where it has its prefix cache, or the next one that is up. Chains
        are dealt out in turn; a server that was down is tried by one request at a time."""
        home = self._homes.setdefault(chain, len(self._homes) % len(self._urls))
        for further in range(len(self._urls)):
            server = (home + further) % len(self._urls)
            at = self._try_at[server]
            if at is None:
                return server
            if now >= at:
                self._try_at[server] = now + ASK_AGAIN
                return server
        return home

    def fault(self, server: int, fault: Fault, now: float) -> None:
        """Raises EngineDied when no server has shown a sign of life for max_outage."""
        since = self._silent_since[server]
        if since is None:
            self._silent_since[server] = now
        elif not self._told[server]:
            self._told[server] = True
            minutes = f"{self._max_outage / 60:g} minutes (--max_outage)"
            self._say(f"{self._urls[server]} is away: {fault}; trying on for up to {minutes}")
        if fault.down:
            self._try_at[server] = now + ASK_AGAIN
        silences = [now - since for since in self._silent_since if since is not None]
        if len(silences) == len(self._urls) and min(silences) >= self._max_outage:
            raise EngineDied(
                f"No server has answered for {self._max_outage / 60:g} minutes (--max_outage), "
                f"{self._urls[server]} last: {fault}"
            )

    def alive(self, server: int) -> None:
        """Something came from a server."""
        if self._silent_since[server] is not None or self._try_at[server] is not None:
            self._silent_since[server] = self._try_at[server] = None
            if self._told[server]:
                self._told[server] = False
                self._say(f"{self._urls[server]} is back")
