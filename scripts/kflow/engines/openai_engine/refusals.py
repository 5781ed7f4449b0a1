"""What a server's refusal says: which field it does not know, what length it takes, and what the
user can do about it. Servers put it into words, so words are read; what they do not say is not
guessed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from kflow.engines.openai_engine.network import proxy_of
from kflow.engines.openai_engine.retry import Fault, Who
from kflow.ground.redaction import KEY, masked
from kflow.ground.terminal import counted

# A newer API calls a field by another name.
RENAMED = {"max_tokens": "max_completion_tokens"}
NEAREST = 3  # names
BY_SERVERS = (400, 401, 402, 422, 429)  # statuses that hardly any proxy gives in a server's place
OF_FLAGS = ("temperature", "top_p", "top_k", "reasoning_effort")  # fields by the names of flags

NUMBER = r"[\[`'\"(]*(\d[\d,]{0,11})"
# The room that a server has for a prompt and its reply, for a reply alone, and what it counted for
# the prompt: vLLM, SGLang, llama.cpp, TGI, OpenAI and those who speak like it, DeepSeek, Mistral.
WINDOW = re.compile(
    rf"(?:context (?:length|size|window)|max_model_len\w*)(?: of| is| only|=|:)* ?{NUMBER}"
    rf"|must be <= ?{NUMBER}|context size \({NUMBER} tokens|model with {NUMBER} maximum context",
    re.I,
)
LONGEST_REPLY = re.compile(
    rf"(?:at most|no more than|less than or equal to|maximum of|up to) {NUMBER}"
    rf"|max\w*tokens is \[\d+, ?{NUMBER}\]",
    re.I,
)
PROMPT = re.compile(
    rf"{NUMBER} (?:in the (?:messages|prompt)|(?:text )?input tokens|tokens? (?:from the input|in "
    rf"(?:the|your) (?:prompt|messages|input))|of text input|`?inputs`? tokens)"
    rf"|contains (?:at least )?{NUMBER} (?:input )?tokens|request \({NUMBER} tokens\)",
    re.I,
)
TOTAL = re.compile(rf"requested (?:about |a total of )?{NUMBER} tokens", re.I)
OF_LENGTH = re.compile(r"context|max_\w*tokens|max_new_tokens|too (?:large|long|many)", re.I)


def named(words: str, sent: Collection[str], optional: Sequence[str]) -> str | None:
    """The field of a request that a refusal names, of those that can be left out or have another
    name; None where it names none."""
    for name, other in RENAMED.items():
        if name in sent and other in words:
            return name
    # As servers write it: reasoning_effort, reasoningEffort.
    spelled = {name: rf"\b{name.replace('_', '_?')}\b" for name in optional if name in sent}
    return next((name for name in spelled if re.search(spelled[name], words, re.I)), None)


def first_number(pattern: re.Pattern[str], words: str) -> int | None:
    match = pattern.search(words)
    if match is None:
        return None
    return int(next(filter(None, match.groups())).replace(",", ""))


def room(words: str, prompt: int, budget: int) -> int | None:
    """The tokens that a refusal of a budget leaves for a reply, None where it does not say. prompt:
    its tokens as they are counted here, which the server's own count goes before."""
    if not OF_LENGTH.search(words):
        return None
    window, there = first_number(WINDOW, words), first_number(PROMPT, words)
    total = first_number(TOTAL, words)
    if window is None:
        return first_number(LONGEST_REPLY, words)
    if there is None and total is not None:
        return budget - (total - window)
    return window - (prompt if there is None else there)


def lowered(words: str, prompt: int, budget: int, asked_for: int) -> int | None:
    """The budget that a refusal leaves; None where it does not say one, or leaves less than half
    of what the rollout asked for: then the length is wrong, and not its last tokens."""
    left = room(words, prompt, budget)
    return left if left is not None and asked_for // 2 <= left < budget else None


