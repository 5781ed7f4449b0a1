"""Any family on a server that renders prompts itself: messages out, text in, no model files needed.

Nothing here is sent. Prompts are rendered for the record, and measured: by the model's tokenizer
where --model_name is a folder that holds it, else by an estimate.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from kflow.families.family import Family
from kflow.flags import flags_of
from kflow.ground.terminal import first_line
from kflow.types import Prompt, UserError

# UTF-8 bytes a token stands for: about 4 in English prose, fewer in formulas, and a character of
# three bytes is about one token. So few that a prompt is seldom longer than is reckoned.
BYTES_PER_TOKEN = 3


@dataclass
class MessagesChat:
    """encode: text -> ids, as many as it has tokens. join: ids -> text."""

    encode: Callable[[str], list[int]]
    join: Callable[[list[int]], str]
    stop_token_ids: tuple[int, ...] = ()

    def render(self, prompt: Prompt) -> list[int]:
        """Raises UserError for a prompt that begins the assistant's turn."""
        if goes_on(prompt):
            other = (
                "run the gpt-oss script of the same method, which begins no turn and takes any "
                "model (vllm_kflow_oss.py for vllm_kflow_qwen.py)"
            )
            goes_on_from = "text that the reply goes on from" if prompt.continues else "a prefill"
            raise UserError(
                f"A prompt begins the assistant's turn ({goes_on_from}), for which the chat "
                f"completions API has no field: {'' if prompt.continues else f'{other}, or '}"
                "use --engine openai; in a study, leave this arm out with --arms."
            )
        return self.encode("\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt.messages))

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return self.join(ids)

    def count(self, text: str) -> int:
        return len(self.encode(text))


def in_messages(family: Family) -> Family:
    """The family as it talks to a server that renders prompts itself. Raises UserError for a choice
    of the family's that only a prompt rendered here would hold."""
    for each in flags_of(family):
        chosen = getattr(family, each.name) != each.default
        if chosen and each.name != "reasoning_effort":  # which is sent
            raise UserError(
                f"--{each.name} is not sent with --engine chat, whose servers render the prompts: "
                "leave it out, or use --engine openai."
            )
    return replace(family, chat=load)


def load(model: str, trust_remote_code: bool, revision: str | None, **_: object) -> MessagesChat:
    """`Family.chat`, with the tokenizer of a local model. Raises UserError where a folder has
    none."""
    if not os.path.isdir(model):
        return estimating()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a broken folder raises
        raise UserError(
            f"Cannot load a tokenizer from the folder {model}: give --model_name a folder with "
            "one, or a name that is not a folder, to have prompt lengths estimated. "
            f"({first_line(error)})"
        ) from error
    return MessagesChat(
        partial(tokenizer.encode, add_special_tokens=False),
        partial(tokenizer.decode, clean_up_tokenization_spaces=False),
    )


def estimating() -> MessagesChat:
    """Without a tokenizer: lengths are reckoned."""
    return MessagesChat(pieces, text_of)


def pieces(text: str) -> list[int]:
    """A text in as many pieces as it is reckoned to have tokens, each as a number."""
    content = text.encode()
    cuts = range(0, len(content), BYTES_PER_TOKEN)
    return [int.from_bytes(b"\1" + content[cut : cut + BYTES_PER_TOKEN], "big") for cut in cuts]


def text_of(pieces: list[int]) -> str:
    """Whole texts only: a cut may be within a character."""
    padded = (piece.to_bytes(BYTES_PER_TOKEN + 1, "big") for piece in pieces)
    return b"".join(piece.lstrip(b"\0")[1:] for piece in padded).decode()


def goes_on(prompt: Prompt) -> bool:
    """Whether the reply goes on from a text in the assistant's turn."""
    return bool(prompt.prefill or prompt.continues) or prompt.messages[-1].role == "assistant"
