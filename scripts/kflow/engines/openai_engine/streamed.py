"""One reply put together from what a server sends, which may be anything.

A stream is server-sent events (WHATWG HTML, 9.2) with a JSON object each, `[DONE]` in the last.
A server that ignores `stream` sends one JSON object instead; the first character tells. Fields,
events and parts that are unknown are passed over; what a reply is made of must have its type. The
official client is not used, since it builds a checked object of every event, and a reply has up to
100,000 of them: here all that a read brings is decoded in one go (tests/benchmarks/client.py).
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from kflow.engines.openai_engine.retry import TOO_LONG, Fault, Who, advised, fault_of
from kflow.ground.finish import broken_off
from kflow.ground.price import known

SLACK = 1 << 22  # bytes a reply may take whatever its budget: headers, an echo of the prompt
CHUNK = 2048  # bytes per token: one token of text in the JSON around it
LONGEST_EVENT = 1 << 24  # bytes of an event, or of a body in one piece
LONGEST_TOKEN = 256  # characters; vocabularies have single tokens for 128 spaces
FIELDS = (b":", b"data", b"event", b"id", b"retry")  # the lines of a stream of events begin so
BOM = b"\xef\xbb\xbf"
LONGEST_NAME = 100  # characters, of a provider
COMPARED = 200  # characters of a reply that its text and its token ids must share
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")  # of a reply's usage

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]


class Part(msgspec.Struct, gc=False):
    """A part of a message's content. thinking: text, or parts of it (Mistral)."""

    text: str | None = None
    thinking: str | list[Part] | None = None


class Delta(msgspec.Struct, gc=False):
    """What a choice of /v1/chat/completions adds. Some servers send reasoning by one of two names,
    some by both; in a form that is not text it is passed over."""

    content: str | list[Part] | None = None
    reasoning_content: Any = None
    reasoning: Any = None


class StreamedChoice(msgspec.Struct, gc=False):
    """text: of /v1/completions; delta, message: of chat completions, streamed or whole.
    native_finish_reason: a router's, of the host behind it."""

    index: int | None = None
    text: str | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    native_finish_reason: Any = None
    token_ids: list[Count] | None = None
    error: Any = None


class Event(msgspec.Struct, gc=False):
    choices: list[StreamedChoice] | None = None
    usage: Any = None
    error: Any = None
    object: Any = None
    model: Any = None
    provider: Any = None


EVENTS = msgspec.json.Decoder(list[Event | None])
ERROR = re.compile(rb"event: ?error\s*\n")


