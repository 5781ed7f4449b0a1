"""The servers of a run as files list them, which may change while the run goes on.

A file is looked at again and again, and acted upon once it reads the same twice: it may be half
written. One that cannot be read, or lists nothing, changes nothing. A server that is listed anew
takes part once it has passed what every server is asked at the start; one that is listed no longer
gets no further requests.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kflow.engines.openai_engine.servers import (
    Needs,
    Reached,
    check_same_software,
    left_out,
    reached,
)
from kflow.flags import FROM_FILE, read_address
from kflow.ground.files import read_regular
from kflow.ground.streams import tell
from kflow.results.description import Server
from kflow.types import EngineDied, UserError

LOOK_EVERY = 5.0  # seconds
TRY_AGAIN = 30.0  # seconds, of a listed server that did not pass
LONGEST = 1 << 20  # bytes of a file
COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True)
class Listing:
    """What a file lists. faults: what is wrong with it, each a sentence without its end."""

    urls: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def parse(text: str, name: object) -> Listing:
    """The addresses in a file's text, one a line. A fault does not repeat its line: it may hold a
    password."""
    urls, faults = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if address := COMMENT.sub("", line).strip():
            try:
                urls.append(read_address(address))
            except ValueError as error:
                faults.append(f"line {number} of {name} {error}")
    if not urls and not faults:
        faults.append(f"{name} lists no server")
    return Listing(tuple(dict.fromkeys(urls)), tuple(faults))


def read(path: Path) -> Listing:
    """What a file lists. One that cannot be read lists nothing."""
    try:
        return parse(read_regular(path, LONGEST).decode("utf-8-sig"), path)
    except (OSError, ValueError) as error:
        return Listing((), (f"cannot read {path} ({getattr(error, 'strerror', None) or error})",))


@dataclass(frozen=True)
class Roster:
    """given: addresses that stay. files: what each file listed at the start."""

    given: tuple[str, ...]
    files: Mapping[Path, tuple[str, ...]]

    @classmethod
    def of(cls, base_url: Sequence[str]) -> Roster:
        """By the values of --base_url. Raises UserError for what is wrong with a file."""
        files = {}
        for name in (url[len(FROM_FILE) :] for url in base_url if url.startswith(FROM_FILE)):
            path = Path(os.path.expanduser(name))
            listing = read(path)
            if listing.faults:
                raise UserError(
                    f"{capitalized(listing.faults[0])}: give --base_url {FROM_FILE}FILE a file "
                    "with an address like http://HOST:PORT/v1 in each line."
                )
            files[path] = listing.urls
        return cls(tuple(url for url in base_url if not url.startswith(FROM_FILE)), files)

    @property
    def listed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(url for urls in self.files.values() for url in urls))


def capitalized(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


@dataclass
class Follower:
    """Follows a roster's files while a run goes on."""

    roster: Roster
    reached: Reached  # at the start
    needs: Needs
    join: Callable[[Server], Awaitable[None]]  # let a server take part
    leave: Callable[[str], None]  # and no longer
    spawn: Callable[[Coroutine[Any, Any, None]], None]  # start a task that ends with the engine

    def __post_init__(self) -> None:
        self._left_out = dict(self.reached.left_out)
        self._present = {server.url for server in self.reached.servers}
        # What each file listed when it last listed anything, and what was told of them all.
        self._urls = dict(self.roster.files)
        self._told: set[str] = set()
        self._trying: set[str] = set()

    async def follow(self) -> None:
        before: list[Listing] | None = None
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = [await asyncio.to_thread(read, file) for file in self.roster.files]
            if now == before:
                self.act(now)
            before = now

    def act(self, listings: Sequence[Listing]) -> None:
        """Make the servers that take part those that the files list."""
        faults = []
        for file, listing in zip(self.roster.files, listings, strict=True):
            stays = "that line is left out" if listing.urls else "its servers stay as they were"
            faults += [f"{capitalized(fault)}: {stays}." for fault in listing.faults]
            if listing.urls:
                self._urls[file] = listing.urls
        listed = self._listed
        for url in listed - self._present - self._trying:
            self._trying.add(url)
            self.spawn(self._try(url))
        gone = self._present - listed
        if gone and gone == self._present:
            faults.append(
                "None of the servers listed now takes part yet: the others stay until one does."
            )
        else:
            for url in gone:
                self._present.remove(url)
                self.leave(url)
        for fault in faults:
            if fault not in self._told:
                tell(fault)
        self._told = set(faults)

    @property
    def _listed(self) -> set[str]:
        return {*self.roster.given, *(url for urls in self._urls.values() for url in urls)}

    async def _try(self, url: str) -> None:
        """Ask a listed server what every server is asked, until it passes or is listed no
        longer."""
        while url in self._listed:
            # Of one that is tried again, all has been said.
            say = silence if url in self._left_out else tell
            try:
                server = await reached(url, self.needs, say)
                check_same_software(server, self.reached.servers)
            except (UserError, EngineDied) as error:
                if (why := left_out(url, error)) != self._left_out.get(url):
                    self._left_out[url] = why
                    tell(why)
                await asyncio.sleep(TRY_AGAIN)
                continue
            if url in self._listed:
                await self.join(server)
                self._present.add(url)
            break
        self._trying.discard(url)
        self._left_out.pop(url, None)


def silence(words: str) -> None: ...
