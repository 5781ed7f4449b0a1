"""When a request is sent again, where to, and when to stop: rules without a clock or a network.

A server's refusal of a request proves nothing about the request: a gateway, a portal or a server
that is starting refuses everything. So it counts as the request's own only when the same server
refuses the request again after it accepted another one that was sent in between. Everything else
is the server's fault, and asked again within --max_outage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import NamedTuple

from kflow.types import EngineDied, Key

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
ASK_AGAIN = 10.0  # seconds after which one request tries a server that was down
MOST_BROKEN = 8  # replies to one request that broke off in the middle until it is left alone


class Fault(Exception):
    """A request was not answered; one clause for a message.

    asked_pause: seconds the server asks to wait. down: other requests would fare the same.
    rejects: it may be the request itself that the server cannot answer. busy: the server works,
    and has no room. broken: the reply had begun.
    """

    def __init__(
        self,
        why: str,
        asked_pause: float | None = None,
        *,
        down: bool = False,
        rejects: bool = False,
        busy: bool = False,
        broken: bool = False,
    ) -> None:
        super().__init__(why)
        self.asked_pause, self.down, self.rejects = asked_pause, down, rejects
        self.busy, self.broken = busy, broken


def fault_of(status: int, why: str, asked_pause: float | None) -> Fault:
    """What an HTTP status other than 200 means."""
    if status == 429:
        return Fault(why, asked_pause, busy=True)
    if status in (408, 409, 425, 500):
        return Fault(why, asked_pause)
    # A wrong key, a missing model, a redirect: wrong of the server as a whole, not of a request.
    if status >= 500 or status in (401, 403, 404, 407) or status < 400:
        return Fault(why, asked_pause, down=True)
    return Fault(why, asked_pause, rejects=True)


def pause(faults: int, asked: float | None, longest: float, jitter: float) -> float:
    """Seconds before a request is sent again after its faults-th fault: doubling, at least what
    the server asks for, but no more than `longest`. jitter: 0 to 1, a fresh random number."""
    doubled = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(faults - 1, 30)) * (0.5 + jitter / 2)
    return doubled if asked is None else min(asked, longest) + doubled


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for: a number of them, or a date (RFC 9110); None
    for anything else."""
    if header is None:
        return None
    try:
        if header.strip().isdecimal():
            return float(header.strip()[:9])
        date = parsedate_to_datetime(header)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or timezone.utc) - now).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


class Verdict(NamedTuple):
    """Why a request is not asked again. final: it can never be answered; else the next start of
    the run asks it."""

    why: str
    final: bool


class Attempts:
    """What became of one request so far; times in seconds.

    faults: since there was last something of a reply, for the pause. rejected: how often a server
    refused it, for choosing another one.
    """

    def __init__(self, max_outage: float) -> None:
        self._max_outage = max_outage
        self._since: float | None = None
        self._first_rejected: dict[int, float] = {}
        self._broken = self.faults = self.rejected = 0

    def fault(self, server: int, fault: Fault, now: float, accepted: float) -> Verdict | None:
        """None: to be asked again. accepted: when the last request was sent that this server had
        begun to answer before it was asked this one."""
        if fault.broken:
            self._since, self.faults = None, 0
            self._broken += 1
        self.faults += 1
        if fault.rejects:
            self.rejected += 1
            if accepted > self._first_rejected.setdefault(server, now):
                return Verdict(str(fault), final=True)
        if self._since is None and not fault.busy:
            self._since = now
        if self._broken >= MOST_BROKEN:
            return Verdict(f"{fault} ({self._broken} times)", final=False)
        if self._since is not None and now - self._since >= self._max_outage:
            return Verdict(f"{fault} (retried for {minutes(self._max_outage)})", final=False)
        return None


def chain_of(key: Key) -> object:
    """What a request is a part of: the requests of a chain go to one server."""
    return key.run, key.problem, key.seed


def deal(chains: Sequence[Key], servers: int) -> dict[object, int]:
    """A server for each chain, the same number of chains for each of them: a problem's chains go to
    one as far as that allows, since they share beginnings of prompts and drafts, and problems that
    follow each other in the data set, where they often grow harder, to different ones."""
    order = {problem: n for n, problem in enumerate(dict.fromkeys(key.problem for key in chains))}
    together = sorted(chains, key=lambda key: (order[key.problem] % servers, order[key.problem]))
    return {chain_of(key): n * servers // len(together) for n, key in enumerate(together)}


class Fleet:
    """Which server a chain goes to, and since when none has answered; times in seconds.

    names: of the servers, for messages. say: is called once when a server stops answering and
    once when it answers again. homes: the servers of chains; others are dealt out in turn.
    """

    def __init__(
        self,
        names: Sequence[str],
        max_outage: float,
        say: Callable[[str], None],
        homes: Mapping[object, int] = MappingProxyType({}),
    ) -> None:
        self._names, self._max_outage, self._say = names, max_outage, say
        self._homes = dict(homes)
        # Per server: when its first fault without a sign of life since was, when one request may
        # try it again (None: it is up), whether its silence was reported.
        self._silent_since: list[float | None] = [None] * len(names)
        self._try_at: list[float | None] = [None] * len(names)
        self._reported = [False] * len(names)
        self._accepted = [float("-inf")] * len(names)

    def choose(self, chain: object, now: float, rejected: int = 0) -> int:
        """A chain's own server, where it has its prefix cache, or the next one that is up. A server
        that was down is tried by one request at a time. A request that was rejected goes to the
        next server each time."""
        home = self._homes.setdefault(chain, len(self._homes) % len(self._names)) + rejected
        for further in range(len(self._names)):
            server = (home + further) % len(self._names)
            at = self._try_at[server]
            if at is None:
                return server
            if now >= at:
                self._try_at[server] = now + ASK_AGAIN
                return server
        return home % len(self._names)

    def accepted(self, server: int) -> float:
        """When the last request was sent that this server has begun to answer."""
        return self._accepted[server]

    def fault(self, server: int, fault: Fault, now: float) -> None:
        """Raises EngineDied when no server has shown a sign of life for max_outage."""
        since = self._silent_since[server]
        if since is None:
            self._silent_since[server] = now
        elif not self._reported[server]:
            self._reported[server] = True
            self._say(
                f"{self._names[server]}: {fault}; retrying for up to {minutes(self._max_outage)}"
            )
        if fault.down:
            self._try_at[server] = now + ASK_AGAIN
        silences = [now - since for since in self._silent_since if since is not None]
        if len(silences) == len(self._names) and min(silences) >= self._max_outage:
            raise EngineDied(
                f"No server has answered for {minutes(self._max_outage)}, "
                f"{self._names[server]} last: {fault}"
            )

    def alive(self, server: int, sent: float | None) -> None:
        """Something of a reply came from a server. sent: when its request was, if what came is
        text."""
        if sent is not None:
            self._accepted[server] = max(sent, self._accepted[server])
        if self._silent_since[server] is not None or self._try_at[server] is not None:
            self._silent_since[server] = self._try_at[server] = None
            if self._reported[server]:
                self._reported[server] = False
                self._say(f"{self._names[server]} answers again")


def minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes (--max_outage)"
