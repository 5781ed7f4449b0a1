"""Model families that bring a chat template with their tokenizer (docs/method.md, "Defaults")."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kflow.ground import hub
from kflow.ground.files import read_regular
from kflow.ground.terminal import first_line
from kflow.types import Message, Prompt, UserError

PROBE = "A question of lamps and bridges"


def check_age(folder: Path) -> None:
    """Raises UserError for a model that transformers 5 saved where version 4 is installed: of what
    was renamed in between, version 4 does not know the tokenizer's class, and ignores the base of
    the positions, with which every reply would be another."""
    version = importlib.metadata.version("transformers")
    if int(version.split(".")[0]) >= 5 or not folder.is_dir():
        return
    config, tokenizer = (read(folder / name) for name in ("config.json", "tokenizer_config.json"))
    if tokenizer.get("tokenizer_class") == "TokenizersBackend" or (
        "rope_parameters" in config and "rope_theta" not in config
    ):
        raise UserError(
            f"{folder} was saved by transformers 5, and transformers {version}, installed here, "
            "cannot read it correctly: save it with version 4, or use requirements/current.txt."
        )


def read(path: Path) -> dict[str, object]:
    """A file of JSON; {} where it holds none, which is for others to say."""
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


class TemplateChat:
    """Renders with the tokenizer's own chat template and a generation prompt.

    system: the system message, "" for none. arguments: what the template takes besides, e.g.
    {"enable_thinking": True} or {"reasoning_effort": "low"}. Raises UserError where there is no
    such tokenizer or template, and for an argument that the template does not know and would
    ignore.

    A text is given to the template as a list of parts where it would not arrive as a plain string,
    as with models that see images too.
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

        check_age(Path(model))
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                model, trust_remote_code=trust_remote_code, revision=revision or "main"
            )
        except Exception as error:  # whatever a broken folder or a closed network raises
            local = os.path.isdir(model)
            failure, why = (UserError, first_line) if local else (hub.failure, hub.reason)
            raise failure(
                f"Cannot load a tokenizer for --model_name {model}: give a folder that holds one, "
                f"or a hub name with the network up. ({why(error)})"
            ) from error
        if not self._tokenizer.chat_template:
            raise UserError(
                f"The tokenizer of {model} has no chat template: give --model_name a chat model."
            )
        self._model = model
        self._system = [Message("system", system)] if system else []
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
        self._in_parts = self._find_roles_in_parts()

    def render(self, prompt: Prompt) -> list[int]:
        """Raises UserError for a conversation that the template refuses."""
        messages = [*self._system, *prompt.messages]
        try:
            text = self._fill_template(messages, self._in_parts)
        except Exception as error:  # whatever a template raises, and jinja for it
            turns = ", ".join(message.role for message in messages)
            raise UserError(
                f"The chat template of {self._model} does not take this prompt's turns ({turns}): "
                "give --model_name a model whose template does, or run another script. "
                f"({first_line(error)})"
            ) from error
        text += self._as_data(prompt.prefill)
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _fill_template(self, messages: Sequence[Message], in_parts: Collection[str]) -> str:
        """The prompt as text. in_parts: the roles whose texts are given as a list of parts."""
        turns: list[dict[str, object]] = []
        for message in messages:
            text = self._as_data(message.content)
            parts = [{"type": "text", "text": text}]
            turns.append(
                {"role": message.role, "content": parts if message.role in in_parts else text}
            )
        return str(
            self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, **self._arguments
            )
        )

    def _find_roles_in_parts(self) -> Collection[str]:
        """The roles whose texts arrive in the prompt only as a list of parts. Raises UserError
        where a system message does not arrive at all."""
        system = [replace(message, content=PROBE) for message in self._system]
        opening = [*system, Message("user", PROBE)]
        choices: tuple[tuple[str, ...], ...] = ((), ("user",), ("user", "system"))
        found = next((roles for roles in choices if self._arrives(opening, roles)), ())
        if system and not self._arrives([*system, Message("user", "?")], found):
            raise UserError(
                f"The chat template of {self._model} drops the system message: give --model_name "
                "a model whose template keeps it."
            )
        turns = [*self._system, Message("user", "?"), Message("assistant", PROBE)]
        with_assistant = (*found, "assistant")
        if not self._arrives(turns, found) and self._arrives(turns, with_assistant):
            return with_assistant
        return found

    def _arrives(self, messages: Sequence[Message], in_parts: Collection[str]) -> bool:
        """Whether the probe arrives in the prompt as often as it stands in the messages."""
        try:
            text = self._fill_template(messages, in_parts)
        except Exception:  # no prompt, no text in it
            return False
        return text.count(PROBE) >= sum(message.content == PROBE for message in messages)

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