@dataclass(frozen=True)
class Asked:
    """What was asked of a server, for the sentence about its refusal."""

    url: str
    path: str  # after the address
    model: str  # its name there
    flag: str = "--served_model_name"  # that named it
    names: Sequence[str] = ()  # of the models that the server lists
    sampling: Iterable[str] = ()  # the fields that flags have set
    tokens: int = 0  # of the prompt and its budget, as they are counted here

    @property
    def name(self) -> str:
        return masked(self.url)


def sentence(asked: Asked, fault: Fault, more: str = "") -> str:
    """Why a run cannot go on with a server, and the one thing to do about it."""
    what, remedy = cause(asked, fault, fault.words.lower())
    return f"{asked.name} {what} ({fault}): {remedy}{more}."


def cause(asked: Asked, fault: Fault, words: str) -> tuple[str, str]:
    own = fault.status in BY_SERVERS or is_about_model(asked, words, fault)
    if not own and (proxy := proxy_of(asked.url)):
        remedy = f"set no_proxy={urlsplit(asked.url).hostname}"
        return f"cannot be used through the proxy {masked(proxy)}", remedy
    if fault.status in (401, 403) or (fault.who is Who.REQUEST and "api key" in words):
        if not os.environ.get(KEY, "").strip():
            return "requires a key", f"set {KEY}"
        return f"refuses the key in {KEY}", "set one that it accepts"
    if fault.who is Who.ACCOUNT and "too large" in words:
        return "takes no request of this length", "lower --max_new_tokens"
    if fault.who is Who.ACCOUNT and fault.status in (400, 402, 429):
        return "has no credit for this account", "add some"
    if is_about_model(asked, words, fault):
        return f"does not serve {asked.model}", of_names(asked)
    if fault.status in (404, 405, 501) and asked.path == "completions":
        return "has no /completions endpoint", "use --engine chat"
    if fault.who is Who.ACCOUNT:
        return "cannot be used", "correct --base_url, which usually ends in /v1"
    if fault.who is Who.REQUEST:
        return "refuses a rollout's request", of_field(asked, words)
    if fault.status == 500:
        return "cannot be used", "check its log"
    if not fault.status and "certificate_verify_failed" in words:
        remedy = "set SSL_CERT_FILE to a file that holds its issuer's certificate"
        return "has a certificate that is not trusted here", remedy
    if not fault.status and "[ssl" in words:
        return "does not answer over HTTPS", "write http:// if it is a server without TLS"
    return "cannot be used", "start the server first, or correct --base_url"


def is_about_model(asked: Asked, words: str, fault: Fault) -> bool:
    if asked.path == "models":
        return False
    if fault.status == 404:
        return "model" in words
    return fault.who is Who.REQUEST and asked.model.lower() in words and not OF_LENGTH.search(words)


def of_names(asked: Asked) -> str:
    near = nearest(asked.model, [name for name in asked.names if name != asked.model])
    if not near:
        return f"give its own name as {asked.flag}"
    return f"give a name of its {counted(len(asked.names), 'model')} as {asked.flag}: {near}"


def of_field(asked: Asked, words: str) -> str:
    if OF_LENGTH.search(words):
        window = first_number(WINDOW, words) or first_number(LONGEST_REPLY, words)
        there = first_number(PROMPT, words)
        if window and there and there >= window >= asked.tokens > 0:
            return "serve it with a larger window"
        return f"lower --max_new_tokens{f' to {window}' if window else ''}"
    flags = [name for name in asked.sampling if re.search(rf"\b{name}\b", words)]
    if flags:
        named = flags[0] if flags[0] in OF_FLAGS else "request_args"
        return f"change --{named}"
    if "prompt" in words and asked.path == "completions":
        return "give --prompt_as_text"
    return "change the setting that this message is about"


def nearest(model: str, names: Sequence[str]) -> str:
    """The names nearest to a model's, by their last parts where it has no slash."""

    def likeness(name: str) -> float:
        short = name if "/" in model else name.rpartition("/")[2]
        return difflib.SequenceMatcher(None, model.lower(), short.lower()).ratio()

    near = sorted(names, key=likeness, reverse=True)[:NEAREST]
    return ", ".join(name[:200] for name in near)
