"""One reply put together from what a server sends, which may be anything.

A stream is server-sent events (WHATWG HTML, 9.2) with a JSON object each, `[DONE]` in the last.
A server that ignores `stream` sends one JSON object instead; the first character tells. Events
are taken apart here and not by the official client, which builds a checked object of every one; a
reply has up to 100,000 of them (docs/how_it_works.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import msgspec
import orjson

from kflow.engines.openai_engine.retry import Fault

SLACK = 1 << 22  # bytes a reply may take whatever its budget: headers, an echo of the prompt
CHUNK = 2048  # bytes per token: one token of text in the JSON around it
LONGEST_EVENT = 1 << 24  # bytes
LONGEST_TOKEN = 256  # characters; vocabularies have single tokens for 128 spaces
FIELDS = (b":", b"data", b"event", b"id", b"retry")  # the lines of a stream of events begin so
BOM = b"\xef\xbb\xbf"
BROKEN_OFF = ("abort", "error")  # finish reasons of a server that stops, not of a reply that ends
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")  # of a reply's usage


class Malformed(Fault):
    """Not JSON, or not all of it."""


class Piece(NamedTuple):
    """What a choice adds to a reply. thought: reasoning that is sent beside the text. ids: token
    ids, not checked yet."""

    text: str
    thought: str = ""
    ids: object = None


def of_completion(choice: dict[str, Any], data: bytes) -> Piece:
    """A choice of /v1/completions. Raises Fault."""
    text = choice.get("text")
    if text is None and "text" in choice and choice.get("finish_reason"):
        text = ""  # the last event of some servers
    if not isinstance(text, str):
        raise Fault(f"a choice that has no text: {short(data)}")
    return Piece(text, ids=choice.get("token_ids"))


def of_chat(choice: dict[str, Any], data: bytes) -> Piece:
    """A choice of /v1/chat/completions, of a stream or whole. Some servers send reasoning by one of
    two names, some by both. Raises Fault."""
    message = choice.get("delta", choice.get("message", {}))
    if not isinstance(message, dict):
        raise Fault(f"a choice that has no message: {short(data)}")
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    text = message.get("content") or ""
    if not isinstance(text, str) or not isinstance(thought, str):
        raise Fault(f"a message that is not text: {short(data)}")
    return Piece(text, thought)


Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]


class Choice(msgspec.Struct, gc=False):
    text: str
    index: int | None = 0
    finish_reason: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    token_ids: list[Count] | None = None


class Event(msgspec.Struct, gc=False):
    """What nearly every event of /v1/completions is."""

    choices: Annotated[list[Choice], msgspec.Meta(min_length=1, max_length=1)]
    usage: None = None
    error: None = None


USUAL = msgspec.json.Decoder(list[Event])


class Streamed:
    """The text and, where every piece of it brings them, the token ids of one reply.

    max_tokens: the budget that was asked for; what cannot be meant to keep it is not read on.
    piece: (choice, the event it is in) -> what it adds. progress: characters and token ids so far;
    0 until a whole body is complete. has_text: more than whitespace is among them.
    `feed` and `end` raise Fault for whatever is no reply to what was asked.
    """

    def __init__(
        self, max_tokens: int, piece: Callable[[dict[str, Any], bytes], Piece] = of_completion
    ) -> None:
        self._max_tokens, self._added_by = max_tokens, piece
        self._bytes_left = SLACK + CHUNK * max_tokens
        self._feed = self._begin
        self._rest = bytearray()
        self._after_cr = False
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._characters = 0
        self._ids: list[int] | None = []
        self._counts: dict[str, int] = {}
        self.progress = 0
        self.has_text = False
        self.finish_reason: str | None = None
        self.done = False

    def feed(self, received: bytes) -> None:
        self._bytes_left -= len(received)
        if self._bytes_left < 0:
            raise Fault(f"more than {self._max_tokens} tokens can take")
        self._feed(received)

    def _begin(self, received: bytes) -> None:
        """Look at the first line, as far as it is there, to tell what is coming."""
        self._rest += received
        if len(self._rest) < len(BOM) and BOM.startswith(self._rest):
            return
        head = bytes(self._rest.removeprefix(BOM).lstrip())
        if head.startswith(b"{"):
            self._rest, self._feed = bytearray(head), self._whole
        elif head.startswith(FIELDS):
            self._rest, self._feed = bytearray(), self._events
            self._events(head)
        elif not any(field.startswith(head) for field in FIELDS):
            raise Fault(f"not an event stream: {short(head)}", down=True)

    def _whole(self, received: bytes) -> None:
        self._rest += received
        if len(self._rest) > LONGEST_EVENT:
            raise Fault(f"a reply of more than {LONGEST_EVENT} bytes in one piece")

    def _events(self, received: bytes) -> None:
        if self._after_cr or b"\r" in received:
            received = self._line_ends(received)
        searched = max(0, len(self._rest) - 1)
        self._rest += received
        if self._rest.find(b"\n\n", searched) < 0:
            if len(self._rest) > LONGEST_EVENT:
                raise Fault(f"an event of more than {LONGEST_EVENT} bytes")
            return
        *events, rest = bytes(self._rest).split(b"\n\n")
        self._rest = bytearray(rest)
        if self._usual(events):
            return
        for event in events:
            if self.done:
                return
            self._event(event)

    def _line_ends(self, received: bytes) -> bytes:
        """With every line end, CR or CR LF, as LF. A LF may follow in the next piece."""
        if self._after_cr:
            received = received.removeprefix(b"\n")
        self._after_cr = received.endswith(b"\r")
        return received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _event(self, event: bytes) -> None:
        if event.startswith(b"data: ") and b"\n" not in event:
            data = event[6:]
        else:
            lines = [line for line in event.split(b"\n") if line.startswith(b"data:")]
            data = b"\n".join(line[5:].removeprefix(b" ") for line in lines)
        if data.strip() == b"[DONE]":
            self.done = True
        elif data.strip():
            self._any(data)

    def _usual(self, events: list[bytes]) -> bool:
        """Decode, check and add all of them in one go; False, with nothing added, where one is not
        as usual."""
        if self.done or self._added_by is not of_completion:
            return False
        if not all(event.startswith(b"data: ") for event in events):
            return False
        joined = b",".join([event[6:] for event in events])
        if b"\n" in joined:
            return False
        try:
            decoded = USUAL.decode(b"[%b]" % joined)
        except ValueError:
            return False
        choices = [event.choices[0] for event in decoded]
        if len(choices) != len(events) or any(it.index or it.finish_reason for it in choices):
            return False
        ids: list[int] | None = []
        for choice in choices:
            if choice.token_ids is not None and ids is not None:
                ids += choice.token_ids
            elif choice.text:
                ids = None
        self._add("".join([choice.text for choice in choices]), "", ids, None)
        return True

    def _any(self, data: bytes) -> None:
        try:
            chunk = parsed(data)
        except ValueError:
            raise Malformed(f"malformed JSON: {short(data)}") from None
        if not isinstance(chunk, dict):
            raise Fault(f"not a JSON object: {short(data)}")
        if chunk.get("error"):
            # Its code does not tell whose fault it is: vLLM calls its own death in the middle of
            # a stream a bad request, and a request that is bad is refused before it.
            raise Fault(f"it sent an error: {short(data)}")
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._counts |= {name: usage[name] for name in COUNTS if is_count(usage.get(name))}
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            raise Fault(f"no list of choices: {short(data)}")
        if len(choices) > 1:
            raise Fault(f"{len(choices)} choices where one was asked for")
        for choice in choices:
            self._choice(choice, data)

    def _choice(self, choice: object, data: bytes) -> None:
        if not isinstance(choice, dict) or choice.get("index") not in (0, None):
            raise Fault(f"not the one choice asked for: {short(data)}")
        text, thought, ids = self._added_by(choice, data)
        if ids is not None and not (isinstance(ids, list) and all(map(is_count, ids))):
            raise Fault(f"malformed token_ids: {short(data)}")
        reason = choice.get("finish_reason")
        if reason and (not isinstance(reason, str) or len(reason) > 100):
            raise Fault(f"malformed finish_reason: {short(data)}")
        self._add(text, thought, ids, reason)

    def _add(self, text: str, thought: str, ids: list[int] | None, reason: str | None) -> None:
        if reason:
            if reason.lower() in BROKEN_OFF:
                raise Fault(f"it ended with finish_reason {reason}")
            self.finish_reason = reason
        self._texts.append(text)
        self._thoughts.append(thought)
        self._characters += len(text) + len(thought)
        if self._characters > LONGEST_TOKEN * (self._max_tokens + 1):
            raise Fault(f"more text than {self._max_tokens} tokens can hold")
        if ids is None:
            if text:
                self._ids = None
        elif self._ids is not None:
            self._ids += ids
            if len(self._ids) > self._max_tokens:
                raise Fault(f"more than the {self._max_tokens} tokens asked for")
        self.progress += len(text) + len(thought) + (len(ids) if ids else 0)
        self.has_text = self.has_text or bool(text.strip() or thought.strip())

    def end(self) -> None:
        """The connection was closed, or the last event is there. Raises Fault where the reply is
        not complete."""
        if self.finish_reason is not None:
            return
        rest = bytes(self._rest)
        with suppress(Malformed):  # truncated
            if self._feed == self._whole:
                self._any(rest)
            elif self._feed == self._events and not self.done:
                self._event(rest)
        if self.finish_reason is None:
            why = "no finish_reason" if self.done else "the connection was closed mid-reply"
            raise Fault(why, down=not self.progress)

    @property
    def text(self) -> str:
        return sound("".join(self._texts))

    @property
    def thought(self) -> str:
        """Reasoning that was sent beside the text, "" for none."""
        return sound("".join(self._thoughts))

    @property
    def ids(self) -> list[int] | None:
        """The token ids of the whole reply, None where the server did not give them all."""
        return self._ids or None

    @property
    def tokens(self) -> int | None:
        """So far; None where the server gives no ids."""
        return None if self._ids is None else len(self._ids)

    @property
    def used(self) -> int | None:
        """The number of tokens by the server's count, None where it gave none that can be."""
        used = self._counts.get("completion_tokens")
        return used if used is not None and used <= self._max_tokens else None

    @property
    def billed(self) -> tuple[int | None, int | None]:
        """The tokens of the prompt and of the reply by the server's count, reasoning that it only
        counts in the total among the latter; a reply's may exceed the budget where reasoning is
        no part of that. None where the server gave none."""
        prompt, reply, total = (self._counts.get(name) or None for name in COUNTS)  # 0: not counted
        if prompt is not None and reply is not None and total is not None:
            reply = max(reply, total - prompt)
        return prompt, reply


def parsed(data: bytes) -> object:
    """JSON, read leniently where it has to be: half a surrogate pair, NaN or bytes that are no
    UTF-8 in one field are no reason to lose the others. Raises ValueError."""
    try:
        return orjson.loads(data)
    except ValueError:
        try:
            return json.loads(data.decode("utf-8", "replace"))
        except RecursionError as error:
            raise ValueError(str(error)) from None


def sound(text: str) -> str:
    """The text with each surrogate without its other half, which no tokenizer or file takes,
    replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def short(data: bytes) -> str:
    """The beginning of what a server sent, for a message."""
    return data[:300].decode("utf-8", "replace")
