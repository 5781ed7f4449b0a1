"""One object is a run: everything that a run is made of, prepared once and handed down whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from kflow.answers import AnswerType, Integer
from kflow.engines.vllm_engine import recipes
from kflow.families import messages, unusual_end
from kflow.families.family import Family
from kflow.flags import check_flags
from kflow.ground import smollm2
from kflow.ground.files import write_whole
from kflow.ground.price import Price
from kflow.ground.streams import tell
from kflow.ground.terminal import counted
from kflow.loop import prompts
from kflow.loop.chain import Chain, fresh, restore
from kflow.loop.prompts import PromptText
from kflow.loop.sentences import TokenMeasure
from kflow.method import Method, at_once, rollouts_of
from kflow.problems import generated, known_datasets, problems
from kflow.problems.problems import ProblemSet, Source
from kflow.results import manifest
from kflow.results.description import NOTHING_KNOWN, Description, ServerRecord
from kflow.results.manifest import EngineRecord, ExperimentRecord, Manifest, Model, ProblemsRecord
from kflow.results.recorded import wording
from kflow.results.store import Store
from kflow.running import again, provenance
from kflow.running.again import First
from kflow.running.checks import Check
from kflow.running.engine import EngineSpec, specify
from kflow.running.rehearsal import rehearse
from kflow.running.settings import IDENTITY, Settings
from kflow.types import Chat, Key, Problem, UserError

KEPT_PROBLEMS = "problems.jsonl"  # of a run on generated ones
ASSUMED_PROBLEMS = 30  # of a data set that is neither here nor known
T = TypeVar("T")


@dataclass(frozen=True)
class Experiment:
    """One entry script: a family and a method worked on a data set, and the name of its results."""

    description: str | None  # the script's docstring, shown by --help
    family: Family
    method: Method[Any, Any]
    dataset: str
    prefix: str  # of the results folder's name
    reflex_size: int = 64  # steps per chain where neither --reflex_size nor the method says

    @property
    def defaults(self) -> dict[str, object]:
        """What the settings that are left open stand for."""
        return {
            "model_name": self.family.model,
            "max_new_tokens": self.family.max_new_tokens,
            "dataset": self.dataset,
            "reflex_size": getattr(self.method, "steps", self.reflex_size),
        }


@dataclass
class Run:
    """A run, from what it asks for to where it stands. It is what the loop plans by
    (`loop.steps.Plan`)."""

    experiment: Experiment  # with the flags of its method and its family put in
    settings: Settings  # with the experiment's defaults where they were left open
    problems: ProblemSet  # in a dry run a stand-in where the data set is not here
    model: Model | None  # by what identifies its content; None where only a server knows it
    chat: Chat  # in a dry run a stand-in where there is no tokenizer
    templates: Mapping[str, PromptText]
    chat_missing: bool = False
    before: Manifest | None = None  # what run.json says; None where it begins, or begins anew
    store: Store = field(init=False)
    engine: EngineSpec = field(init=False)
    chains: list[Chain] = field(default_factory=list)  # as the replies on disk leave them
    again: First = field(default_factory=dict)  # of --retry_failed, until the engine is there
    other_engine: str | None = None  # the engine's name, if it is not the one the run began with
    noted: int = 0  # servers that joined and findings that are on record
    described: Description = NOTHING_KNOWN  # the engine, as far as it is known by now

    def __post_init__(self) -> None:
        if self.before is not None and self.before.sessions:
            self.described = self.before.sessions[-1].engine
        ids = [problem.id for problem in self.problems.problems]
        self.store = Store(self.folder, ids, self.settings.num_seeds)
        self.resize(self.in_flight)

    # What the loop plans by.

    @property
    def name(self) -> str:
        return str(self.folder)

    @property
    def method(self) -> Method[Any, Any]:
        return self.experiment.method

    @property
    def family(self) -> str:
        return self.experiment.family.name

    @property
    def end_of_thinking(self) -> str | None:
        return unusual_end(self.experiment.family)

    @property
    def answers(self) -> AnswerType:
        return self.problems.answers

    @property
    def prompt_hashes(self) -> dict[str, str]:
        """The sha256 of each prompt file."""
        return {name: prompt.sha256 for name, prompt in self.templates.items()}

    @property
    def wording(self) -> str:
        """Whose prompt texts it has."""
        return wording(self.prompt_hashes, self.settings.prompt_dir)

    @cached_property
    def measure(self) -> TokenMeasure:
        return TokenMeasure(self.settings.max_new_tokens, self.chat.count)

    # Where it is, and how much is left of it.

    @property
    def folder(self) -> Path:
        return results_folder(self.experiment, self.settings)

    @property
    def sampling(self) -> dict[str, object]:
        """What every request is sent with besides its own seed and budget."""
        return self.settings.sampling(self.chat.stop_token_ids)

    @property
    def in_flight(self) -> int:
        """How many rollouts it has at a time, at most."""
        return self.number_of_chains * at_once(self.method, self.settings.reflex_size)

    @property
    def rollouts(self) -> int:
        """How many it asks, as if nothing of it were done."""
        return self.number_of_chains * rollouts_of(self.method, self.settings.reflex_size)

    @property
    def number_of_chains(self) -> int:
        return len(self.problems.problems) * self.settings.num_seeds

    @property
    def complete(self) -> bool:
        return self.before is not None and not self.next_rollouts

    @property
    def rollouts_left(self) -> int:
        """How many rollouts are still to do, at most."""
        steps = self.settings.reflex_size
        return sum(rollouts_of(self.method, steps, self.next_step(c)) for c in self.chains)

    @property
    def next_rollouts(self) -> list[Key]:
        """The chains that are not done, each by its next rollout."""
        at = ((chain, self.next_step(chain)) for chain in self.chains)
        return [chain.key(step) for chain, step in at if step < self.settings.reflex_size]

    def next_step(self, chain: Chain) -> int:
        """The first step of a chain that has something to ask."""
        return self.again.get((chain.seed, chain.problem.id), chain.state.step)

    @property
    def all_failed(self) -> bool:
        """Of a complete run: whether it has no reply at all."""
        widths = self.method.widths
        rollouts = sum(
            (summary.total - summary.early_stopped) * widths[step % len(widths)]
            for (_, step), summary in self.store.summaries.items()
        )
        return self.store.failed == rollouts

    @property
    def price(self) -> Price | None:
        """By the flags, else by the servers' own lists."""
        return self.settings.price or self.described.price

    def find_cost(self) -> float | None:
        """Of all its rollouts on record; None where of some nothing says what they cost."""
        store, price = self.store, self.price
        if price is None:
            return None if store.prompt_tokens or store.reply_tokens else store.charged or None
        return store.charged + price.of(store.prompt_tokens, store.reply_tokens)

    # What becomes of it.

    def open(self) -> None:
        """Hold the results folder and bring the chains to where the replies on disk leave them.
        Raises UserError where the folder is held by another process or holds another run."""
        self.store.lock()
        settings, given = self.settings, self.problems.problems
        if settings.overwrite:
            self.chains = fresh(self, given, self.store, settings.num_seeds)
            return
        self.store.check_begun()
        opened = 0
        if self.before is not None:
            self.check_same(self.before, NOTHING_KNOWN)
            if settings.retry_failed:
                self.again, opened = again.find(self, self.store, settings.num_seeds)
        self.restore()
        most, failed = settings.max_failures, self.store.failed - opened
        if most is not None and failed > most:
            raise UserError(
                f"{self.folder} has {counted(failed, 'failed rollout')} on record, more than "
                f"--max_failures {most} allows: raise it to continue."
            )

    def restore(self) -> None:
        self.chains = restore(self, self.problems.problems, self.store, self.settings.num_seeds)

    def close(self) -> None:
        self.store.close()

    def resize(self, in_flight: int) -> None:
        """Ask for an engine that has so many rollouts in flight, those of other runs too."""
        self.engine = specify(
            self.experiment.family, self.settings, self.model, self.sampling, in_flight
        )

    def check_same(self, before: Manifest, described: Description) -> str | None:
        """`manifest.check` of what is on disk. described: the engine; only once it is started is it
        known which version a server has."""
        now = self.manifest()
        replying = manifest.software(now.engine.kind, provenance.versions(), described)
        return manifest.check(
            before, now, self.folder, replying, self.settings.change_engine, IDENTITY
        )

    def begin(self, described: Description) -> None:
        """Note this start of the program in run.json; with --overwrite, move the old run aside."""
        if self.settings.overwrite:
            self.store.move_aside()
        self.described = described
        now = self.manifest()
        session = provenance.session(described, now.engine.arguments)

        def written(saved: dict[str, Any] | None) -> dict[str, Any]:
            before = None if saved is None else manifest.read(saved, self.folder)
            if before is not None:
                # Again: another process may have begun and ended here since the first look.
                self.other_engine = self.check_same(before, session.engine)
            record = manifest.with_session(before, now, self.other_engine, session)
            return dict(manifest.plain(record))

        self.store.begin(written)
        if self.store.unheld:
            tell(f"{self.folder} cannot be locked against a second run ({self.store.unheld})")
        if self.again:
            again.reopen(self, self.store, self.again)
            self.again = {}
            self.restore()
        if self.problems.source.generator is not None:
            write_whole(self.folder / KEPT_PROBLEMS, generated.to_lines(self.problems.problems))

    def note(self, joined: Sequence[ServerRecord], findings: Sequence[str]) -> None:
        """Add to its record the servers that take part since some time after the start, and what
        replies showed. Both: all of them, in order."""
        if len(joined) + len(findings) == self.noted:
            return
        servers = (*self.described.servers, *joined)
        engine = replace(self.described, servers=servers, findings=tuple(findings))

        def amended(saved: dict[str, Any]) -> dict[str, Any]:
            record = manifest.read(saved, self.folder)
            sessions = [*record.sessions[:-1], replace(record.sessions[-1], engine=engine)]
            return dict(manifest.plain(replace(record, sessions=sessions)))

        self.store.amend(amended)
        self.noted = len(joined) + len(findings)

    def manifest(self) -> Manifest:
        """What run.json says of this run, without its sessions."""
        method, family = self.method, self.experiment.family
        data, here = self.problems, self.problems.source is not NOT_HERE
        fields = provenance.method_fields(method)
        rule = provenance.describe(method.rule, "The method's rule")
        return Manifest(
            experiment=ExperimentRecord(
                self.experiment.prefix,
                family.name,
                family.reasoning_effort,
                provenance.qualified(type(method)),
                method.ahead,
                fields,
                None if fields.get("rule") == rule else method.rule,
                provenance.family_fields(family),
            ),
            model=self.model,
            problems=ProblemsRecord(len(data.problems), data.hash, data.source) if here else None,
            prompts=self.prompt_hashes,
            answers=data.answers.name if here else None,
            sampling=self.sampling,
            settings=self.settings.record(),
            engine=EngineRecord(self.settings.engine, self.engine.arguments),
            wording=self.wording,
            shows_list=bool(prompts.with_list(method.prompts)),
        )


