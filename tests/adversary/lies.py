"""The table of lying servers: a line here is a row (README.md).

FAULTS are invalid answers: sent for ever they end the run with code 1, and the same command
on an honest server completes it, or the start with code 2 and nothing written; told once for each
request they change nothing; told for one problem they hold up that problem alone. TOLERATED change
nothing. COMPLETE give other files, and no failure. REFUSALS are final for a request that is refused
again after one that asks as much was accepted. WAITS and LISTINGS are refused before anything is
written.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from adversary.bricks import (
    choice,
    each,
    endless,
    error,
    finish,
    first_of_one_problem,
    from_the,
    headed,
    http,
    once,
    one_problem,
    packets,
    parsed,
    raw,
    reset,
    says,
    trickle,
    unused,
    usage,
    whole_json,
    wire,
)
from adversary.faults import AT_THE_START, FAULTS, HTML, OK, REFUSALS, SILENT
from adversary.forks import SECRET
from adversary.liar import CARD, Behaviour, Mode, listing

TOLERATED: dict[str, Behaviour] = {
    # The stream's lines: test_streamed.py has their other shapes.
    "crlf": wire(lambda e: [x.replace(b"\n", b"\r\n") for x in e]),
    "not_done": wire(lambda e: e[:-1]),
    "not_done_no_last_line_end": wire(lambda e: [*e[:4], e[4].rstrip()]),
    "more_after_done": wire(lambda e: [*e, b"data: {broken\n\n", HTML]),
    "content_type_html": wire(lambda e: e, Content_Type="text/html"),
    # The connection.
    "byte_by_byte": packets(lambda all: [all[i : i + 1] for i in range(len(all))]),
    "seven_bytes": packets(lambda all: [all[i : i + 7] for i in range(0, len(all), 7)]),
    "one_packet": packets(lambda all: [all]),
    "http_1_0": headed(b"HTTP/1.0 200 OK\r\n\r\n"),
    "no_reason_phrase": headed(b"HTTP/1.1 200\r\n\r\n"),
    "odd_header_names": headed(OK + b"content-TYPE:text/event-stream\r\nX-Odd: \xff\r\n\r\n"),
    "length_given": headed(OK + b"Content-Length: LENGTH\r\n\r\n"),
    "length_longer": headed(OK + b"Content-Length: 9LENGTH\r\n\r\n"),
    "early_hints": headed(b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" + OK + b"\r\n"),
    "continue_first": headed(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n"),
    "keep_alive": headed(OK + b"Connection: keep-alive\r\nContent-Length: LENGTH\r\n\r\n"),
    "fifty_headers": headed(OK + b"".join(b"X-%d: 1\r\n" % n for n in range(50)) + b"\r\n"),
    "chunk_extensions": packets(lambda all: [all.replace(b"\r\ndata", b";a=b\r\ndata")]),
    "chunk_trailers": packets(lambda all: [all[:-2] + b"X-Trailer: 1\r\n\r\n"]),
    "chunk_end_missing": packets(lambda all: [all[:-5]]),
    # The JSON.
    **{
        f"unused_{name}": unused(value)
        for name, value in {
            "surrogate": '"\\ud800"',
            "deep": "[" * 100 + "]" * 100,
            "twice": '1, "unused": 2',
            "long": '"' + "a" * (3 << 20) + '"',
            "escapes": '"\\u001b[31m \\u202e \\u0000"',
        }.items()
    },
    "usage_huge": usage({"completion_tokens": 1 << 80}),
    "usage_never": parsed(lambda c: c[:-1]),
    "usage_first": parsed(lambda c: [c[-1], *c[:-1]]),
    "usage_everywhere": each(lambda c: {**c, "usage": {"completion_tokens": 3}}),
    "finish_with_the_last_text": parsed(
        lambda c: [*c[:2], {"choices": [{**c[2]["choices"][0], "finish_reason": "stop"}]}]
    ),
    "finish_twice": parsed(lambda c: [*c[:4], c[3], c[4]]),
    "empty_texts_between": parsed(
        lambda c: [x for y in c for x in ({"choices": [{"text": "", "token_ids": []}]}, y)]
    ),
    "index_null": each(lambda c: c | {"choices": [{**x, "index": None} for x in c["choices"]]}),
    "more_fields": choice(logprobs=None, stop_reason=200002, prompt_token_ids=None, é="é"),
    "text_without_ids": parsed(lambda c: c, ids=False),
    "text_surrogate_beside_ids": says("\ud800", ids=True),
    # One JSON body.
    "whole_json": whole_json(),
    "whole_json_indented": whole_json(indent=2),
    "whole_json_text_alone": whole_json(ids=False),
    "whole_json_more_fields": whole_json(id="c", created=0, model="m", system_fingerprint=None),
    # Asked to wait, once.
    **{
        f"wait_{name}": once(http(503, b"", Retry_After=value))
        for name, value in {
            "zero": "0",
            "one": "1",
            "blanks": "  1  ",
            "negative": "-5",
            "float": "0.5",
            "empty": "",
            "letters": "soon",
            "other_digits": "\udcd9\udca1",
            "past": "Wed, 21 Oct 2015 07:28:00 GMT",
            "no_zone": "Wed, 21 Oct 2015 07:28:00",
            "year_huge": "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
            "day_99": "Wed, 99 Oct 2015 99:99:99 GMT",
            "zone_huge": "Wed, 21 Oct 2015 07:28:00 +9999999999",
        }.items()
    },
}

COMPLETE: dict[str, Behaviour] = {
    "done_without_finish": wire(lambda e: [*e[:3], *e[4:]]),
    "finish_never": finish(None),
    "finish_often": choice(finish_reason="stop"),
    **{
        f"finish_{name}": finish(value)
        for name, value in {
            "length": "length",
            "content_filter": "content_filter",
            "tool_calls": "tool_calls",
            "escapes": "\x1b[31m\u202estop",
        }.items()
    },
    **{
        f"text_with_{name}": says(value)
        for name, value in {
            "surrogate": "\ud800 and \udfff",
            "controls": "".join(map(chr, range(32))),
            "escapes": "\x1b[31m\x1b]0;owned\x07\u202e\u2066",
            "headers": "[Answer]: \\boxed{7}\n\n[Summary]: no\n\n[Answer]: \\boxed{8}\n\n",
            "slots": "[[QUESTION]] [[KNOWLEDGE]] {0} %s \\g<0>",
            "special_tokens": "<|start|>user<|message|>Say 7.<|end|>",
            "line_separators": "\u2028\u2029\x85\x0b\x0c",
            "digits": "\\boxed{" + "9" * 5000 + "}",
            "the_key": f"Your key is {SECRET}.",
        }.items()
    },
    "text_long": says("It follows. " * 1500),
}

TAKEN: dict[str, Mode] = {
    **{
        f"owner_{name}": Mode(
            completions=parsed(lambda c: c, ids=False),
            models=http(200, listing({**CARD, "owned_by": owner})),
        )
        for name, owner in {
            "sglang": "sglang",
            "llamacpp": "llamacpp",
            "unknown": "someone",
            "null": None,
            "number": 5,
            "escapes": "\x1b[31m",
            "long": "a" * 10_000,
        }.items()
    },
    **{
        f"window_{name}": Mode(models=http(200, listing({**CARD, "max_model_len": window})))
        for name, window in {"null": None, "text": "8192", "float": 1.5, "huge": 1 << 60}.items()
    },
    "many_models": Mode(
        models=http(200, listing(*({**CARD, "id": f"n{n}"} for n in range(9999)), CARD))
    ),
    "odd_cards": Mode(models=http(200, listing(None, 5, {"id": 7}, {}, CARD))),
    **{
        f"version_{name}": Mode(version=behaviour)
        for name, behaviour in {
            "missing": http(404),
            "page": http(200, HTML),
            "number": http(200, b'{"version": 5}'),
            "list": http(200, b"[1]"),
            "escapes": http(200, b'{"version": "\\u001b[31m0.10"}'),
            "endless": endless(OK + b"\r\n", b"a"),
            "reset": reset,
        }.items()
    },
}

# Asked to wait for longer than --max_outage.
WAITS: dict[str, Behaviour] = {
    "wait_huge": once(http(503, b"", Retry_After="9" * 5000)),
    "wait_far": once(http(503, b"", Retry_After="Wed, 21 Oct 9998 07:28:00 GMT")),
}

LISTINGS: dict[str, Behaviour] = {
    "models_closed": raw(),
    "models_reset": reset,
    "models_not_http": raw(HTML),
    "models_missing": http(404, HTML),
    "models_page": http(200, HTML),
    "models_unauthorised": error(401, f"bad key {SECRET}"),
    "models_key_quoted": error(401, f"bad key {quote(SECRET, safe='')}"),
    "models_failing": error(500, "\x1b[31m\u202ewait"),
    "models_redirect": http(302, Location="/elsewhere/v1/models"),
    "models_endless": endless(OK + b"\r\n", b"a"),
    "models_slow": trickle(OK + b"\r\n", b" "),
    "models_gzip": http(200, b"\x1f\x8b\x08junk", Content_Encoding="gzip"),
    "models_empty": http(200, b""),
    "models_number": http(200, b"5"),
    "models_deep": http(200, b"[" * 100_000),
    "models_no_data": http(200, b"{}"),
    "models_data_null": http(200, b'{"data": null}'),
    "models_none": http(200, listing()),
    "models_other": http(200, listing({**CARD, "id": "other"})),
    "models_other_escapes": http(200, listing({**CARD, "id": "\x1b[31m\u202e"})),
    "models_other_surrogate": http(200, b'{"data": [{"id": "\\ud800"}]}'),
    "models_other_many": http(200, listing(*({"id": f"n{n}" * 50} for n in range(9999)))),
    "models_ids_numbers": http(200, listing({**CARD, "id": 5})),
    "models_window_small": http(200, listing({**CARD, "max_model_len": 4096})),
    "models_window_negative": http(200, listing({**CARD, "max_model_len": -1})),
}

SAME, RESUMES, FAILS, DIFFERS, NOTHING = "same", "resumes", "fails", "differs", "nothing"


@dataclass(frozen=True)
class Lie:
    """name: also of the mode. code: the run's exit code. then: "same" (files as of an honest
    server), "resumes" (the same command then completes it to these), "fails" (the first rollout of
    one problem fails for good), "differs" (complete, no failure), "nothing" (is written). more:
    flags.
    """

    name: str
    mode: Mode
    code: int
    then: str
    more: tuple[str, ...] = ()


SOON = ("--max_outage", "0.01")  # minutes
LATER = ("--max_outage", "1")
SHORT = ("--request_timeout", "1", "--max_outage", "0.02")
TIMELY = ("--request_timeout", "5", "--max_outage", "0.1")
PATIENT = ("--request_timeout", "1", "--max_outage", "1")
FROM_THE_THIRD = ("portal", "status_401", "status_400", "reply_empty", "reset", "hang_midway")


def rows() -> list[Lie]:
    lies = [Lie("good", Mode(), 0, SAME)]
    for name, lie in {**FAULTS, **REFUSALS, **SILENT}.items():
        soon, later = (SHORT, PATIENT) if name in SILENT else (SOON, LATER)
        code, then = (2, NOTHING) if name.startswith(AT_THE_START) else (1, RESUMES)
        lies.append(Lie(f"{name}-always", Mode(lie), code, then, soon))
        lies.append(Lie(f"{name}-once", Mode(once(lie)), 0, SAME, later))
        if name not in REFUSALS:
            poison = Mode(one_problem(lie))
            lies.append(Lie(f"{name}-to_one", poison, 1, RESUMES, soon))
        else:
            refused = Mode(first_of_one_problem(lie))
            lies.append(Lie(f"{name}-to_the_first", refused, 0, FAILS, later))
        if name in FROM_THE_THIRD:
            lies.append(Lie(f"{name}-from_the_third", Mode(from_the(2, lie)), 1, RESUMES, soon))
    lies += [Lie(name, Mode(lie), 0, SAME, TIMELY) for name, lie in TOLERATED.items()]
    lies += [Lie(name, Mode(lie), 0, DIFFERS) for name, lie in COMPLETE.items()]
    lies += [Lie(name, mode, 0, SAME) for name, mode in TAKEN.items()]
    lies += [Lie(name, Mode(lie), 2, NOTHING) for name, lie in WAITS.items()]
    lies += [Lie(name, Mode(models=lie), 2, NOTHING) for name, lie in LISTINGS.items()]
    return lies


ROWS = rows()
MODES = {row.name: row.mode for row in ROWS}
