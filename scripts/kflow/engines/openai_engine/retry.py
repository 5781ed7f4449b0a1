"""When a request is sent again, where to, and when to stop: rules without a clock or a network.

Who is at fault decides. *The request*: only where the same server refuses it again after accepting,
in between, another rollout of this run that asks at least as much. A test request could not show
that: it would lack exactly what was refused. *The account or the
configuration* (a key, credit, a path, a model's name): a few tries, never on record. *The server*:
everything else, asked again within --max_outage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NamedTuple

from kflow.ground.redaction import masked_words
from kflow.ground.terminal import printable
from kflow.types import Completion, EngineDied, Key, Request

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
TRIES = 3  # of a request that is refused, or whose account is
ACCOUNT_PAUSE, ACCOUNT_PATIENCE = 8.0, 40.0  # seconds: the longest pause, and in all, in mid-run
ASK_AGAIN = 10.0  # seconds after which one request tries a server that was down
MOST_BROKEN = 8  # replies to one request that broke off in the middle until it is left alone
TELL_AFTER, TELL_EVERY = 3.0, 60.0  # seconds: of a pause that is told, between two such lines
LONGEST_SHOWN = 600  # characters of a fault
# A prompt that has no room, in the words of a refusal that by its status is the server's own fault
# or none: llama.cpp has sent it with 500 and with 200.
TOO_LONG = re.compile(
    r"exceed_context_size|context_length_exceeded|maximum context length"
    r"|(exceeds?|larger than) (the )?((available|max|maximum|model's) )*context",
    re.I,
)
# That requests in flight have no room together: slots of llama.cpp may share it.
TOGETHER = re.compile(r"context size has been exceeded", re.I)
# That there is no credit left, or never room for such a request, whatever the status.
USED_UP = re.compile(
    rb"insufficient_?quota|exceeded_current_quota|insufficient[ _]balance|request too large", re.I
)
NEVER = float("-inf")  # as a time that has passed


class Who(Enum):
    """Whose fault it may be that a request was not answered."""

    REQUEST = "request"
    ACCOUNT = "account"
    SERVER = "server"


@dataclass(eq=False)
class Fault(Exception):
    """A request was not answered; as a string fit to be shown."""

    words: str  # why, in one clause, as the server put it
    who: Who = Who.SERVER
    _: KW_ONLY
    status: int = 0  # of HTTP, 0 without one
    asked_pause: float | None = None  # seconds the server asks to wait
    down: bool = False  # other requests would fare the same
    busy: bool = False  # the server works, and has no room
    broken: bool = False  # the reply had begun
    reply: Completion | None = None  # one without text, which was counted and charged

    def __str__(self) -> str:
        return printable(masked_words(self.words))[:LONGEST_SHOWN]


def fault_of(status: int, words: str, asked_pause: float | None, body: bytes = b"") -> Fault:
    """What an HTTP status other than 200 means. body: what came with it."""
    used_up = USED_UP.search(body) is not None
    if status == 429 and not used_up:
        return Fault(words, status=status, asked_pause=asked_pause, busy=True)
    if status == 500 and TOO_LONG.search(words):
        return Fault(words, Who.REQUEST, status=status)
    if status in (408, 409, 425, 500):
        return Fault(advised(words), status=status, asked_pause=asked_pause)
    # A key, credit, a model or path that is not there, a redirect, a server without this API.
    if status in (401, 402, 403, 404, 407, 429, 501) or status < 400 or (used_up and status < 500):
        return Fault(words, Who.ACCOUNT, status=status, down=True)
    if status >= 500:
        return Fault(words, status=status, asked_pause=asked_pause, down=True)
    return Fault(words, Who.REQUEST, status=status)


def advised(words: str) -> str:
    """What a server says, with what helps where it would be said again and again."""
    if not TOGETHER.search(words):
        return words
    return f"{words}; if requests share its context, lower --max_concurrency"


def pause(faults: int, fault: Fault, longest: float, jitter: float) -> float:
    """Seconds before a request is sent again after its faults-th fault: doubling, at least what
    the server asks for, but no more than `longest`. jitter: 0 to 1, a fresh random number."""
    limit = LONGEST_PAUSE if fault.who is Who.SERVER else ACCOUNT_PAUSE
    doubled = min(limit, FIRST_PAUSE * 2.0 ** min(faults - 1, 30)) * (0.5 + jitter / 2)
    asked = fault.asked_pause
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


class Demand(NamedTuple):
    """What a request asks of a server; lengths in tokens."""

    run: str
    step: int  # of its chain
    constrained: bool  # to a regular expression
    budget: int  # of its reply
    whole: int  # prompt and budget

    @classmethod
    def of(cls, request: Request) -> Demand:
        key, budget = request.key, request.max_tokens
        whole = len(request.prompt_ids) + budget
        return cls(key.run, key.step, request.pattern is not None, budget, whole)

    def covers(self, other: Demand) -> bool:
        """Whether a server that takes this request has no reason of its own to refuse the other:
        same fields, at least as long, and a step at least as far, so that what refuses a whole step
        is not laid at the door of one rollout after another."""
        alike = (self.run, self.constrained) == (other.run, other.constrained)
        as_long = self.budget >= other.budget and self.whole >= other.whole
        return alike and as_long and self.step >= other.step


class Next(Enum):
    """What becomes of a request after a fault."""

    AGAIN = "again"
    ASIDE = "aside"  # left alone until another one is accepted, or nothing else is in flight
    FAILED = "failed"  # it can never be answered, which goes on record
    OPEN = "open"  # the next start of the run asks it


class Tries:
    """What became of one request so far; times in seconds.

    faults: since there was last something of a reply, for the pause. refused: how often it was
    refused, for choosing another server. last: the last fault. empty: replies without text.
    """

    def __init__(self, asks: Demand, max_outage: float) -> None:
        self._asks, self._max_outage = asks, max_outage
        self._since: float | None = None
        self._since_account: float | None = None
        self._first_refused: dict[int, float] = {}
        self._broken = self._account = self.faults = self.refused = 0
        self.last = Fault("")
        self.empty: list[Completion] = []

    def charged(self, reply: Completion) -> Completion:
        """The reply, with what the empty ones before it have cost besides."""
        costs = [each.cost for each in (*self.empty, reply) if each.cost is not None]
        return replace(reply, cost=sum(costs) if costs else None)

    def ended(self, key: Key, why: str, final: bool) -> Completion:
        """No reply, for good or for now. One without text was counted and charged."""
        if not final:
            return Completion(key, unanswered=why)
        last = self.empty.pop() if self.empty else Completion(key)
        return replace(self.charged(last), text="", failure=why)

    def fault(self, server: int, fault: Fault, sent: float, now: float, fleet: Fleet) -> Next:
        """sent: when the request was that came to this fault."""
        self.last = fault
        self.empty += [fault.reply] if fault.reply else []
        if fault.broken:
            self._since = self._since_account = None
            self._account = self.faults = 0
            self._broken += 1
        self.faults += 1
        if fault.who is Who.ACCOUNT:
            return self._unpaid(now, fleet)
        if fault.who is Who.SERVER:
            return self._unserved(now)
        self.refused += 1
        since = self._first_refused.setdefault(server, now)
        if fleet.has_accepted(server, self._asks, since, sent):
            return Next.FAILED
        return Next.ASIDE if self.refused >= TRIES and not self.may_pass(fleet) else Next.AGAIN

    def _unpaid(self, now: float, fleet: Fleet) -> Next:
        self._account += 1
        self._since_account = now if self._since_account is None else self._since_account
        if self._account < TRIES:
            return Next.AGAIN
        if not fleet.begun:
            return Next.ASIDE
        return Next.OPEN if now - self._since_account >= ACCOUNT_PATIENCE else Next.AGAIN

    def _unserved(self, now: float) -> Next:
        if self._since is None and not self.last.busy:
            self._since = now
        if self._broken >= MOST_BROKEN:
            tried = f"{self._broken} times"
        elif self._since is not None and now - self._since >= self._max_outage:
            tried = f"retried for {minutes(self._max_outage)}"
        else:
            return Next.AGAIN
        self.last = Fault(f"{self.last.words} ({tried})")
        return Next.OPEN

    def may_pass(self, fleet: Fleet) -> bool:
        """Whether a request that was set aside is worth another try: where the account was at
        fault, once any request was accepted; where it was refused, once one like it was."""
        if self.last.who is Who.ACCOUNT:
            return fleet.begun
        refused = self._first_refused.items()
        return any(fleet.has_accepted(server, self._asks, since) for server, since in refused)


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


def balance(homes: Mapping[object, int], servers: Sequence[int]) -> dict[object, int]:
    """The servers of chains, evenly among these servers; as few chains move as that takes."""
    chains: dict[int, list[object]] = {server: [] for server in servers}
    moving: list[object] = []
    for chain, home in homes.items():
        chains.get(home, moving).append(chain)
    least, more = divmod(len(homes), len(servers))
    fullest = sorted(servers, key=lambda server: -len(chains[server]))
    shares = {server: least + (place < more) for place, server in enumerate(fullest)}
    for server, share in shares.items():
        moving += chains[server][share:]
        del chains[server][share:]
    for server, share in shares.items():
        lacking = share - len(chains[server])
        chains[server] += moving[:lacking]
        del moving[:lacking]
    return {chain: server for server, those in chains.items() for chain in those}


@dataclass
class Member:
    """A server of a fleet; times in seconds."""

    name: str
    silent_since: float | None = None  # its first fault without a sign of life since
    try_at: float | None = None  # when one request may try it again; None: it is up
    waits: str = ""  # what is waited for
    quiet_until: float = NEVER  # until when no more is said of that
    # When requests were sent that were accepted, when they were, and what they ask.
    accepted: list[tuple[float, float, Demand]] = field(default_factory=list)
    breaks: bool = False  # it has broken a reply off, and ended none since
    gone: bool = False  # it gets no further requests


class Fleet:
    """Which server a chain goes to, what each has accepted, and since when none has answered; times
    in seconds.

    names: of the servers, for messages. say: is called when a server stops answering, when it
    answers again, and of long pauses. homes: the servers of chains; others are dealt out in turn.
    begun: whether any has begun to answer a rollout in this start of the program.
    """

    def __init__(
        self,
        names: Sequence[str],
        max_outage: float,
        say: Callable[[str], None],
        homes: Mapping[object, int] | None = None,
    ) -> None:
        self._max_outage, self._say = max_outage, say
        self._homes = dict(homes or {})
        self._members = [Member(name) for name in names]
        self.begun = False

    @property
    def waits(self) -> str | None:
        """What is waited for and why, None while all servers answer."""
        return next((member.waits for member in self._members if member.waits), None)

    @property
    def _present(self) -> list[int]:
        return [number for number, member in enumerate(self._members) if not member.gone]

    def add(self, name: str) -> None:
        """A server takes part from now on, with its share of the chains."""
        self._members.append(Member(name))
        self._homes = balance(self._homes, self._present)

    def remove(self, server: int) -> None:
        """A server gets no further requests; its chains go to the others."""
        member = self._members[server]
        member.gone, member.waits, member.quiet_until = True, "", NEVER
        self._homes = balance(self._homes, self._present)

    def choose(self, chain: object, now: float, refused: int = 0) -> int:
        """A chain's own server, where it has its prefix cache, or the next one that is up. A server
        that was down is tried by one request at a time. A request that was refused goes to the
        next server each time."""
        present = self._present
        home = self._homes.setdefault(chain, present[len(self._homes) % len(present)])
        first = present.index(home) + refused
        turn = [present[(first + further) % len(present)] for further in range(len(present))]
        for server in turn:
            member = self._members[server]
            if member.try_at is None:
                return server
            if now >= member.try_at:
                member.try_at = now + ASK_AGAIN
                return server
        return turn[0]

    def has_accepted(
        self, server: int, asks: Demand, since: float, until: float = float("inf")
    ) -> bool:
        """Whether a server has begun, before a time, to answer a request that was sent after
        another time and asks at least as much."""
        return any(
            sent > since and at <= until and other.covers(asks)
            for sent, at, other in self._members[server].accepted
        )

    def fault(self, server: int, fault: Fault, now: float, seconds: float) -> None:
        """A server did not answer; seconds: the pause that follows. Raises EngineDied when none has
        shown a sign of life for max_outage."""
        member = self._members[server]
        if member.gone:  # the request goes to another one
            return
        silent = member.silent_since is not None
        if not silent:
            member.silent_since = now
        if silent or seconds > TELL_AFTER:
            self._tell(member, fault, now, seconds)
        if fault.down:
            member.try_at = now + ASK_AGAIN
        member.breaks = member.breaks or fault.broken
        since = [self._members[number].silent_since for number in self._present]
        last_sign = max(float("inf") if begun is None else begun for begun in since)
        if fault.who is Who.SERVER and now - last_sign >= self._max_outage:
            raise EngineDied(
                f"No server has answered for {minutes(self._max_outage)}; the last one tried was "
                f"{member.name}: {fault}"
            )

    def _tell(self, member: Member, fault: Fault, now: float, seconds: float) -> None:
        """Say what is waited for: of an outage once, of a server that is busy once in a while."""
        account = fault.who is Who.ACCOUNT
        most = f"{ACCOUNT_PATIENCE:g} seconds" if account else minutes(self._max_outage)
        wait = f"asked again in {seconds:.0f} seconds, " if seconds > TELL_AFTER else ""
        member.waits = f"{member.name}: {fault}"
        if now >= member.quiet_until:
            member.quiet_until = now + TELL_EVERY if fault.busy else float("inf")
            self._say(f"{member.waits}; {wait}retrying for up to {most}")

    def alive(self, server: int) -> None:
        """Something of a reply came from a server."""
        self._members[server].silent_since = None

    def accept(self, server: int, asks: Demand, sent: float, now: float) -> None:
        """A server has begun to answer a request that was sent at a time."""
        member = self._members[server]
        member.accepted.append((sent, now, asks))
        self.begun = True
        member.silent_since = member.try_at = None
        if not member.breaks:
            self._answers(member)

    def complete(self, server: int) -> None:
        """A whole reply came from a server."""
        member = self._members[server]
        member.breaks = False
        self._answers(member)

    def _answers(self, member: Member) -> None:
        member.waits = ""
        if member.quiet_until == float("inf"):
            member.quiet_until = NEVER
            self._say(f"{member.name} answers again")


def minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes (--max_outage)"
