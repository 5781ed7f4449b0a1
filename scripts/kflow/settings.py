"""What a run is asked to do besides its experiment: one frozen dataclass. The command line is made
from its fields, `--dry_run` and run.json print it, and resume compares a part of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from .flags import Group, default_of, parse
from .options import (
    AnyEngine,
    Data,
    ExperimentFlags,
    Results,
    Sampling,
    Schedule,
    ServerFlags,
    VllmFlags,
)
from .types import UserError

M = TypeVar("M")

SERVER_HELP = (
    "Any server with the OpenAI completions API, with sampling and prompts as for the vLLM "
    "engine. A key is read from OPENAI_API_KEY in the environment."
)
GROUPS = (
    Group("the experiment", fields(ExperimentFlags)),
    Group("sampling", fields(Sampling)),
    Group("problems", fields(Data)),
    Group("the schedule", fields(Schedule)),
    Group("the engine", fields(AnyEngine)),
    Group("the vLLM engine (--engine vllm)", fields(VllmFlags)),
    Group("a server (--engine openai)", fields(ServerFlags), SERVER_HELP),
    Group("results", fields(Results)),
)
# Flags of one engine only.
ONLY = {
    "vllm": frozenset(each.name for each in fields(VllmFlags)),
    "openai": frozenset(each.name for each in fields(ServerFlags)),
}
# What every rollout depends on; the rest is compared where it has become data, prompts or engine.
IDENTITY = (
    "max_new_tokens", "temperature", "top_p", "top_k", "seed", "token_budget", "force_sections",
    "stop_when_stable", "engine", "prompt_as_text", "speculate",
)  # fmt: skip
ACTIONS = frozenset({"dry_run", "overwrite"})


@dataclass(frozen=True)
class Settings(
    Results, ServerFlags, VllmFlags, AnyEngine, Schedule, Data, Sampling, ExperimentFlags
):
    """All flags of a script as attributes. Raises UserError for a value that the flag would be
    refused for."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value == default_of(each):
                continue
            try:
                object.__setattr__(self, each.name, each.metadata["rule"].check(value))
            except ValueError as error:
                raise UserError(f"{each.name} {error}.") from error
        changed = [f.name for f in fields(self) if getattr(self, f.name) != default_of(f)]
        if problem := self.contradiction(changed):
            raise UserError(f"{problem}.")

    def contradiction(self, given: Iterable[str]) -> str:
        """What speaks against these settings together, "" if nothing. given: those that were
        chosen, not left at their defaults."""
        for name in given:
            for engine, names in ONLY.items():
                if name in names and engine != self.engine:
                    return f"argument --{name}: belongs to --engine {engine}, not {self.engine}"
        if self.engine == "openai" and not self.base_url:
            return "argument --base_url: is needed with --engine openai"
        return ""

    def record(self) -> dict[str, object]:
        """The settings for run.json: those that the engine has, without what only says what to do
        with the results."""
        others = {name for engine, names in ONLY.items() if engine != self.engine for name in names}
        left_out = others | ACTIONS
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}

    def identity(self) -> dict[str, object]:
        """What must be the same for a run to be resumed, of the settings themselves."""
        recorded = self.record()
        return {name: recorded[name] for name in IDENTITY if name in recorded}

    def sampling(self, stop_token_ids: Sequence[int]) -> dict[str, object]:
        """What every request is sent with besides its own seed and budget."""
        values = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k")}
        shared = {name: value for name, value in values.items() if value is not None}
        return shared | ({"stop_token_ids": list(stop_token_ids)} if stop_token_ids else {})


def from_flags(
    argv: Sequence[str] | None,
    description: str | None,
    method: M,
    defaults: Mapping[str, object],
) -> tuple[Settings, M]:
    """The settings that a command line asks for, and the method with its own flags put in: those
    of its fields that have a help text. Ends the program for --help and for a mistake.

    defaults: the experiment's model_name, max_new_tokens, dataset and reflex_size.
    """
    own = [each for each in fields(method) if "help" in each.metadata]  # type: ignore[arg-type]
    shown = dict(defaults) | {each.name: getattr(method, each.name) for each in own}
    groups = [*GROUPS[:1], *([Group("the method", own)] if own else []), *GROUPS[1:]]
    words = sys.argv[1:] if argv is None else list(argv)
    parser, given = parse(words, description, groups, shown)
    changes = {each.name: given.pop(each.name) for each in own if each.name in given}
    try:
        settings = Settings(**{**defaults, **given})
    except UserError as error:
        parser.error(str(error).rstrip("."))
    if problem := settings.contradiction(given):
        parser.error(problem)
    try:
        return settings, replace(method, **changes)  # type: ignore[type-var]
    except UserError as error:
        parser.error(str(error).rstrip("."))


def resolved(settings: Settings, defaults: Mapping[str, object]) -> Settings:
    """The settings with an experiment's defaults where they are left open."""
    left_open = {n: v for n, v in defaults.items() if getattr(settings, n) in ("", 0)}
    return replace(settings, **left_open)  # type: ignore[arg-type]
