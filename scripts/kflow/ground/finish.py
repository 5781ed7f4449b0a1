"""How a reply ended: the words that engines and servers have for it, in one table."""

from __future__ import annotations

# As they go on record, whatever the engine's own word was.
STOP, LENGTH = "stop", "length"
# By itself: OpenAI and vLLM; TGI; Anthropic and those who pass its words on; Cohere.
COMPLETE = frozenset({"stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete"})
# At its budget, or at the end of the window: OpenAI and vLLM; Gemini; Mistral; GLM and Anthropic.
TRUNCATED = frozenset(
    {
        "length", "max_tokens", "max_output_tokens", "model_length",
        "model_context_window_exceeded",
    }
)  # fmt: skip
# The engine or the server stopped, and not the reply, which is asked for again: vLLM and SGLang;
# OpenRouter; DeepSeek; GLM; Ollama.
BROKEN_OFF = frozenset(
    {
        "abort", "aborted", "cancelled", "canceled", "error", "insufficient_system_resource",
        "network_error", "timeout", "unload",
    }
)  # fmt: skip


def on_record(reason: str | None) -> str | None:
    """`stop` for a complete reply, `length` for one truncated at its budget, and any other word as
    it is: such a reply is kept, counted (`Summary.other_finish_reasons`) and said once."""
    word = (reason or "").lower()
    if word in COMPLETE:
        return STOP
    return LENGTH if word in TRUNCATED else reason


def broken_off(reason: str | None) -> bool:
    """Whether the engine stopped in the middle of a reply."""
    return (reason or "").lower() in BROKEN_OFF
