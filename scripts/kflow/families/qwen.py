"""The Qwen thinking models (docs/method.md, "Defaults")."""

from __future__ import annotations

from kflow.families.chat import TemplateChat
from kflow.families.family import Family
from kflow.sections import END_OF_THINKING

FAMILY = Family(
    name="qwen",
    model="Qwen/Qwen3-235B-A22B-Thinking-2507",
    max_new_tokens=262144,
    engine_args={
        "dtype": "bfloat16",
        "gpu_memory_utilization": 0.9,
        "async_scheduling": True,
    },
    environment={"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"},
    end_of_thinking=END_OF_THINKING,
    chat=TemplateChat,
)
