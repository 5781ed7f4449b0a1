"""A reply put together from whatever a server sends."""

from __future__ import annotations

import json

import pytest

from helpers.http_server import DONE, delta, event, message, usage
from kflow.engines.openai_engine.retry import Fault, Who
from kflow.engines.openai_engine.streamed import (
    CHUNK,
    LONGEST_EVENT,
    LONGEST_TOKEN,
    SLACK,
    Streamed,
)


def read(*chunks: bytes, max_tokens: int = 8, chat: bool = False, orderly: bool = True) -> Streamed:
    reply = Streamed(max_tokens, chat)
    for chunk in chunks:
        reply.feed(chunk)
    reply.end(orderly)
    return reply


WHOLE = [delta("Sö", [1, 2]), delta(" it is", [3]), delta("", [], "stop"), usage(3), DONE]


def test_a_reply_is_its_chunks() -> None:
    reply = read(*WHOLE)
    assert (reply.text, reply.ids, reply.used) == ("Sö it is", [1, 2, 3], 3)
    assert (reply.finish_reason, reply.done, reply.has_text) == ("stop", True, True)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\n", b": a comment\nevent: x\nid\n\n"])
def test_where_lines_and_pieces_end_does_not_matter(
    start: bytes, line_end: bytes, size: int
) -> None:
    stream = (start + b"".join(WHOLE)).replace(b"\n", line_end)
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    reply = read(*pieces)
    assert (reply.text, reply.ids, reply.done) == ("Sö it is", [1, 2, 3], True)


ODD_BUT_WHOLE = {
    "data over two lines": b'data: {"choices": [{"index": 0,\ndata: "text": "So", '
    b'"finish_reason": "stop"}]}\n\n',
    "no blank after the colon": b'data:{"choices":[{"text":"So","finish_reason":"stop"}]}\n\n',
    "a name, an id, a comment": b'id: 7\nevent: completion\n: hm\ndata: {"choices": '
    b'[{"text": "So", "finish_reason": "stop"}]}\nretry: 9\n\n',
    "NaN in a field nobody uses": b'data: {"logprob": NaN, "p": -Infinity, "choices": '
    b'[{"text": "So", "finish_reason": "stop"}]}\n\n',
    "bytes that are no UTF-8": b'data: {"model": "\xff\xfe", "choices": '
    b'[{"text": "So", "finish_reason": "stop"}]}\n\n',
    "no text in the last chunk": delta("So") + event(choices=[{"finish_reason": "stop"}]),
    "choices that are null beside the usage": delta("So", None, "stop")
    + event(choices=None, usage={"completion_tokens": 1}) + DONE,
    "no choices": event(id="cmpl-1") + delta("So", None, "stop"),
    "an event that is null": b"data: null\n\n" + delta("So", None, "stop"),
    "an annotation alone": event(choices=[{"index": 0, "content_filter_results": {}}])
    + delta("So", None, "stop"),
    "an error that is none": event(error=None, choices=[{"text": "So", "finish_reason": "stop"}]),
    "an end in every chunk": delta("S", None, "stop") + delta("o", None, "stop") + DONE,
    "an empty chunk": event(choices=[]) + event(choices=[], prompt_filter_results=[])
    + delta("So", None, "stop"),
    "another index, always": event(choices=[{"index": 1, "text": "S"}])
    + event(choices=[{"index": 1, "text": "o", "finish_reason": "stop"}]),
    "no blank line at the end": delta("So", None, "stop").rstrip(),
    "an unknown line": delta("So") + b"charset=utf-8\n\n" + delta("", None, "stop"),
    "a body over lines": b'\xef\xbb\xbf \n{"choices":\r\n [{"text": "So",\n\n "finish_reason": '
    b'"stop"}]}\n',
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("stream", ODD_BUT_WHOLE.values(), ids=ODD_BUT_WHOLE)
def test_an_odd_stream_is_a_reply_all_the_same(stream: bytes, size: int) -> None:
    reply = read(*(stream[i : i + size] for i in range(0, len(stream), size)))
    assert (reply.text, reply.finish_reason) == ("So", "stop")


def test_a_body_in_one_piece_has_what_a_stream_has() -> None:
    choice = {"index": 0, "text": "So", "token_ids": [1, 2], "finish_reason": "length"}
    body = {"choices": [choice], "usage": {"completion_tokens": 2}}
    reply = read(json.dumps(body).encode())
    assert (reply.text, reply.ids, reply.used, reply.finish_reason) == ("So", [1, 2], 2, "length")


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        ([r"a\ud800b"], "a\ufffdb"),
        ([r"a\udc00", r"\ud800"], "a\ufffd\ufffd"),
        ([r"a\ud83d", r"\ude00b"], "a\N{GRINNING FACE}b"),
        ([r"a\ud83d\ude00b"], "a\N{GRINNING FACE}b"),
    ],
)
def test_half_a_surrogate_pair_does_not_lose_the_reply(texts: list[str], whole: str) -> None:
    chunks = [b'data: {"choices": [{"text": "%s"}]}\n\n' % text.encode() for text in texts]
    reply = read(*chunks, delta("", None, "stop"), DONE)
    assert reply.text == whole