class Streamed:
    """The text and, where every piece of it brings them, the token ids of one reply.

    max_tokens: the budget that was asked for; what cannot be meant to keep it is not read on.
    chat: whether chat completions are read. model: its name by the server, "" where it says none.
    progress: characters and token ids so far; 0 until a whole body is complete. has_text: more than
    whitespace is among them. done: the stream has said that it is complete. cost, provider: as
    `Rollout` has them. `feed` and `end` raise Fault for whatever is no reply to what was asked.
    """

    def __init__(self, max_tokens: int, chat: bool = False) -> None:
        self._max_tokens, self._chat = max_tokens, chat
        self._bytes_left = SLACK + CHUNK * max_tokens
        self._feed = self._begin
        self._rest = bytearray()
        self._after_cr = False
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._ids: list[int] | None = []
        self._counts: dict[str, int] = {}
        self._index: int | None = None
        self.progress = 0
        self.has_text = False
        self.finish_reason: str | None = None
        self.done = False
        self.cost: float | None = None
        self.model = ""
        self.provider: str | None = None

    @property
    def begun(self) -> bool:
        """Whether what came is a stream of events, or the JSON of a reply in one piece."""
        return self._feed != self._begin

    def feed(self, received: bytes) -> None:
        self._bytes_left -= len(received)
        if self._bytes_left < 0:
            raise Fault(f"more bytes than {self._max_tokens} tokens can take")
        if not self.done:
            self._feed(received)
            if len(self._rest) > LONGEST_EVENT:
                raise Fault(f"more than {LONGEST_EVENT} bytes in one piece")

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

    def _events(self, received: bytes) -> None:
        if self._after_cr or b"\r" in received:
            received = self._line_ends(received)
        searched = max(0, len(self._rest) - 1)
        self._rest += received
        if self._rest.find(b"\n\n", searched) >= 0:
            *events, rest = bytes(self._rest).split(b"\n\n")
            self._rest = bytearray(rest)
            self._take(events)

    def _line_ends(self, received: bytes) -> bytes:
        """With every line end, CR or CR LF, as LF. A LF may follow in the next piece."""
        if self._after_cr:
            received = received.removeprefix(b"\n")
        self._after_cr = received.endswith(b"\r")
        return received.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take(self, events: list[bytes]) -> None:
        """Decode what a read has brought up to [DONE], and add it."""
        contents: list[bytes] = []
        for event in events:
            content = data_of(event)
            if content == b"[DONE]":
                self._add_all(contents)
                self.done = True
                return
            if content and event.startswith(b"event") and ERROR.match(event):
                raise error_in(None, content)
            if content:
                contents.append(content)
        self._add_all(contents)

    def _add_all(self, contents: list[bytes]) -> None:
        try:
            decoded = EVENTS.decode(b"[%b]" % b",".join(contents))
        except (ValueError, RecursionError):
            decoded = []
        if len(decoded) != len(contents):  # one of them is odd: which one, and why
            decoded = list(map(leniently, contents))
        for event, content in zip(decoded, contents, strict=True):
            if event is not None:
                self._add(event, content)

    def _add(self, event: Event, content: bytes) -> None:
        if event.error or event.object == "error":
            raise error_in(event.error, content)
        if not self.model and isinstance(event.model, str):
            self.model = sound(event.model[:LONGEST_NAME])
        if isinstance(event.provider, str) and event.provider:
            self.provider = sound(event.provider[:LONGEST_NAME])
        if event.choices:
            self._add_choice(event.choices, content)
        if event.usage is not None:
            self._count(event.usage)

    def _add_choice(self, choices: list[StreamedChoice], content: bytes) -> None:
        if len(choices) > 1:
            raise Fault(f"{len(choices)} choices where one was asked for")
        choice = choices[0]
        if choice.error:
            raise error_in(choice.error, content)
        if choice.index is not None and choice.index != self._index:
            if self._index is not None:
                raise Fault(f"not the one choice asked for: {short(content)}")
            self._index = choice.index
        if choice.finish_reason:
            self._end_as(choice.finish_reason, choice.native_finish_reason)
        message = choice.delta or choice.message
        if (choice.text if self._chat else message) is not None:
            raise Fault(f"a choice of the other of the two APIs: {short(content)}")
        text, thought = parts_of(message) if message is not None else (choice.text or "", "")
        if thought:
            self._thoughts.append(thought)
        if text:
            self._texts.append(text)
        if self._counts and (text or thought):  # which an earlier count lacks
            self._counts = {name: n for name, n in self._counts.items() if name == COUNTS[0]}
        ids = choice.token_ids
        if not ids:
            if text:
                self._ids = None
        elif self._ids is not None:
            self._ids += ids
            if len(self._ids) > self._max_tokens:
                raise Fault(f"more than the {self._max_tokens} tokens asked for")
        self.progress += len(text) + len(thought) + (len(ids) if ids else 0)
        if self.progress > (LONGEST_TOKEN + 1) * (self._max_tokens + 1):
            raise Fault(f"more text than {self._max_tokens} tokens can hold")
        if not self.has_text:
            self.has_text = bool(text.strip() or thought.strip())

    def _end_as(self, reason: str, native: object) -> None:
        for word in (reason, native):
            if isinstance(word, str) and broken_off(word):
                raise Fault(f"it ended with finish_reason {word}")
        self.finish_reason = reason

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            counts = {name: usage.get(name) for name in COUNTS}
            self._counts |= {
                name: n for name, n in counts.items() if type(n) is int and 0 <= n < 1 << 31
            }
            if known(usage.get("cost")):
                self.cost = float(usage["cost"])

    def end(self, orderly: bool = True) -> None:
        """The connection has ended, or the last event is there. orderly: as the protocol ends one.

        Raises Fault where the reply is not complete: neither `[DONE]` nor an orderly end after a
        finish reason. A server that sends `[DONE]` alone has ended by itself, but for one that has
        sent nothing before it.
        """
        rest, in_one_piece, whole = bytes(self._rest), self._feed == self._whole, self.done
        with suppress(Malformed):  # truncated
            if in_one_piece:
                self._add_all([rest])
                whole = True
            elif self._feed == self._events and not self.done:
                self._take([rest])
        if self.finish_reason is not None:
            if self.done or orderly or in_one_piece:
                return
        elif self.done and self.progress:
            return
        why = "no finish_reason" if whole else "the connection was closed mid-reply"
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
        used = self._counts.get("completion_tokens") or None  # 0: not counted
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


class Malformed(Fault):
    """Not JSON, or not all of it."""


def data_of(event: bytes) -> bytes:
    """The data of an event, without the whitespace around it; b"" where it has none."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:].strip()
    lines = [line for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines).strip()


def leniently(content: bytes) -> Event | None:
    """One event, read leniently where it has to be: half a surrogate pair, NaN or bytes that are
    no UTF-8 in one field are no reason to lose the others. Raises Fault."""
    try:
        value = json.loads(content.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise Malformed(f"malformed JSON: {short(content)}") from None
    try:
        return msgspec.convert(value, Event | None)  # type: ignore[no-any-return, call-overload]
    except msgspec.ValidationError as error:
        raise Fault(f"{error}: {short(content)}") from None


def error_in(error: object, content: bytes) -> Fault:
    """An error sent as an event or as a body. Its code tells whose fault it is only where that is
    the account's: vLLM calls its own death in the middle of a stream a bad request. A prompt that
    has no room is told by the words."""
    code = error.get("code") if isinstance(error, dict) else None
    why = f"it sent an error: {short(content)}"
    if type(code) is int and code in (401, 402, 403, 404):
        return fault_of(code, why, None)
    if TOO_LONG.search(why):
        return Fault(why, Who.REQUEST, status=400)
    return Fault(advised(why))


def parts_of(message: Delta) -> tuple[str, str]:
    """What a message adds to the text, and to the reasoning beside it."""
    thought = message.reasoning_content or message.reasoning
    if not isinstance(thought, str):
        thought = ""
    if isinstance(message.content, list):
        thought += "".join(text_in(part.thinking) for part in message.content)
    return text_in(message.content), thought


def text_in(content: str | list[Part] | None) -> str:
    """Of parts that of those that are no thinking."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text or "" for part in content if part.thinking is None)


def sound(text: str) -> str:
    """The text with each surrogate without its other half, which no tokenizer or file takes,
    replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def contradict(decoded: str, text: str) -> bool:
    """Whether a server's text is not what its token ids stand for. Blanks, and characters that
    are cut in two, come out differently where a text is decoded piece by piece."""
    one, other = (
        "".join(each[: 4 * COMPARED].replace("\ufffd", "").split())[:COMPARED]
        for each in (decoded, text)
    )
    size = min(len(one), len(other))
    return one[:size] != other[:size]


def short(data: bytes) -> str:
    """The beginning of what a server sent, for a message."""
    return data[:2000].decode("utf-8", "replace")
