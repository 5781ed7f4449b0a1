"""The gpt-oss family: harmony token ids in, `...assistantfinal<visible answer>` out (METHOD.md,
"Defaults"). The harmony library carries the vocabulary; the model's own files are not needed.
"""

from __future__ import annotations

import os
from typing import Any

from ..terminal import first_line
from ..types import Message, Prompt, Unreachable, UserError
from .family import Family

FINAL = "assistantfinal"
EFFORTS = ("low", "medium", "high")
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
            "scripts/harmony_vocabulary.py writes on another machine (docs/running_on_gpus.md). "
            f"({first_line(error)})"
        ) from error


class HarmonyChat:
    """Renders with a reasoning effort and stops at harmony's assistant-action tokens."""

    def __init__(self, reasoning_effort: str = "high") -> None:
        if reasoning_effort not in EFFORTS:
            raise UserError(
                f"gpt-oss has no reasoning effort {reasoning_effort}: give {', '.join(EFFORTS)}."
            )
        self._encoding = encoding()
        import openai_harmony as harmony

        self._harmony = harmony
        self._effort = harmony.ReasoningEffort[reasoning_effort.upper()]
        self.stop_token_ids = tuple(sorted(self._encoding.stop_tokens_for_assistant_actions()))

    def render(self, prompt: Prompt) -> list[int]:
        h = self._harmony
        system = h.SystemContent.new().with_reasoning_effort(self._effort)
        conversation = h.Conversation.from_messages(
            [
                h.Message.from_role_and_content(h.Role.SYSTEM, system),
                *(self._message(message) for message in prompt.messages),
            ]
        )
        ids = self._encoding.render_conversation_for_completion(conversation, h.Role.ASSISTANT)
        return [*ids, *self._encode(prompt.prefill)]

    def _message(self, message: Message):  # type: ignore[no-untyped-def]
        h = self._harmony
        if message.role == "user":
            return h.Message.from_role_and_content(h.Role.USER, message.content)
        # What an assistant's turn carries over is thinking that goes on, not an answer given.
        turn = h.Message.from_role_and_content(h.Role.ASSISTANT, message.content)
        return turn.with_channel("analysis")

    def _encode(self, text: str) -> list[int]:
        # Text is data: what looks like a special token is encoded as the characters it is.
        return list(self._encoding.encode(text, disallowed_special=()))

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        if skip_special_tokens:
            ids = [token for token in ids if not self._encoding.is_special_token(token)]
        return str(self._encoding.decode(ids))

    def count(self, text: str) -> int:
        return len(self._encode(text))

    def visible(self, text: str) -> str:
        return text.rpartition(FINAL)[2]


def family(reasoning_effort: str = "high") -> Family:
    """The published family, or one that thinks less: low, medium or high."""
    return Family(
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
        chat=lambda model, trust_remote_code, revision: HarmonyChat(reasoning_effort),
        reasoning_effort=reasoning_effort,
    )


FAMILY = family()