def test_a_large_event_is_read() -> None:
    padded = event(prompt="x" * (3 * SLACK), choices=[{"text": "So", "finish_reason": "stop"}])
    pieces = [padded[i : i + (1 << 16)] for i in range(0, len(padded), 1 << 16)]
    assert read(*pieces, max_tokens=8192).text == "So"


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("choices", "ids"),
    [
        ([("So", [1]), (" be", [2, 3]), ("", [4])], [1, 2, 3, 4]),
        ([("So", [1]), ("", None), (" be", [2])], [1, 2]),
        ([("So", [1]), (" be", None), ("", [2])], None),
        ([("So", None), (" be", None)], None),
    ],
)
def test_events_read_together_are_what_they_are_one_by_one(
    choices: list[tuple[str, list[int] | None]], ids: list[int] | None, together: bool
) -> None:
    chunks = [delta(text, token_ids) for text, token_ids in choices]
    reply = Streamed(8)
    for piece in [b"".join(chunks)] if together else chunks:
        reply.feed(piece)
    assert (reply.text, reply.ids, reply.has_text) == ("So be", ids, True)
    reply.feed(delta("", None, "stop"))
    reply.end()


@pytest.mark.parametrize("ids", [None, [1]])
def test_without_all_token_ids_there_is_text_and_the_servers_count(ids: list[int] | None) -> None:
    reply = read(delta("So", ids), delta(" be it", None, "length"), usage(2), DONE)
    assert (reply.text, reply.ids, reply.used) == ("So be it", None, 2)


def test_text_without_an_id_is_not_lost() -> None:
    reply = read(delta("So", [1]), delta(" be it", []), delta("", [], "stop"), DONE)
    assert (reply.text, reply.ids) == ("So be it", None)


def test_a_count_is_of_the_text_before_it() -> None:
    counted = event(choices=[{"text": "So"}], usage={"completion_tokens": 1, "prompt_tokens": 5})
    early = read(counted, delta(" be it", None, "stop"), DONE)
    assert (early.used, early.billed) == (None, (5, None))
    assert read(counted, delta("", None, "stop"), DONE).used == 1


@pytest.mark.parametrize("count", [0, 9, -1, "3", True])
def test_a_count_that_cannot_be_is_no_count(count: object) -> None:
    assert read(delta("So", None, "stop"), usage(count), DONE).used is None


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        (0.0021, 0.0021), (0, 0.0), (-1, None), ("0.0021", None), (1e300, None),
        (float("nan"), None),
    ],
)  # fmt: skip
def test_what_a_server_says_that_it_charged(said: object, cost: float | None) -> None:
    assert read(delta("So", None, "stop"), usage(2, cost=said), DONE).cost == cost