NOT_HERE = Source("")  # of a stand-in for a data set


def results_folder(experiment: Experiment, settings: Settings) -> Path:
    """docs/method.md, "Output"."""
    name = f"{experiment.prefix}_{settings.max_new_tokens}_{settings.output_postfix}"
    return Path(settings.results_dir) / name / settings.model.last_part


def prepare(experiment: Experiment, settings: Settings, missing: list[Check] | None = None) -> Run:
    """Everything that can be known before an engine is started; nothing is written or locked.

    missing: of a dry run, which goes on with stand-ins for what is not here and notes why. Raises
    UserError for a mistake and, without `missing`, for what is not here.
    """

    def find(look: Callable[[], T], stand_in: T) -> T:
        try:
            return look()
        except UserError as error:
            if missing is None:
                raise
            missing.append(Check.of(error))
            return stand_in

    settings = settings.resolved(experiment.defaults)
    if settings.engine == "vllm":
        recipes.quieten(os.environ)
    if settings.engine != "chat":  # where it is the server's name for a model
        settings = replace(settings, model_name=smollm2.find(settings.model_name))
    method = experiment.method
    for owner in (method, experiment.family):
        check_flags(owner)
    check_stopping(experiment, settings)
    before = None
    if missing is None and not settings.overwrite:
        before = recorded(results_folder(experiment, settings))
    if settings.engine == "chat":
        experiment = replace(experiment, family=messages.in_messages(experiment.family))
    family = experiment.family
    data = find(lambda: load_problems(experiment, settings, before), stand_in(settings))
    # Texts of one's own may say themselves that the answer is an integer, as the published ones do.
    templates = prompts.load(
        Path(settings.prompt_dir or method.prompt_folder),
        method.prompts,
        experiment.prefix,
        optional=prompts.ABOUT_ANSWERS if isinstance(data.answers, Integer) else frozenset(),
    )
    model: Model | None = Model(settings.model.name)
    if settings.engine != "chat" or settings.model.is_folder:
        known = before.model if before else None
        model = find(lambda: provenance.identify_model(settings.model, known), None)
    reckoning: Chat = messages.estimating()
    chat = reckoning
    if model is not None or settings.model_name == family.model:
        code, revision = settings.trust_remote_code, model.revision if model else None
        chat = find(
            lambda: rehearse(
                experiment.prefix,
                family.load_chat(settings.model.name, code, revision),
                method,
                templates,
                settings.max_new_tokens,
                family.end_of_thinking,
                settings.reflex_size,
            ),
            chat,
        )
    return Run(
        experiment=experiment,
        settings=settings,
        problems=data,
        model=model,
        chat=chat,
        templates=templates,
        chat_missing=chat is reckoning,
        before=before,
    )


