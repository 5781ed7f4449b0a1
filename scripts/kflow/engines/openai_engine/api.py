"""The two APIs of OpenAI-compatible servers, and all that they differ in.

Requests to both go through the same engine (openai.py). The official client is not taken for
either: it reads a stream at many times the cost, and would bring rules of its own for what is asked
again and what is shown of an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kflow.engines.openai_engine.retry import Fault
from kflow.engines.openai_engine.streamed import Streamed
from kflow.types import Chat, Completion, Key, Request

Json = dict[str, Any]

# What vLLM's offline engine samples with by default. A server would put in the model's
# own generation_config instead (vLLM, SGLang), or defaults of its own (llama.cpp).
NEUTRAL: Mapping[str, object] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
# The same for llama.cpp, which calls one otherwise and has samplers of its own that a server may be
# started with. What is left of an earlier prompt would change the order of sums, and so the reply.
LLAMACPP: Mapping[str, object] = {
    **{name: value for name, value in NEUTRAL.items() if name != "repetition_penalty"},
    "repeat_penalty": 1.0,
    "typical_p": 1.0,
    "dry_multiplier": 0.0,
    "xtc_probability": 0.0,
    "dynatemp_range": 0.0,
    "top_n_sigma": -1.0,
    "mirostat": 0,
    "cache_prompt": False,
}
# The fields of requests that are the program's own to send or to leave out.
OWN_FIELDS = frozenset(
    {
        "model", "prompt", "messages", "stream", "stream_options", "stream_interval", "n",
        "best_of", "echo", "max_tokens", "max_completion_tokens", "seed", "temperature", "top_p",
        *NEUTRAL, "stop_token_ids", "reasoning_effort", "skip_special_tokens", "return_token_ids",
        "add_special_tokens", "cache_prompt", "regex", "guided_regex", "structured_outputs",
    }
)  # fmt: skip
STREAM_INTERVAL = {"stream_interval": 16}  # tokens per chunk: less to do at both ends


@dataclass(frozen=True)
class Api:
    """path: after --base_url. chat: whether replies are messages. asked: the fields of a request
    that hold its prompt. completion: a complete reply as the run gets it, but for how it ended;
    raises Fault. extras: fields beyond the API's own that a server takes, by what /v1/models says
    of who owns a model."""

    path: str
    chat: bool
    asked: Callable[[Request, Chat], Json]
    completion: Callable[[Key, Streamed, Chat], Completion]
    extras: Mapping[str, Mapping[str, object]]


def token_ids(request: Request, chat: Chat) -> Json:
    return {"prompt": list(request.prompt_ids)}


def text(request: Request, chat: Chat) -> Json:
    return {"prompt": chat.decode(list(request.prompt_ids), skip_special_tokens=False)}


def messages(request: Request, chat: Chat) -> Json:
    turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
    return {"messages": turns}


def decoded(key: Key, reply: Streamed, chat: Chat) -> Completion:
    """A reply by its token ids where there are any, which count as they do for the offline
    engine."""
    if reply.ids is None:
        used = reply.used
        return Completion(key, reply.text, chat.count(reply.text) if used is None else used)
    try:
        return Completion(key, chat.decode(reply.ids, skip_special_tokens=True), len(reply.ids))
    except Exception as error:  # whatever a tokenizer raises for ids it does not have
        raise Fault(f"token ids outside the tokenizer's vocabulary ({error})") from None


def joined(end_of_thinking: str) -> Callable[[Key, Streamed, Chat], Completion]:
    """A reply whose reasoning, where it was sent beside the text, precedes it as in a reply that
    holds both, with the server's counts of its tokens."""

    def completion(key: Key, reply: Streamed, chat: Chat) -> Completion:
        parts = [part for part in (reply.thought, reply.text) if part.strip()]
        whole, (prompt, used) = f"\n{end_of_thinking}\n\n".join(parts), reply.billed
        counts = {"prompt_tokens": prompt, "completion_tokens": used}
        return Completion(
            key,
            whole,
            chat.count(whole) if used is None else used,
            prompt_tokens=prompt,
            estimated=tuple(name for name, count in counts.items() if count is None),
        )

    return completion


COMPLETIONS = Api(
    "completions",
    False,
    token_ids,
    decoded,
    {
        "vllm": {
            **NEUTRAL,
            "skip_special_tokens": True,
            "return_token_ids": True,
            "add_special_tokens": False,
            **STREAM_INTERVAL,
        },
        "sglang": {**NEUTRAL, "skip_special_tokens": True},
        "llamacpp": LLAMACPP,
    },
)
AS_TEXT = replace(COMPLETIONS, asked=text)


def chat_completions(end_of_thinking: str) -> Api:
    """end_of_thinking: what a family's visible answers follow."""
    return Api(
        "chat/completions",
        True,
        messages,
        joined(end_of_thinking),
        {
            "vllm": {**NEUTRAL, **STREAM_INTERVAL},
            "sglang": NEUTRAL,
            "llamacpp": LLAMACPP,
        },
    )
