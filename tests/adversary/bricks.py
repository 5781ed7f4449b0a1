"""What lies are made of: ways to answer badly, and when to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

from adversary.liar import (
    CHUNKED,
    DONE,
    STREAM,
    Behaviour,
    Chunk,
    Received,
    Way,
    chunks,
    event,
    events,
    good,
    http_chunk,
)

MOST = 300 << 20  # bytes of what is meant to be endless
TICK = 0.2  # seconds between the bytes of a server that is alive and says nothing
BLOCK = 1 << 16


# Answers.


def raw(*parts: bytes) -> Behaviour:
    """These bytes, whatever was asked, and the end of the connection."""

    async def behave(received: Received, way: Way) -> None:
        await way.send(*parts)

    return behave


def http(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    async def behave(received: Received, way: Way) -> None:
        await way.whole(status, body, **headers)

    return behave


def error(status: int, message: str, **headers: str) -> Behaviour:
    body = json.dumps({"error": {"message": message, "code": status}}).encode()
    return http(status, body, Content_Type="application/json", **headers)


async def reset(received: Received, way: Way) -> None:
    way.reset()


def endless(head: bytes, unit: bytes) -> Behaviour:
    block = unit * max(1, BLOCK // len(unit))

    async def behave(received: Received, way: Way) -> None:
        await way.send(head)
        for _ in range(MOST // len(block)):
            await way.send(block)

    return behave


def trickle(head: bytes, unit: bytes) -> Behaviour:
    """The head, then the unit every fifth of a second for an hour; without a unit, nothing."""

    async def behave(received: Received, way: Way) -> None:
        await way.send(head)
        while True:
            await asyncio.sleep(TICK if unit else 3600)
            await way.send(unit)

    return behave


# A good reply, changed.


def wire(change: Callable[[list[bytes]], list[bytes]], **headers: str) -> Behaviour:
    """The events of a good reply, [DONE] among them, as bytes to be changed."""

    async def behave(received: Received, way: Way) -> None:
        await way.stream(*change(events(received.body["seed"])), **headers)

    return behave


def packets(change: Callable[[bytes], Iterator[bytes] | list[bytes]]) -> Behaviour:
    """All bytes of a good answer, HTTP head and all, as a function cuts them up."""

    async def behave(received: Received, way: Way) -> None:
        body = b"".join(map(http_chunk, events(received.body["seed"]))) + b"0\r\n\r\n"
        for piece in change(STREAM + CHUNKED + b"\r\n" + body):
            await way.send(piece)
            await asyncio.sleep(0)

    return behave


def headed(head: bytes, tail: bytes = b"") -> Behaviour:
    """A good body behind another HTTP head, not chunked, and something after it."""

    async def behave(received: Received, way: Way) -> None:
        body = b"".join(events(received.body["seed"]))
        await way.send(head.replace(b"LENGTH", b"%d" % len(body)), body, tail)

    return behave


def parsed(change: Callable[[list[Chunk]], list[Any]], ids: bool = True) -> Behaviour:
    """The JSON of a good reply's events, to be changed."""

    async def behave(received: Received, way: Way) -> None:
        changed = change(chunks(received.body["seed"], ids))
        await way.stream(*map(event, changed), DONE)

    return behave


def each(change: Callable[[Chunk], Any], ids: bool = True) -> Behaviour:
    """Every event's JSON, one by one."""
    return parsed(lambda all_of_them: [change(chunk) for chunk in all_of_them], ids)


def choice(ids: bool = True, **fields: object) -> Behaviour:
    """Fields of every choice."""

    def change(chunk: Chunk) -> Chunk:
        return {**chunk, "choices": [{**one, **fields} for one in chunk["choices"]]}

    return each(change, ids)


def finish(reason: object) -> Behaviour:
    """Another finish_reason at the end."""

    def change(chunk: Chunk) -> Chunk:
        for one in chunk["choices"]:
            if one["finish_reason"] is not None:
                one["finish_reason"] = reason
        return chunk

    return each(change)


def usage(value: object) -> Behaviour:
    return each(lambda chunk: {**chunk, "usage": value} if "usage" in chunk else chunk)


def unused(value: str) -> Behaviour:
    """JSON as it is written here, in a field that nobody reads."""

    def change(all_of_them: list[bytes]) -> list[bytes]:
        field = b'{"unused": ' + value.encode("utf-8", "surrogatepass") + b", "
        return [e.replace(b"{", field, 1) for e in all_of_them]

    return wire(change)


def says(text: str, ids: bool = False) -> Behaviour:
    """This text in front of a good reply's, with no token ids unless they are to contradict it."""

    def change(all_of_them: list[Chunk]) -> list[Chunk]:
        first = all_of_them[0]["choices"][0]
        first["text"] = text + first["text"]
        return all_of_them

    return parsed(change, ids)


def whole_json(indent: int | None = None, ids: bool = True, **more: object) -> Behaviour:
    """A server that ignores `stream`: the reply in one JSON body."""

    async def behave(received: Received, way: Way) -> None:
        *pieces, counted = chunks(received.body["seed"], ids)
        choices = [piece["choices"][0] for piece in pieces]
        one = {"index": 0, "text": "".join(c["text"] for c in choices), "finish_reason": "stop"}
        if ids:
            one["token_ids"] = [i for c in choices for i in c["token_ids"]]
        body = {"object": "text_completion", "choices": [one], "usage": counted["usage"], **more}
        await way.whole(
            200, json.dumps(body, indent=indent).encode(), Content_Type="application/json"
        )

    return behave


# When.


def once(lie: Behaviour) -> Behaviour:
    """Only the first time that a request is made."""

    async def behave(received: Received, way: Way) -> None:
        await (lie if received.again == 0 else good)(received, way)

    return behave


def one_problem(lie: Behaviour) -> Behaviour:
    async def behave(received: Received, way: Way) -> None:
        await (lie if "house 1?" in received.prompt else good)(received, way)

    return behave


def first_of_one_problem(lie: Behaviour) -> Behaviour:
    """Only to one problem's first rollout, each time; the others take their time meanwhile."""
    first: list[int] = []

    async def behave(received: Received, way: Way) -> None:
        seed = received.body["seed"]
        if "house 1?" in received.prompt and first in ([], [seed]):
            first[:] = [seed]
            return await lie(received, way)
        await asyncio.sleep(TICK)
        await good(received, way)

    return behave


def from_the(number: int, lie: Behaviour) -> Behaviour:
    """From the number-th request on, counted from 0."""

    async def behave(received: Received, way: Way) -> None:
        await (lie if received.number >= number else good)(received, way)

    return behave
