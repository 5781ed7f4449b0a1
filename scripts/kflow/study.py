"""A study: several experiments on one data set with the same number of rollouts, side by side in
one engine. Each has its own results folder, the one it would have alone, so that either way of
running it resumes where the other one stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any

from kflow.experiment import Experiment, run_together
from kflow.flags import Name, Whole, flag, flags_of, values_of
from kflow.ground import signals
from kflow.ground.terminal import shortened
from kflow.method import within
from kflow.running import preflight
from kflow.running.checks import Check
from kflow.running.plan import ASSUMED_SPEED, ASSUMED_TOKENS
from kflow.running.run import prepare
from kflow.running.settings import Settings, from_flags
from kflow.running.work import MakeEngine
from kflow.types import UserError


@dataclass(frozen=True)
class Budget:
    """What the arms have in common. The last two are what --dry_run reckons with."""

    arms: Name = flag(
        "",
        "run only these arms, by results prefix, separated by commas (all)",
        "PREFIX,...",
    )
    rollouts: Whole = flag(64, "rollouts per problem and arm; steps over budget are left out", "N")
    assumed_tokens: Whole = flag(
        ASSUMED_TOKENS, "for --dry_run, the tokens of a prompt and its reply", "N"
    )
    assumed_speed: Whole = flag(ASSUMED_SPEED, "for --dry_run, the engine's tokens per second", "N")


@dataclass(frozen=True)
class Study:
    """arms: experiments of one family and data set. description: shown by --help. given: values for
    fields of the arms' methods, each for all that have it."""

    description: str | None
    arms: tuple[Experiment, ...]
    given: Mapping[str, object] = field(default_factory=dict)

    def runs(self, settings: Settings, budget: Budget) -> list[tuple[Experiment, Settings]]:
        """The chosen arms with as many steps as the budget allows. Raises UserError for an arm that
        is not there, for a given field that no chosen arm has, and where an arm takes more than the
        budget."""
        arms = self.chosen(budget.arms)
        for name in self.given:
            if not any(name in values_of(arm.method) for arm in arms):
                raise UserError(f"--{name} is for none of the chosen arms: leave it out.")
        limited = [limit(arm, budget.rollouts, self.given) for arm in arms]
        return [(arm, replace(settings, reflex_size=steps)) for arm, steps in limited]

    def chosen(self, prefixes: str) -> list[Experiment]:
        by_prefix = {arm.prefix: arm for arm in self.arms}
        names = prefixes.split(",") if prefixes else list(by_prefix)
        if len(set(names)) < len(names) or not set(names) <= by_prefix.keys():
            raise UserError(
                f"--arms {shortened(prefixes)} must name some of {', '.join(by_prefix)}, each once."
            )
        return [by_prefix[name] for name in names]


def limit(arm: Experiment, rollouts: int, given: Mapping[str, object]) -> tuple[Experiment, int]:
    """An arm for at most so many rollouts per chain, and its number of steps. given: values for
    fields of methods, which are the arm's where its method has them."""
    method: Any = arm.method
    flags = values_of(method)
    chosen = {name: value for name, value in given.items() if name in flags}
    method, steps = within(replace(method, **chosen), rollouts, chosen)
    if not steps:
        change = " or ".join(f"--{name}" for name in flags)
        raise UserError(
            f"--rollouts {rollouts} is fewer than {arm.prefix} takes: raise it, or change {change}."
        )
    return replace(arm, method=method), steps


def flags_together(methods: Sequence[Any]) -> Any:
    """The methods' own flags as one dataclass instance, None until they are given. A flag that
    several methods have is for all of them. Their help shows what the default budget makes them."""
    shown: dict[str, tuple[str, Any, Any]] = {}
    for method in methods:
        values = values_of(within(method, Budget().rollouts)[0])
        for each in flags_of(method):
            default_and_help = flag(None, f"{each.help} ({values[each.name]})", each.metavar)
            shown.setdefault(each.name, (each.name, each.kind, default_and_help))
    return make_dataclass("MethodFlags", shown.values(), frozen=True)()


def main(
    study: Study, argv: list[str] | None = None, make_engine: MakeEngine | None = None
) -> None:
    """Run a study from its flags; ends the program as an experiment does."""

    def work() -> None:
        asked, settings, budget = parse_flags(study, argv)
        if settings.reflex_size:
            raise UserError("A study takes --rollouts instead of --reflex_size.")
        runs = asked.runs(settings, budget)
        if settings.dry_run:
            dry_run(runs, budget)
        else:
            run_together(runs, make_engine)

    signals.end(work)


def parse_flags(study: Study, argv: Sequence[str] | None) -> tuple[Study, Settings, Budget]:
    """What a command line asks for: the study with the flags of its family and its methods put in,
    the settings and the budget. Ends the program for --help and for a mistake."""
    first = study.arms[0]
    owners = {
        "the study": Budget(),
        "the methods": flags_together([arm.method for arm in study.arms]),
        "the family": first.family,
    }
    settings, (budget, methods, family) = from_flags(
        argv, study.description, owners, first.defaults
    )
    given = {name: value for name, value in values_of(methods).items() if value is not None}
    arms = tuple(replace(arm, family=family) for arm in study.arms)
    return replace(study, arms=arms, given=given), settings, budget


def dry_run(runs: Sequence[tuple[Experiment, Settings]], budget: Budget) -> None:
    """Print what a study would ask, as for an experiment: what each arm takes, and all together."""
    missing: list[Check] = []
    arms = [prepare(experiment, settings, missing) for experiment, settings in runs]
    preflight.dry_run_together(arms, missing, budget.assumed_tokens, budget.assumed_speed)
