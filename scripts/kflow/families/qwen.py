"""The Qwen family, and any other model that brings a chat template (METHOD.md, "Defaults")."""

from __future__ import annotations

import re

from ..terminal import first_line
from ..types import Prompt, UserError
from .family import Family

THINKING_ENDS = "</think>"


class TemplateChat:
    """Renders with the tokenizer's own chat template and a generation prompt."""

    stop_token_ids: tuple[int, ...] = ()  # vLLM stops at the model's own end-of-sequence tokens

    def __init__(self, model: str, trust_remote_code: bool) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                model, trust_remote_code=trust_remote_code
            )
        except Exception as error:  # whatever a broken folder or a closed network raises
            raise UserError(
                f"Cannot load a tokenizer for --model_name {model}: give a folder that holds one, "
                f"or a hub name with the network up. ({first_line(error)})"
            ) from error
        if not self._tokenizer.chat_template:
            raise UserError(
                f"The tokenizer of {model} has no chat template: give --model_name a chat model."
            )
        added = self._tokenizer.added_tokens_decoder.values()
        special = {*self._tokenizer.all_special_tokens, *(str(t) for t in added if t.special)}
        self._special = re.compile(
            "|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)"
        )

    def render(self, prompt: Prompt) -> list[int]:
        turns = [{"role": m.role, "content": self._as_data(m.content)} for m in prompt.messages]
        text = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer.encode(text + prompt.opening, add_special_tokens=False))

    def _as_data(self, text: str) -> str:
        """Text that spells a special token gets a blank into it, lest it end its own turn."""
        return self._special.sub(lambda match: match.group()[0] + " " + match.group()[1:], text)

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        text = self._tokenizer.decode(
            ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return str(text)

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def visible(self, text: str) -> str:
        return text.rpartition(THINKING_ENDS)[2]


FAMILY = Family(
    model="Qwen/Qwen3-235B-A22B-Thinking-2507",
    max_new_tokens=262144,
    engine_args={
        "dtype": "bfloat16",
        "gpu_memory_utilization": 0.9,
        "async_scheduling": True,
    },
    chat=TemplateChat,
)
