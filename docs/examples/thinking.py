"""A family: chat models that think up to `</think>`, as DeepSeek-R1 does. Two arguments of the chat
template, for models whose template takes them, are flags of the scripts that use this family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kflow.families.chat import TemplateChat
from kflow.families.family import Family
from kflow.flags import flag
from kflow.sections import END_OF_THINKING
from kflow.types import Chat


@dataclass(frozen=True)
class Thinking(Family):
    no_thinking: bool = flag(False, "ask for a reply without thinking")
    reasoning_effort: Literal["low", "medium", "high"] | None = flag(
        None, "how long the model thinks (the template's)"
    )


def chat(*model: Any, no_thinking: bool, reasoning_effort: str | None) -> Chat:
    arguments: dict[str, object] = {}
    if no_thinking:
        arguments["enable_thinking"] = False
    if reasoning_effort is not None:
        arguments["reasoning_effort"] = reasoning_effort
    return TemplateChat(*model, arguments=arguments)


FAMILY = Thinking(
    name="thinking",
    model="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    max_new_tokens=32768,
    engine_args={"dtype": "bfloat16", "gpu_memory_utilization": 0.9},
    end_of_thinking=END_OF_THINKING,
    chat=chat,
)
