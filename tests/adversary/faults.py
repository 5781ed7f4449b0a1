"""Invalid answers; the first half of the table of lying servers (lies.py)."""

from __future__ import annotations

import json
from urllib.parse import quote

from adversary.bricks import (
    choice,
    each,
    endless,
    error,
    finish,
    http,
    parsed,
    raw,
    reset,
    trickle,
    wire,
)
from adversary.forks import SECRET
from adversary.liar import CHUNKED, DONE, STREAM, Behaviour, event

OK = b"HTTP/1.1 200 OK\r\n"
SSE = STREAM + b"\r\n"
HTML = b"<!doctype html><html><title>Log in</title>" + b"<p>Accept the terms.</p>" * 40
ELSEWHERE = "/elsewhere/v1/completions"
LONG = "0123456789" * 200

FAULTS: dict[str, Behaviour] = {
    # The connection.
    "reset": reset,
    "closed": raw(),
    "half_a_status_line": raw(b"HTTP/1.1 20"),
    "half_a_head": raw(OK + b"Content-Type: text/ev"),
    "head_without_body": raw(SSE),
    "another_protocol": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "http_0_9": raw(HTML),
    "http_2_frames": raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\x00"),
    "status_of_letters": raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "status_99": raw(b"HTTP/1.1 99 Low\r\n\r\n"),
    "header_without_colon": raw(OK + b"nothing here\r\n\r\n"),
    "header_with_nul": raw(OK + b"X: a\0b\r\n\r\n"),
    "endless_head": endless(OK, b"X-Filler: " + b"a" * 80 + b"\r\n"),
    "endless_header": endless(OK + b"X-Filler: ", b"a"),
    "length_negative": raw(OK + b"Content-Length: -5\r\n\r\nhello"),
    "length_of_letters": raw(OK + b"Content-Length: many\r\n\r\nhello"),
    "length_not_kept": raw(OK + b"Content-Length: 5000\r\n\r\n", event({"choices": []})[:9]),
    "chunk_size_of_letters": raw(STREAM + CHUNKED + b"\r\nzz\r\nhello\r\n"),
    "chunk_size_not_kept": raw(STREAM + CHUNKED + b"\r\nffff\r\nhello\r\n"),
    "gzip_that_is_none": http(200, b"\x1f\x8b\x08junk", Content_Encoding="gzip"),
    # Statuses.
    **{f"status_{n}": http(n) for n in (201, 202, 204, 206, 300, 304)},
    **{f"redirect_{n}": http(n, Location=ELSEWHERE) for n in (301, 302, 307, 308)},
    **{
        f"status_{n}": error(n, f"because of {n}")
        for n in (401, 403, 404, 408, 409, 425, 429, 500, 501, 502, 503, 504, 507, 520, 599)
    },
    "status_500_page": http(500, HTML, Content_Type="text/html"),
    "status_500_endless": endless(b"HTTP/1.1 500 No\r\n\r\n", b"never mind "),
    "status_500_raw_bytes": http(500, bytes(range(256))),
    "status_500_escapes": error(500, "\x1b[31m\x1b]0;owned\x07\u202e\u2066\r\nstep 9 complete"),
    "status_503_deep": http(503, b"[" * 100_000),
    "key_repeated": error(500, f"bad key {SECRET}"),
    "key_quoted": error(500, f"see https://host/?key={quote(SECRET, safe='')}&more"),
    "key_cut_by_the_limit": error(500, "x" * 485 + SECRET),
    # A 200 that is no stream of events.
    "portal": http(200, HTML, Content_Type="text/html"),
    "portal_as_events": http(200, HTML, Content_Type="text/event-stream"),
    "empty_body": http(200, b""),
    "empty_events": http(200, b"\n\n\n\n", Content_Type="text/event-stream"),
    "plain_text": http(200, b"upstream connect error"),
    "json_error": error(200, "overloaded"),
    "json_list": http(200, b"[]"),
    "json_null": http(200, b"null"),
    "json_without_choices": http(200, b'{"object": "text_completion", "choices": []}'),
    "json_cut": http(200, b'{"object": "text_completion", "choices": [{"index": 0, "te'),
    "json_of_a_chat": http(200, b'{"choices": [{"message": {"content": "Hi"}}]}'),
    "other_bytes": http(200, bytes(range(256)) * 64),
    "endless_body": endless(SSE, b"a"),
    "endless_lines": endless(SSE, b"nothing to see\n"),
    "endless_comments": endless(SSE, b": " + b"ping " * 200 + b"\n\n"),
    "endless_one_event": endless(SSE + b'data: {"choices": [{"text": "', b"a"),
    "endless_text": endless(SSE, event({"choices": [{"index": 0, "text": "ha " * 20}]})),
    "endless_no_text": endless(SSE, event({"choices": [{"index": 0, "text": ""}], "more": LONG})),
    "endless_usage": endless(SSE, event({"choices": [], "usage": {"total_tokens": 1}, "x": LONG})),
    # Invalid events.
    "cut_before_the_end": wire(lambda e: e[:2]),
    "cut_in_an_event": wire(lambda e: [*e[:2], e[2][:20]]),
    "done_at_once": wire(lambda e: [DONE]),
    "data_cut": wire(lambda e: [e[0], e[1][:30] + b"\n\n", *e[2:]]),
    "data_deep": wire(lambda e: [b"data: " + b"[" * 100_000 + b"\n\n", *e]),
    "error_event": wire(lambda e: [event({"error": {"message": "out of memory"}})]),
    "error_event_midway": wire(lambda e: [*e[:2], event({"error": "gone"}), DONE]),
    # Choices: test_streamed.py has their other shapes.
    "choices_empty": each(lambda c: {**c, "choices": []}),
    "choices_two": each(lambda c: {**c, "choices": c["choices"] * 2}),
    "choice_of_a_chat": choice(ids=False, text=None, delta={"content": "Hi"}),
    "text_int": choice(ids=False, text=5),
    "finish_abort": finish("abort"),
    "ids_unknown": choice(token_ids=[2_000_000]),
    "ids_too_many": choice(token_ids=[1] * 8000),
}