@pytest.mark.parametrize(
    ("said", "provider"),
    [("A host", "A host"), ("", None), (7, None), ("x" * 1000, "x" * 100),
     ("half \ud800", "half \ufffd")],
)  # fmt: skip
def test_who_replied_behind_a_router(said: object, provider: str | None) -> None:
    body = json.loads(delta("So", None, "stop").removeprefix(b"data: "))
    assert read(event(**body, provider=said), DONE).provider == provider


def test_what_follows_the_end_is_not_read() -> None:
    assert read(*WHOLE, delta("more", [4]), b"data: nonsense\n\n").text == "Sö it is"


BODY = b'{"choices": [{"text": "So", "finish_reason": "stop"}]}'
ENDS: dict[str, tuple[list[bytes], bool, bool]] = {  # whether in order, and whether it is whole
    "a finish reason and an orderly end": (WHOLE[:-1], True, True),
    "a finish reason, broken off": (WHOLE[:-1], False, False),
    "[DONE], broken off": (WHOLE, False, True),
    "a body in one piece, broken off": ([BODY], False, True),
    "a natural end may have no finish_reason": ([delta("So", [1]), DONE], True, True),
}


@pytest.mark.parametrize(("chunks", "orderly", "whole"), ENDS.values(), ids=ENDS)
def test_what_is_a_whole_reply(chunks: list[bytes], orderly: bool, whole: bool) -> None:
    if whole:
        assert read(*chunks, orderly=orderly).text
    else:
        with pytest.raises(Fault, match="closed mid-reply"):
            read(*chunks, orderly=orderly)


def test_a_finish_reason_is_not_yet_the_end() -> None:
    reply = Streamed(8)
    reply.feed(delta("S", [1], "stop"))
    assert not reply.done
    reply.feed(delta("o", [2], "stop") + usage(2))
    assert not reply.done
    reply.feed(DONE)
    assert (reply.done, reply.text, reply.used) == (True, "So", 2)


