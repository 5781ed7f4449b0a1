"""How a reply ended: the words that engines and servers have for it, in one table."""

from __future__ import annotations

# As they go on record, whatever the engine's own word was.
STOP, LENGTH = "stop", "length"
COMPLETE = ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete")
TRUNCATED = (
    "length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded",
)  # fmt: skip
# The engine or server stopped, not the reply: asked again.
BROKEN_OFF = (
    "abort", "aborted", "cancelled", "canceled", "error", "insufficient_system_resource",
    "network_error", "timeout", "unload",
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
