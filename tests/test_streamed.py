"""A streamed reply put together from whatever a server sends."""

from __future__ import annotations

import json

import pytest

from http_server import DONE, delta, event, usage
from kflow.engines.retry import Fault
from kflow.engines.streamed import CHUNK, LONGEST_TOKEN, SLACK, Implausible, Streamed


def read(*chunks: bytes, max_tokens: int = 8) -> Streamed:
    reply = Streamed(max_tokens)
    for chunk in chunks:
        reply.feed(chunk)
    reply.end()
    return reply


WHOLE = [delta("Sö", [1, 2]), delta(" it is", [3]), delta("", [], "stop"), usage(3), DONE]


def test_a_reply_is_its_chunks() -> None:
    reply = read(*WHOLE)
    assert (reply.text, reply.ids, reply.used) == ("Sö it is", [1, 2, 3], 3)
    assert (reply.finish_reason, reply.done) == ("stop", True)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_where_the_stream_is_cut_does_not_matter(size: int) -> None:
    stream = b": a comment\r\nevent: x\r\n" + b"".join(WHOLE).replace(b"\n", b"\r\n")
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    reply = read(*pieces)
    assert (reply.text, reply.ids, reply.done) == ("Sö it is", [1, 2, 3], True)


def test_without_token_ids_there_is_text_and_the_servers_count() -> None:
    reply = read(delta("So"), delta(" be it", None, "length"), usage(2), DONE)
    assert (reply.text, reply.ids, reply.used) == ("So be it", None, 2)
    assert reply.finish_reason == "length"


def test_ids_for_a_part_of_the_text_are_not_the_ids_of_the_text() -> None:
    reply = read(delta("So", [1]), delta(" be it", None, "stop"), DONE)
    assert (reply.text, reply.ids, reply.used) == ("So be it", None, None)


@pytest.mark.parametrize("count", [9, -1, "3", None, True, 2.0])
def test_a_count_that_cannot_be_is_no_count(count: object) -> None:
    assert read(delta("So", None, "stop"), usage(count), DONE).used is None


def test_what_follows_the_end_is_not_read() -> None:
    assert read(*WHOLE, delta("more", [4]), b"data: nonsense\n").text == "Sö it is"


def test_a_stream_may_end_without_saying_so() -> None:
    assert read(*WHOLE[:-1]).finish_reason == "stop"


@pytest.mark.parametrize(
    ("chunks", "named"),
    [
        ([b"data: {not json\n\n"], "no JSON: {not json"),
        ([b"data: [1, 2]\n"], "no JSON object"),
        ([b"data: 3\n"], "no JSON object"),
        ([b"data: \xff\xfe\n"], "no JSON"),
        ([b"data: " + b"[" * 100_000 + b"\n"], "no JSON"),
        ([event(choices=[])], "0 choices"),
        ([event(choices=[{"text": "a"}, {"text": "b"}])], "2 choices"),
        ([event(choices="none")], "no list of choices"),
        ([event(id="cmpl-1")], "no list of choices"),
        ([event(choices=[{"index": 0}])], "a choice without a text"),
        ([event(choices=[{"text": 7}])], "a choice without a text"),
        ([event(choices=[None])], "a choice without a text"),
        ([event(choices=[{"text": "a", "token_ids": "1"}])], "token ids that are none"),
        ([event(choices=[{"text": "a", "token_ids": [1, -1]}])], "token ids that are none"),
        ([event(choices=[{"text": "a", "token_ids": [1 << 40]}])], "token ids that are none"),
        ([event(choices=[{"text": "a", "token_ids": [True]}])], "token ids that are none"),
        ([event(choices=[{"text": "a", "finish_reason": 3}])], "a finish_reason that is none"),
        ([delta("a", [1]), DONE], "no finish_reason"),
        ([DONE], "no finish_reason"),
        ([usage(0), DONE], "no finish_reason"),
        ([b'{"choices": [{"text": "whole"}]}'], "no stream of events"),
        ([b'{"choices":\n [{"text": "whole"}]}\n'], "no stream of events"),
        ([b"<html>Sign in</html>"], "no stream of events: <html>Sign in"),
        ([b"\n<html>Sign in</html>\n"], "no stream of events: <html>Sign in"),
        ([delta("a", list(range(9)))], "more than the 8 tokens"),
        ([delta("a" * (LONGEST_TOKEN * 10))], "more text than 8 tokens can hold"),
    ],
)
def test_what_no_server_should_send_is_refused(chunks: list[bytes], named: str) -> None:
    with pytest.raises(Implausible) as refused:
        read(*chunks)
    assert named in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_stream_without_end_is_not_kept() -> None:
    reply, piece = Streamed(8), b"x" * (1 << 20)
    for _ in range((SLACK + 8 * CHUNK) // len(piece)):
        reply.feed(piece)
    with pytest.raises(Implausible, match="more than 8 tokens can take"):
        reply.feed(piece)


def test_a_long_reply_of_single_tokens_has_room() -> None:
    chunk = json.dumps({"id": "x" * 400, "choices": [{"text": " " * 128, "token_ids": [1]}]})
    reply = Streamed(5000)
    for _ in range(5000):
        reply.feed(b"data: " + chunk.encode() + b"\n\n")
    assert len(reply.ids or []) == 5000


@pytest.mark.parametrize(
    ("chunks", "named"),
    [
        ([delta("a", [1])], "closed in the middle of a reply"),
        ([delta("a", [1]), b'data: {"cho'], "closed in the middle of a reply"),
        ([], "closed in the middle"),
        ([b": waiting\n\n"], "closed in the middle"),
        ([b'data: {"choi'], "closed in the middle"),
        ([delta("a", [1], "abort"), DONE], "finish_reason abort"),
        ([delta("a", [1], "error"), DONE], "finish_reason error"),
        ([event(error={"message": "EngineCore died", "code": 400}), DONE], "EngineCore died"),
    ],
)
def test_a_reply_that_broke_off_is_a_fault(chunks: list[bytes], named: str) -> None:
    with pytest.raises(Fault, match=named) as broke:
        read(*chunks)
    assert broke.value.own
    assert not broke.value.down


def test_one_endless_line_is_not_put_together_up_to_the_budget() -> None:
    """The budget of a long reply is hundreds of megabytes, and every piece is added by a copy."""
    reply, piece = Streamed(131_072), b"data: " + b"x" * (1 << 20)
    for _ in range(SLACK // len(piece)):
        reply.feed(piece)
    with pytest.raises(Implausible, match="a line of more than"):
        reply.feed(piece)
