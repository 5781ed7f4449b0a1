"""What a run is asked to do besides its experiment: one frozen dataclass. The command line is made
from its fields, `--dry_run` and run.json print it, and resume compares a part of it.
"""

from __future__ import annotations

import sys
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kflow.engines.openai_engine.api import OWN_FIELDS
from kflow.flags import FROM_FILE, Group, check_flags, flags_of, parse, values_of
from kflow.ground.hub import ModelName
from kflow.ground.price import Price, price
from kflow.problems import generated
from kflow.running.options import (
    AnyEngine,
    Data,
    ExperimentFlags,
    Results,
    Sampling,
    Schedule,
    ServerFlags,
    VllmFlags,
)
from kflow.types import UserError

SERVER_HELP = (
    "openai: any server with the OpenAI completions API, with sampling and prompts as for the vLLM "
    "engine. chat: any server with chat completions, which renders prompts itself; methods that "
    "need a prefill are refused. A key is read from OPENAI_API_KEY in the environment."
)
GROUPS = (
    Group("the experiment", flags_of(ExperimentFlags)),
    Group("sampling", flags_of(Sampling)),
    Group("problems", flags_of(Data)),
    Group("the schedule", flags_of(Schedule)),
    Group("the engine", flags_of(AnyEngine)),
    Group("the vLLM engine (--engine vllm)", flags_of(VllmFlags)),
    Group("a server (--engine openai or chat)", flags_of(ServerFlags), SERVER_HELP),
    Group("results", flags_of(Results)),
)
# Flags that not every engine has.
OF_SERVERS = frozenset(each.name for each in flags_of(ServerFlags))
ONLY = {
    "vllm": frozenset({"force_sections", *(each.name for each in flags_of(VllmFlags))}),
    "openai": OF_SERVERS | {"force_sections"},
    "chat": OF_SERVERS - {"prompt_as_text"},
}
ACTIONS = frozenset(
    {"dry_run", "overwrite", "canary", "change_engine", "record_refusals", "retry_failed"}
)
# Absent from the record where they are not given: a run without them may be an older version's.
LATER = frozenset({"request_args", "max_cost"})


@dataclass(frozen=True)
class Settings(
    Results, ServerFlags, VllmFlags, AnyEngine, Schedule, Data, Sampling, ExperimentFlags
):
    """All flags of a script as attributes. Raises UserError for a value that the flag would be
    refused for."""

    def __post_init__(self) -> None:
        for name, value in check_flags(self).items():
            object.__setattr__(self, name, value)
        changed = [each.name for each in FLAGS if getattr(self, each.name) != each.default]
        self.check_together(changed)

    def check_together(self, given: Iterable[str]) -> None:
        """Raises UserError where settings contradict each other. given: those that were chosen, not
        left at their defaults."""
        for name in given:
            engines = [engine for engine, names in ONLY.items() if name in names]
            if engines and self.engine not in engines:
                only = f"only valid with --engine {' or '.join(engines)}"
                raise refusal(name, f"{only}, not {self.engine}")
        if self.as_published and self.recipe != "published":
            raise refusal("as_published", f"not with --recipe {self.recipe}")
        if self.dataset_args and not generated.is_generated(self.dataset):
            raise refusal("dataset_args", "only valid with --dataset reasoning_gym/TASK")
        if self.engine != "vllm" and not self.base_url:
            raise refusal("base_url", f"required with --engine {self.engine}")
        if own := [name for name in self.request_args if name in OWN_FIELDS]:
            raise refusal("request_args", f"{own[0]} is sent by the program itself; leave it out")
        if (self.prompt_price is None) != (self.reply_price is None):
            raise refusal("prompt_price", "give it together with --reply_price")

    def record(self) -> dict[str, object]:
        """The settings for run.json: those that the engine has, without what only says what to do
        with the results."""
        left_out = ACTIONS.union(*ONLY.values()) - ONLY[self.engine]
        values = values_of(self)
        left_out |= {name for name in LATER if not values[name]}
        return {name: value for name, value in values.items() if name not in left_out}

    @property
    def model(self) -> ModelName:
        return ModelName.parse(self.model_name)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of servers, without those that files list."""
        return tuple(url for url in self.base_url if not url.startswith(FROM_FILE))

    @property
    def price(self) -> Price | None:
        return price(self.prompt_price, self.reply_price)

    def resolved(self, defaults: Mapping[str, object]) -> Settings:
        """With an experiment's defaults where they are left open."""
        left_open = {n: v for n, v in defaults.items() if getattr(self, n) in ("", 0)}
        return replace(self, **left_open)  # type: ignore[arg-type]

    def sampling(self, stop_token_ids: Sequence[int]) -> dict[str, object]:
        """What every request is sent with besides its own seed and budget."""
        values = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k")}
        shared = {name: value for name, value in values.items() if value is not None}
        return shared | ({"stop_token_ids": list(stop_token_ids)} if stop_token_ids else {})


def refusal(name: str, words: str) -> UserError:
    """As argparse says it."""
    return UserError(f"argument --{name}: {words}.")


FLAGS = flags_of(Settings)
# What every rollout depends on; the rest is compared where it has become data, prompts or engine.
IDENTITY = tuple(each.name for each in FLAGS if each.results)


def from_flags(
    argv: Sequence[str] | None,
    description: str | None,
    owners: Mapping[str, Any],
    defaults: Mapping[str, object],
) -> tuple[Settings, list[Any]]:
    """The settings that a command line asks for, and the owners with their own flags put in: those
    of their fields that have a help text. Ends the program for --help and for a user's mistake.

    owners: the title of their flags in --help -> a method, a family. defaults: the experiment's, as
    --help shows them; `resolved` puts them in. Raises UserError where two flags have the
    same name.
    """
    shown = dict(defaults)
    for owner in owners.values():
        shown |= values_of(owner)
    groups = [Group(title, flags) for title, owner in owners.items() if (flags := flags_of(owner))]
    groups = [*GROUPS[:1], *groups, *GROUPS[1:]]
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        parser, given = parse(words, description, groups, shown)
    except ArgumentError as error:
        raise UserError(f"A field has the name of another flag ({error}): rename it.") from error
    changes = [
        {name: given.pop(name) for name in values_of(owner) if name in given}
        for owner in owners.values()
    ]
    try:
        settings = Settings(**given)
        settings.check_together(given)
        return settings, [
            replace(owner, **change) if change else owner
            for owner, change in zip(owners.values(), changes, strict=True)
        ]
    except UserError as error:
        parser.error(str(error).rstrip("."))
