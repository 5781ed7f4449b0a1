"""Model families that bring a chat template with their tokenizer (docs/method.md, "Defaults")."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from kflow.ground import hub
from kflow.ground.terminal import first_line
from kflow.types import Prompt, UserError


class TemplateChat:
    """Renders with the tokenizer's own chat template and a generation prompt.

    system: the system message, "" for none. arguments: what the template takes besides, e.g.
    {"enable_thinking": True} or {"reasoning_effort": "low"}. Raises UserError where there is no
    such tokenizer or template, and for an argument that the template does not know and would
    ignore.
    """

    stop_token_ids: tuple[int, ...] = ()  # vLLM stops at the model's own end-of-sequence tokens

    def __init__(
        self,
        model: str,
        trust_remote_code: bool = False,
        revision: str | None = None,
        *,
        system: str = "",
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                model, trust_remote_code=trust_remote_code, revision=revision or "main"
            )
        except Exception as error:  # whatever a broken folder or a closed network raises
            failure = UserError if os.path.isdir(model) else hub.failure
            raise failure(
                f"Cannot load a tokenizer for --model_name {model}: give a folder that holds one, "
                f"or a hub name with the network up. ({first_line(error)})"
            ) from error
        if not self._tokenizer.chat_template:
            raise UserError(
                f"The tokenizer of {model} has no chat template: give --model_name a chat model."
            )
        self._system = [{"role": "system", "content": system}] if system else []
        self._arguments = dict(arguments or {})
        for name in self._arguments:
            if name not in str(self._tokenizer.chat_template):
                raise UserError(
                    f"The chat template of {model} takes no {name}: leave the flag out, or give "
                    "--model_name a model whose template does."
                )
        added = self._tokenizer.added_tokens_decoder.values()
        special = {*self._tokenizer.all_special_tokens, *(str(t) for t in added if t.special)}
        self._special = re.compile(
            "|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)"
        )

    def render(self, prompt: Prompt) -> list[int]:
        turns = [{"role": m.role, "content": self._as_data(m.content)} for m in prompt.messages]
        text = self._tokenizer.apply_chat_template(
            [*self._system, *turns], tokenize=False, add_generation_prompt=True, **self._arguments
        )
        text += self._as_data(prompt.prefill)
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _as_data(self, text: str) -> str:
        """Text in which every special token that it spells is broken by a space, so that it cannot
        end its own turn."""
        return self._special.sub(lambda match: match.group()[0] + " " + match.group()[1:], text)

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        text = self._tokenizer.decode(
            ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return str(text)

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))
