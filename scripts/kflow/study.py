"""A study: several experiments on one data set with the same number of rollouts, side by side in
one engine. Each has its own results folder, the one it would have alone, so that either way of
running it resumes where the other one stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import accumulate, cycle, islice, takewhile
from typing import Any

from kflow.experiment import Experiment, run_together
from kflow.flags import Name, Whole, flag
from kflow.ground import program
from kflow.ground.price import money
from kflow.ground.redaction import public
from kflow.ground.terminal import counted, say, shortened
from kflow.running import preflight
from kflow.running.checks import ASSUMED_SPEED, ASSUMED_TOKENS, BYTES_PER_TOKEN, Check, amount
from kflow.running.run import prepare
from kflow.running.settings import Settings, from_flags
from kflow.running.work import MakeEngine
from kflow.types import UserError

MOST_STEPS = 1_000_000


@dataclass(frozen=True)
class Budget:
    """What the arms have in common, and the fields of those methods that have several rollouts a
    step. The last two are what --dry_run reckons with."""

    arms: Name = flag(
        "",
        "run only these arms, by results prefix, separated by commas; the first is the baseline "
        "(all)",
        "PREFIX,...",
    )
    rollouts: Whole = flag(64, "per problem and arm; a step that would exceed it is left out", "N")
    rollouts_per_step: Whole = flag(16, "the population of recursive self-aggregation", "N")
    aggregate: Whole = flag(4, "how many of it each of its rollouts combines", "N")
    strategies: Whole = flag(2, "strategies per round of test-time recursive thinking", "N")
    assumed_tokens: Whole = flag(
        ASSUMED_TOKENS, "for --dry_run, the tokens of a prompt and its reply", "N"
    )
    assumed_speed: Whole = flag(ASSUMED_SPEED, "for --dry_run, the engine's tokens per second", "N")


@dataclass(frozen=True)
class Study:
    """arms: experiments of one family and data set. description: shown by --help."""

    description: str | None
    arms: tuple[Experiment, ...]

    def runs(self, settings: Settings, budget: Budget) -> list[tuple[Experiment, Settings]]:
        """The chosen arms with their methods' fields and as many steps as the budget allows.
        Raises UserError for an arm that is not there and where the budget is less than a step."""
        arms = [
            replace(each, method=with_fields(each.method, budget))
            for each in self.chosen(budget.arms)
        ]
        return [
            (arm, replace(settings, reflex_size=steps_within(arm, budget.rollouts))) for arm in arms
        ]

    def chosen(self, prefixes: str) -> list[Experiment]:
        by_prefix = {arm.prefix: arm for arm in self.arms}
        names = prefixes.split(",") if prefixes else list(by_prefix)
        if len(set(names)) < len(names) or not set(names) <= by_prefix.keys():
            raise UserError(
                f"--arms {shortened(prefixes)} must name some of {', '.join(by_prefix)}, each once."
            )
        return [by_prefix[name] for name in names]


def with_fields(method: Any, budget: Budget) -> Any:
    own = {each.name for each in fields(method)}
    return replace(method, **{name: n for name, n in asdict(budget).items() if name in own})


def steps_within(arm: Experiment, rollouts: int) -> int:
    """The number of steps whose rollouts are at most so many."""
    totals = accumulate(islice(cycle(arm.method.widths), MOST_STEPS))
    steps = sum(1 for _ in takewhile(lambda total: total <= rollouts, totals))
    if not steps:
        raise UserError(
            f"--rollouts {rollouts} is fewer than a single step of {arm.prefix} takes: raise it, "
            "or lower --rollouts_per_step."
        )
    return steps


def main(
    study: Study, argv: list[str] | None = None, make_engine: MakeEngine | None = None
) -> None:
    """Run a study from its flags; ends the program as an experiment does."""

    def work() -> None:
        asked, settings, budget = parsed(study, argv)
        if settings.reflex_size != study.arms[0].reflex_size:
            raise UserError("A study takes --rollouts instead of --reflex_size.")
        runs = asked.runs(settings, budget)
        if settings.dry_run:
            plan(runs, budget)
        else:
            run_together(runs, make_engine)

    program.end(work)


def parsed(study: Study, argv: Sequence[str] | None) -> tuple[Study, Settings, Budget]:
    """What a command line asks for: the study with its family's flags put in, the settings and the
    budget. Ends the program for --help and for a mistake."""
    first = study.arms[0]
    owners = {"the study": Budget(), "the family": first.family}
    settings, (budget, family) = from_flags(argv, study.description, owners, first.defaults)
    arms = tuple(replace(arm, family=family) for arm in study.arms)
    return replace(study, arms=arms), settings, budget


def plan(runs: list[tuple[Experiment, Settings]], budget: Budget) -> None:
    """Print what the arms take (steps, rollouts, tokens, hours and bytes), the engine that they
    share, and what the preflight finds. Raises UserError for what is wrong on any machine."""
    lines, arms = [], []
    missing: list[Check] = []
    for experiment, given in runs:
        run = prepare(experiment, given, missing)
        arms.append(run)
        seeds = run.settings.num_seeds
        lines.append(
            f"{run.folder}: {counted(run.settings.reflex_size, 'step')}, "
            f"{counted(run.load.chains // seeds, 'problem')}, "
            f"{counted(seeds, 'seed')}, {counted(run.load.rollouts, 'rollout')}"
        )
    total, window = sum(each.load.rollouts for each in arms), arms[0].load.window
    each_takes = min(budget.assumed_tokens, window)
    tokens = total * each_takes
    lines.append(
        f"Together {total:,} rollouts; at {each_takes:,} tokens each and "
        f"{budget.assumed_speed:,} tokens/s: {amount(tokens / 1e6)} million tokens, "
        f"{amount(tokens / budget.assumed_speed / 3600)} hours, "
        f"{amount(tokens * BYTES_PER_TOKEN / 1e9)} GB of results."
    )
    if (price := runs[0][1].price) is not None:
        most = money(max(price) * total * window / 1e6)
        lines.append(f"Cost: at most {most}, at full windows and the higher of the two prices.")
    first = arms[0]
    first.resize(sum(arm.load.in_flight for arm in arms))
    lines.append(f"engine arguments: {json.dumps(public(first.engine.arguments))}")
    lines += preflight.surroundings(first)
    results = preflight.plan(arms, list(dict.fromkeys(missing)))
    say("\n".join([*lines, *(f"{check.state}: {check.text}" for check in results)]))
    preflight.refuse(results)