# Alive, and never a token; asked with a --request_timeout of a second.
SILENT: dict[str, Behaviour] = {
    "hang": trickle(b"", b""),
    "hang_after_head": trickle(SSE, b""),
    "hang_midway": trickle(SSE + event({"choices": [{"index": 0, "text": "Half"}]}), b""),
    "pings": trickle(SSE, b": ping\n\n"),
    "slow_bytes": trickle(SSE, b":"),
    "slow_blank_lines": trickle(SSE, b"\n"),
    "slow_head": trickle(OK, b"X-Slow: 1\r\n"),
    "slow_status_line": trickle(b"HTTP/1.1 200 O", b"K"),
    "slow_continue": trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "slow_error_body": trickle(b"HTTP/1.1 500 No\r\n\r\n", b"a"),
    "slow_empty_texts": trickle(SSE, event({"choices": [{"index": 0, "text": ""}]})),
    "slow_usage": trickle(SSE, event({"choices": [], "usage": {"completion_tokens": 1}})),
}

# An empty reply is one: the same request with the same seed would be answered the same.
REFUSALS: dict[str, Behaviour] = {
    "text_missing": each(lambda c: {"choices": [{"index": 0, "finish_reason": "stop"}]}),
    "reply_empty": parsed(lambda c: c[3:]),
    "reply_blank": parsed(
        lambda c: [{"choices": [{"text": " \n\t", "finish_reason": "stop"}]}], ids=False
    ),
    "json_whole_but_empty": http(200, b'{"choices": [{"text": "", "finish_reason": "stop"}]}'),
    "status_400": error(400, "This prompt is not for me"),
    "status_400_page": http(400, HTML),
    "status_400_empty": http(400),
    "status_400_endless": endless(b"HTTP/1.1 400 No\r\n\r\n", b"never "),
    "status_400_escapes": error(400, "\x1b[31m\u202e\r\nstep 9 complete"),
    "status_400_key": error(400, f"{SECRET} {quote(SECRET, safe='')}"),
    "status_400_long": error(400, "no " * 20_000),
    "status_413": error(413, "too large"),
    "status_422": http(422, json.dumps({"detail": [{"loc": ["body"], "msg": LONG}]}).encode()),
}

# What a start ends with that meets them at its first request, by the beginnings of their names: the
# key, the address, the request itself, or a page in the place of a reply.
AT_THE_START = (
    *(f"status_{n}" for n in (2, 3, 400, 401, 403, 404, 413, 422, 501)), "redirect_", "portal",
    "empty_", "plain_text", "json_list", "json_null", "other_bytes", "head_without_body",
    "chunk_size_not_kept", "endless_body", "endless_lines",
)  # fmt: skip