def check_stopping(experiment: Experiment, settings: Settings) -> None:
    """Raises UserError for more steps than the method has, and for --stop_when_stable where a step
    is not one rollout after another."""
    method = experiment.method
    steps = getattr(method, "steps", settings.reflex_size)
    if settings.reflex_size > steps:
        raise UserError(
            f"--reflex_size {settings.reflex_size} is more than the {steps} steps that "
            f"{experiment.prefix} has with these flags: leave it out."
        )
    if settings.stop_when_stable is not None and (method.ahead or method.widths != (1,)):
        raise UserError(
            "--stop_when_stable needs one rollout per step, each asked after the one before it: "
            f"leave it out for {experiment.prefix}."
        )


def recorded(folder: Path) -> Manifest | None:
    """What run.json says of a run that has begun, None where none has."""
    if not os.path.exists(folder / "run.json"):
        return None
    saved = Store(folder, []).run()
    return None if saved is None else manifest.read(saved, folder)


def load_problems(
    experiment: Experiment, settings: Settings, before: Manifest | None
) -> ProblemSet:
    """before: of the run that is resumed; generated problems are those that it has kept, where the
    same are asked for."""
    if generated.is_generated(settings.dataset):
        kept = results_folder(experiment, settings) / KEPT_PROBLEMS
        if before is not None and before.problems is not None and kept.exists():
            names = ("dataset", "dataset_args", "limit")
            if all(getattr(settings, name) == before.settings.get(name) for name in names):
                return generated.from_file(kept, before.problems.source)
        return generated.load(settings.dataset, settings.dataset_args, settings.limit)
    return problems.load(
        settings.dataset,
        settings.split,
        settings.limit,
        settings.dataset_config,
        settings.problem_column,
        settings.answer_column,
        settings.answer_type,
    )


def stand_in(settings: Settings) -> ProblemSet:
    """For a data set that is not here: as many problems as it is known or assumed to have."""
    known = known_datasets.KNOWN.get(settings.dataset.partition("@")[0])
    rows = (known and known.rows) or ASSUMED_PROBLEMS
    numbers = range(min(rows, settings.limit or rows))
    question = "(the data set's first question)"
    return ProblemSet(tuple(Problem(str(n), question, 0, 0) for n in numbers), Integer(), NOT_HERE)