SO = message("stop", content="So")
S, END = message(content="S"), message("stop", content="o")
THOUGHT = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]
CHAT: dict[str, tuple[list[bytes], str]] = {
    "text": ([S, END], ""),
    "an end without a message": (
        [message(content="So"), event(choices=[{"delta": None, "finish_reason": "stop"}])], "",
    ),
    "an annotation without a message": (
        [S, event(choices=[{"index": 0, "delta": None, "content_filter_results": {}}]), END], "",
    ),
    "choices that are null": ([SO, event(choices=None, usage={"completion_tokens": 1})], ""),
    "an end in every chunk": ([message("stop", reasoning_content="Hm"), SO], "Hm"),
    "thinking in parts": ([message(content=THOUGHT), SO], "Hm"),
    "thinking as a part's text": (
        [message("stop", content=[{"type": "thinking", "thinking": "Hm"}, {"text": "So"}])], "Hm",
    ),
    "text in parts, and a part that is unknown": (
        [message("stop", content=[{"text": "So"}, {"type": "reference", "ids": [1]}])], "",
    ),
    "a warning alone": ([S, event(warning="no usage"), END], ""),
    "empty choices beside a cost": (
        [event(id="", choices=[]), SO, event(choices=[], cost="0")], "",
    ),
    "comments": ([b": keep-alive\n\n", S, b": PROCESSING\n\n", END], ""),
    "null content first": ([message(role="assistant", content=None), SO], ""),
    "reasoning by another name": ([message(reasoning="Hm"), SO], "Hm"),
    "reasoning by both names": (
        [message("stop", reasoning="Hm", reasoning_content="Hm", content="So")], "Hm",
    ),
    "reasoning in an unknown form": ([message(reasoning={"a": 1}), SO], ""),
    "one body": (
        [b'{"choices": [{"message": {"content": "So", "reasoning": "Hm"}, '
         b'"finish_reason": "stop"}]}'], "Hm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("chunks", "thought"), CHAT.values(), ids=CHAT)
def test_a_message_is_its_text_and_its_thinking(
    chunks: list[bytes], thought: str, together: bool
) -> None:
    reply = read(*[b"".join(chunks)] if together else chunks, chat=True)
    assert (reply.text, reply.thought, reply.finish_reason) == ("So", thought, "stop")


@pytest.mark.parametrize(
    ("code", "who"), [(402, Who.ACCOUNT), (400, Who.SERVER), ("402", Who.SERVER)]
)
def test_an_error_within_a_stream_is_the_accounts_only_by_its_code(code: object, who: Who) -> None:
    with pytest.raises(Fault, match="no more") as fault:
        read(delta("So", [1]), event(error={"message": "no more", "code": code}, choices=[]))
    assert fault.value.who is who


@pytest.mark.parametrize(
    "error",
    [
        {"message": "request (9 tokens) exceeds the available context size (8)", "code": 400},
        {"message": "?", "type": "exceed_context_size_error", "code": 500},
        {"message": "?", "code": "context_length_exceeded"},
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_prompt_without_room_is_refused_whatever_carries_it(
    error: dict[str, object], streamed: bool
) -> None:
    body = {"error": error}
    with pytest.raises(Fault) as fault:
        read(event(**body) if streamed else json.dumps(body).encode())
    assert (fault.value.who, fault.value.status) == (Who.REQUEST, 400)


def test_only_text_and_tokens_are_progress() -> None:
    reply, seen = Streamed(8), []
    nothing = [b": ping\n\n", b"data", b': {"choices": [{"text": ""}]}\n\n', usage(0)]
    for piece in (*nothing, delta("", [5]), delta(" "), delta("So")):
        reply.feed(piece)
        seen.append((reply.progress, reply.has_text))
    assert seen == [(0, False)] * 4 + [(1, False), (2, False), (4, True)]


FAULTS = [
    ([b"data: {not json\n\n"], "malformed JSON: {not json"),
    ([b"data: [1, 2]\n\n"], "Expected `object"),
    ([b"data: \xff\xfe\n\n"], "malformed JSON"),
    ([b"data: " + b"[" * 100_000 + b"\n\n"], "malformed JSON"),
    ([event(choices=[{"text": "a"}, {"text": "b"}])], "2 choices"),
    ([event(choices=[{"index": i, "text": "a"}]) for i in (0, 1)], "not the one choice"),
    ([event(object="error", message="no such model")], "no such model"),
    ([event(choices=[{"text": 7}])], "choices[0].text"),
    ([event(choices=[{"delta": {"content": "Hi"}}])], "the other of the two APIs"),
    ([event(choices=[{"text": "a", "token_ids": [1, -1]}])], "token_ids[1]"),
    ([event(choices=[{"text": "a", "token_ids": [1 << 40]}])], "token_ids[0]"),
    ([event(choices=[{"text": "a", "finish_reason": "x" * 101}])], "finish_reason"),
    ([DONE], "no finish_reason"),
    ([usage(0), DONE], "no finish_reason"),
    ([b'{"choices": [{"text": "whole"}]}'], "no finish_reason"),
    ([b'{"choices": []}'], "no finish_reason"),
    ([b'{"choices": [{"text": "whole", "finish_r'], "closed mid-reply"),
    ([b'{"error": {"message": "quota"}}'], "quota"),
    ([b"\n<html>Sign in</html>\n"], "not an event stream: <html>Sign in"),
    ([b"\x1f\x8b\x08\x00"], "not an event stream"),
    ([delta("a", list(range(9)))], "more than the 8 tokens"),
    ([delta("a" * (LONGEST_TOKEN * 10))], "more text than 8 tokens can hold"),
    ([delta("a", [1])], "closed mid-reply"),
    ([delta("a", [1]), b'data: {"cho'], "closed mid-reply"),
    ([], "closed mid-reply"),
    ([b": waiting\n\n"], "closed mid-reply"),
    ([b"dat"], "closed mid-reply"),
    ([delta("a", [1], "abort"), DONE], "finish_reason abort"),
    ([delta("a", [1], "ERROR"), DONE], "finish_reason ERROR"),
    ([delta("a", [1], "insufficient_system_resource")], "finish_reason insufficient_system_res"),
    ([event(error={"message": "EngineCore died", "code": 400}), DONE], "EngineCore died"),
    (
        [
            delta("a"),
            event(choices=[{"text": "", "error": {"code": 502, "message": "host gone"}}]),
            DONE,
        ],
        "host gone",
    ),
    (
        [delta("a"), b'event: error\ndata: {"code": 502, "message": "host gone"}\n\n', DONE],
        "host gone",
    ),
    # Two objects in an event, one object in two: JSON only if put together.
    ([b'data: {"choices":[{"text":"a"}]},{"choices":[{"text":"b"}]}\n\n'], "malformed JSON"),
    ([b'data: {"choices":[{"text":"a"}]\n\ndata: "x":1}\n\n'], "malformed JSON"),
    # What is not in a line of data is not read.
    ([b'data: {"choices":[\n{"text":"a","finish_reason":"stop"}]}\n\n'], "malformed JSON"),
]
OF_MESSAGES = [
    ([delta("It is 4."), delta("", None, "stop"), DONE], "the other of the two APIs"),
    ([event(choices=[{"index": 0, "delta": "It is 4."}])], "$[0].choices[0].delta"),
    ([message("stop", content={"a": 1})], "content"),
    ([event(choices=[{"delta": {}, "finish_reason": "stop",
                      "native_finish_reason": "network_error"}])], "finish_reason network_error"),
    ([message(content="It"), event(error={"code": 502}, choices=[]), DONE], "502"),
    ([event(choices=[], error={"code": 429, "message": "Provider returned error"})], "429"),
    ([b'data: {"choices":[],"ch\ndata: {"choices":[]}\n\n'], "malformed JSON"),
    ([*[message(reasoning="so " * 500)] * 20], "more text than 8 tokens can hold"),
    ([message(reasoning="Hm")], "closed mid-reply"),
]  # fmt: skip


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("chunks", "named", "chat"),
    [(*row, False) for row in FAULTS] + [(*row, True) for row in OF_MESSAGES],
)
def test_what_is_no_reply_is_a_fault_of_the_server(
    chunks: list[bytes], named: str, chat: bool, together: bool
) -> None:
    with pytest.raises(Fault) as fault:
        read(*[b"".join(chunks)] if together else chunks, chat=chat)
    assert named.replace("$[0]", "$") in str(fault.value).replace("$[0]", "$")
    assert len(str(fault.value)) <= 600
    assert fault.value.who is Who.SERVER


def test_what_nobody_asked_for_is_no_progress() -> None:
    calls = message("stop", tool_calls=[{"function": {"name": "x"}}])
    assert not read(calls, chat=True).progress


def test_a_stream_without_end_is_not_kept() -> None:
    reply, piece = Streamed(8), b": " + b"x" * (1 << 20) + b"\n\n"
    for _ in range((SLACK + 8 * CHUNK) // len(piece)):
        reply.feed(piece)
    with pytest.raises(Fault, match="more bytes than 8 tokens can take"):
        reply.feed(piece)


def test_a_long_reply_of_single_tokens_has_room() -> None:
    chunk = json.dumps({"id": "x" * 400, "choices": [{"text": " " * 128, "token_ids": [1]}]})
    reply = Streamed(5000)
    for _ in range(5000):
        reply.feed(b"data: " + chunk.encode() + b"\n\n")
    assert len(reply.ids or []) == 5000


@pytest.mark.parametrize("start", [b"data: ", b"{"], ids=["event", "body"])
def test_one_endless_line_is_not_put_together_up_to_the_budget(start: bytes) -> None:
    """The budget of a long reply is hundreds of megabytes."""
    reply, piece = Streamed(131_072), b"x" * (1 << 20)
    reply.feed(start)
    for _ in range(LONGEST_EVENT // len(piece) - 1):
        reply.feed(piece)
    with pytest.raises(Fault, match=f"more than {LONGEST_EVENT} bytes"):
        reply.feed(piece)
