"""Whether the installed vLLM takes an engine's arguments; nothing is started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields

from kflow.ground.redaction import public
from kflow.ground.terminal import first_line, shortened
from kflow.types import Unreachable, UserError


def build(arguments: Mapping[str, object]) -> None:
    """Make vLLM's own EngineArgs of them. Raises UserError for those that it refuses, Unreachable
    where there is no vLLM to ask."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import EngineArgs
    except Exception as error:  # a missing library, or a driver's that does not load
        raise Unreachable(
            f"the engine's arguments: vLLM does not import here ({first_line(error)})"
        ) from error
    names = {each.name for each in fields(EngineArgs)}
    if unknown := sorted(arguments.keys() - names):
        raise UserError(
            f"vLLM has no engine argument {', '.join(map(shortened, unknown))}: correct "
            "--engine_args."
        )
    try:
        # Whose folder is there: without a network the model's own would be looked for.
        EngineArgs(**{**arguments, "model": os.curdir})
    except Exception as error:  # of its own checks, many types
        raise UserError(
            f"vLLM refuses {public(dict(arguments))}: change the flag or --engine_args it names. "
            f"({public(first_line(error))})"
        ) from error
