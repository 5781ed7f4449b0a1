"""One streamed completion put together, chunk by chunk, from a server that may send anything.

The stream is server-sent events: lines `data: {json}`, the last one `data: [DONE]`. Read here and
not by the official client, which builds a checked object of every chunk; a reply has up to
100,000 of them (benchmarks/README.md, "client.py").
"""

from __future__ import annotations

import orjson

from .retry import Fault

SLACK = 1 << 22  # bytes a stream may take whatever its budget: headers, an echo of the prompt
CHUNK = 2048  # bytes of the stream per token: one token of text in the JSON around it
OTHER_FIELDS = (b":", b"event:", b"id:", b"retry:")  # of a stream of events; comments keep it alive
LONGEST_TOKEN = 256  # characters; vocabularies have single tokens for 128 blanks


class Implausible(Exception):
    """What came is no answer to what was asked: one clause for the rollout's record."""


class Streamed:
    """The text and, where every chunk brings them, the token ids of one reply.

    max_tokens: the budget that was asked for; what cannot be meant to keep it is not read on.
    `feed` raises Implausible for what no server should send, Fault for an error sent as a chunk.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._bytes_left = SLACK + CHUNK * max_tokens
        self._rest = b""
        self._texts: list[str] = []
        self._characters = 0
        self._ids: list[int] | None = []
        self._used: int | None = None
        self.finish_reason: str | None = None
        self.done = False

    def feed(self, received: bytes) -> None:
        self._bytes_left -= len(received)
        if self._bytes_left < 0:
            raise Implausible(f"more than {self._max_tokens} tokens can take")
        *lines, self._rest = (self._rest + received).split(b"\n")
        if len(self._rest) > SLACK:  # put together from its pieces again and again
            raise Implausible(f"a line of more than {SLACK} bytes")
        for line in lines:
            if self.done:
                return
            if line.startswith(b"data:"):
                self._event(line[5:].strip())
            elif line.strip() and not line.startswith(OTHER_FIELDS):
                raise Implausible(f"no stream of events: {short(line)}")

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.done = True
            return
        try:
            chunk = orjson.loads(data)
        except ValueError:
            raise Implausible(f"no JSON: {short(data)}") from None
        if not isinstance(chunk, dict):
            raise Implausible(f"no JSON object: {short(data)}")
        if chunk.get("error"):
            # Its code does not tell whose fault it is: vLLM calls its own death in the middle of
            # a stream a bad request, and a request that is bad is refused before it.
            raise Fault(f"it broke off with {short(data)}", own=True)
        usage = chunk.get("usage")
        if isinstance(usage, dict) and is_count(usage.get("completion_tokens")):
            self._used = usage["completion_tokens"]
        choices = chunk.get("choices")
        if choices == [] and usage is not None:
            return
        if not isinstance(choices, list) or len(choices) != 1:
            number = len(choices) if isinstance(choices, list) else "no list of"
            raise Implausible(f"{number} choices where one was asked for")
        self._choice(choices[0], data)

    def _choice(self, choice: object, data: bytes) -> None:
        text = choice.get("text") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(text, str):
            raise Implausible(f"a choice without a text: {short(data)}")
        self._texts.append(text)
        self._characters += len(text)
        if self._characters > LONGEST_TOKEN * (self._max_tokens + 1):
            raise Implausible(f"more text than {self._max_tokens} tokens can hold")
        ids = choice.get("token_ids")
        if ids is None:
            if text:
                self._ids = None
        elif not isinstance(ids, list) or not all(map(is_count, ids)):
            raise Implausible(f"token ids that are none: {short(data)}")
        elif self._ids is not None:
            self._ids += ids
            if len(self._ids) > self._max_tokens:
                raise Implausible(f"more than the {self._max_tokens} tokens asked for")
        reason = choice.get("finish_reason")
        if reason is not None:
            if not isinstance(reason, str) or len(reason) > 100:
                raise Implausible(f"a finish_reason that is none: {short(data)}")
            if reason in ("abort", "error"):  # a server that stops, not a reply that ends
                raise Fault(f"it broke off with finish_reason {reason}", own=True)
            self.finish_reason = reason

    def end(self) -> None:
        """The stream is over. Raises Fault where it was cut off, Implausible where it ended
        without saying why the reply does."""
        if self.finish_reason is None:
            if self.done:
                raise Implausible("no finish_reason")
            if self._texts or not self._rest or self._rest.startswith((b"data", *OTHER_FIELDS)):
                raise Fault("the connection was closed in the middle of a reply", own=True)
            raise Implausible(f"no stream of events: {short(self._rest)}")

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def ids(self) -> list[int] | None:
        """The token ids of the whole reply, None where the server did not give them all."""
        return self._ids or None

    @property
    def used(self) -> int | None:
        """The number of tokens by the server's count, None where it gave none that can be."""
        return self._used if self._used is not None and self._used <= self._max_tokens else None


def is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def short(data: bytes) -> str:
    """The beginning of what a server sent, for a message."""
    return data[:300].decode("utf-8", "replace")
