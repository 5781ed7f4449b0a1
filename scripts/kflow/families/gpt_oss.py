"""The gpt-oss family: harmony token ids in, `...assistantfinal<visible answer>` out
(docs/method.md, "Defaults"). The harmony library carries the vocabulary; the model's own files are
not needed.
"""

from __future__ import annotations

import os
import string
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

from kflow.families.family import Family
from kflow.flags import flag
from kflow.ground.terminal import first_line
from kflow.sections import FINAL
from kflow.types import Prompt, Unreachable, UserError

MESSAGE = "<|message|>"
# Encodings kept: most of a prompt stands in the chain's last one too.
KEPT, LONGEST_KEPT = 8192, 4096  # parts of texts, characters of one
# The vocabulary's pattern ends a piece between a line's end and one of these.
BEGINNINGS = frozenset(string.ascii_letters + string.digits + "*#[")
VOCABULARY = "TIKTOKEN_ENCODINGS_BASE"  # the variable that names a folder with it


def encoding() -> Any:
    """Harmony's tokenizer and format. Raises UserError without its vocabulary."""
    try:
        import openai_harmony as harmony

        return harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
    except Exception as error:  # the library raises its own types for a failed download
        failure = UserError if os.environ.get(VOCABULARY) else Unreachable
        raise failure(
            "Cannot load the harmony vocabulary: let openai-harmony download it once, or set "
            "TIKTOKEN_ENCODINGS_BASE to a folder with o200k_base.tiktoken in it, which "
            "scripts/harmony_vocabulary.py writes on another machine (docs/gpus_and_servers.md). "
            f"({first_line(error)})"
        ) from error


class HarmonyChat:
    """Renders with a reasoning effort, and stops at harmony's assistant-action
    tokens. model, trust_remote_code, revision: ignored."""

    def __init__(
        self,
        model: str = "",
        trust_remote_code: bool = False,
        revision: str | None = None,
        *,
        reasoning_effort: str = "high",
    ) -> None:
        self._encoding = encoding()
        import openai_harmony as harmony

        self._harmony = harmony
        self._effort = harmony.ReasoningEffort[reasoning_effort.upper()]
        self.stop_token_ids = tuple(sorted(self._encoding.stop_tokens_for_assistant_actions()))
        self._kept = lru_cache(KEPT)(self._encode_whole)
        self._frame = lru_cache(KEPT)(self._render_empty)

    def render(self, prompt: Prompt) -> list[int]:
        first, *later = self._frame(tuple(message.role for message in prompt.messages))
        ids = list(first)
        for message, frame in zip(prompt.messages, later, strict=True):
            ids += self._encode(message.content)
            ids += frame
        return ids + self._encode(prompt.prefill)

    def _render_empty(self, roles: Sequence[str]) -> list[list[int]]:
        """What a conversation has before, between and after its messages' texts."""
        h = self._harmony
        of = h.Message.from_role_and_content
        system = h.SystemContent.new().with_reasoning_effort(self._effort)
        # As published, an assistant's turn, which only Markovian thinking has, names no channel.
        messages = [of(h.Role.SYSTEM, system), *(of(h.Role(role), "") for role in roles)]
        conversation = h.Conversation.from_messages(messages)
        ids = self._encoding.render_conversation_for_completion(conversation, h.Role.ASSISTANT)
        (mark,) = self._encoding.encode(MESSAGE, allowed_special={MESSAGE})
        _, *ends = (place + 1 for place, token in enumerate(ids) if token == mark)
        places = [0, *ends, len(ids)]
        return [ids[a:b] for a, b in pairwise(places)]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in parts(text):
            ids += self._kept(part) if len(part) <= LONGEST_KEPT else self._encode_whole(part)
        return ids

    def _encode_whole(self, text: str) -> array[int]:
        # Text is data: what looks like a special token is encoded as the characters it is.
        return array("I", self._encoding.encode(text, disallowed_special=()))

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        if skip_special_tokens:
            ids = [token for token in ids if not self._encoding.is_special_token(token)]
        return str(self._encoding.decode(ids))

    def count(self, text: str) -> int:
        return len(self._encode(text))


def parts(text: str) -> Iterator[str]:
    """A text in parts whose encodings, one after another, are the text's: a token ends where its
    piece ends, and a piece that holds a line's end goes on with white space or a slash only."""
    part, *lines = text.split("\n")
    for line in lines:
        if line[:1] in BEGINNINGS:
            yield part + "\n"
            part = line
        else:
            part += "\n" + line
    yield part


@dataclass(frozen=True)
class GptOss(Family):
    reasoning_effort: Literal["low", "medium", "high"] = flag(
        "high", "how long the model is asked to think"
    )


FAMILY = GptOss(
    name="gpt_oss",
    model="openai/gpt-oss-120b",
    max_new_tokens=131072,
    engine_args={
        "dtype": "bfloat16",
        "gpu_memory_utilization": 0.9,
        "async_scheduling": True,
        "enable_prefix_caching": False,
        "cuda_graph_sizes": [2048],
        "compilation_config": {
            "pass_config": {"enable_fi_allreduce_fusion": True, "enable_noop": True},
            "custom_ops": ["+rms_norm"],
            "cudagraph_mode": "FULL_AND_PIECEWISE",
        },
    },
    environment={
        "VLLM_ATTENTION_BACKEND": "TRITON_ATTN_VLLM_V1",
        "VLLM_FLASHINFER_ALLREDUCE_FUSION_THRESHOLDS_MB": '{"2":32,"4":32,"8":8}',
        "VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8": "1",
    },
    end_of_thinking=FINAL,
    chat=HarmonyChat,
)
