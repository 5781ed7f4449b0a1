"""What is known of a run before an engine is started, and whether this machine can do it. A real
start refuses what --dry_run calls wrong; what only another machine can tell ends neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

from kflow import families
from kflow.answers import Integer
from kflow.engines.vllm_engine import arguments as engine_arguments
from kflow.engines.vllm_engine import memory, recipes
from kflow.families.family import Family
from kflow.families.messages import goes_on
from kflow.ground import hardware
from kflow.ground.hub import split
from kflow.ground.price import money
from kflow.ground.terminal import brief, counted, say
from kflow.ground.version import version_of
from kflow.loop import steps
from kflow.loop.chain import Chain
from kflow.loop.sentences import TokenMeasure
from kflow.loop.steps import Plan
from kflow.method import Method, Room, Template, at_once, rollouts_of
from kflow.problems import known_datasets
from kflow.problems.problems import ProblemSet
from kflow.results import manifest
from kflow.results.manifest import Manifest
from kflow.results.store import check_writable
from kflow.running import checks, machine, provenance
from kflow.running.checks import NOT_CHECKED, NOTE, OK, WRONG, Check, Workload
from kflow.running.launch import Launch
from kflow.running.settings import Settings
from kflow.types import Chat, Key, Reply, Unreachable, UserError

ASSUMED_PROBLEMS = 30  # of a data set that is neither here nor known
SAMPLE = "[Summary]: One and one are two.\n\n[Answer]: \\boxed{2}"
SAMPLED_STEPS = 3


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start. data, chat: None only in a dry run that could not find them;
    missing says why, by the states of checks.py."""

    settings: Settings
    folder: Path
    method: Method[object, object]
    family: Family
    templates: dict[str, Template]
    data: ProblemSet | None
    chat: Chat | None
    sampling: dict[str, object]
    launch: Launch
    manifest: Manifest
    missing: tuple[Check, ...] = ()

    @property
    def load(self) -> Workload:
        """All that the run asks, as if nothing of it were done."""
        return workload(self.settings, self.method, self.data)

    def among(self, in_flight: int) -> Prepared:
        """The same run in an engine that has so many rollouts in flight, those of others too."""
        if self.launch.sized is None:
            return self
        launch = self.launch.sized(in_flight)
        engine = replace(self.manifest.engine, arguments=launch.arguments)
        return replace(self, launch=launch, manifest=replace(self.manifest, engine=engine))

    def plan(self, data: ProblemSet, chat: Chat) -> Plan:
        settings = self.settings
        measure = TokenMeasure(settings.max_new_tokens, chat.count)
        return Plan(
            name=str(self.folder),
            method=self.method,
            templates=self.templates,
            chat=chat,
            family=self.family.name,
            end_of_thinking=families.unusual_end(self.family),
            answers=data.answers,
            window=settings.max_new_tokens,
            count=chat.count,
            last_sentences=measure.last_sentences,
            steps=settings.reflex_size,
            seed=settings.seed,
            force_sections=settings.force_sections,
            stop_when_stable=settings.stop_when_stable,
            token_budget=settings.token_budget,
        )


def workload(settings: Settings, method: Method[Any, Any], data: ProblemSet | None) -> Workload:
    """All that a run asks, as if nothing of it were done; of an assumed number of problems where
    the data set cannot be had."""
    problems = len(data.problems) if data else assumed_problems(settings)
    chains, steps = problems * settings.num_seeds, settings.reflex_size
    in_flight, rollouts = at_once(method, steps), rollouts_of(method, steps)
    return Workload(chains, chains * in_flight, chains * rollouts, settings.max_new_tokens)


def assumed_problems(settings: Settings) -> int:
    known = known_datasets.KNOWN.get(settings.dataset.partition("@")[0])
    rows = (known and known.rows) or ASSUMED_PROBLEMS
    return min(rows, settings.limit or rows)


def attempting(missing: list[Check]) -> Callable[[Callable[[], Any]], Any]:
    """What `prepare` calls in a dry run: None for what is not here, and why goes to `missing`."""

    def attempt(get: Callable[[], Any]) -> Any:
        try:
            return get()
        except UserError as error:
            state = NOT_CHECKED if isinstance(error, Unreachable) else WRONG
            missing.append(Check(state, str(error).rstrip(".")))
            return None

    return attempt


def start(runs: Sequence[Prepared], left: int, given_engine: bool) -> None:
    """The checks of a real start, before its engine is started. Raises UserError for what is wrong
    and prints what should be known. left: rollouts still to do. given_engine: the engine is not the
    one that the settings ask for."""
    whole = reduce(add, (run.load for run in runs))
    load = Workload(whole.chains, whole.in_flight, left, whole.window)
    results = [checks.disk(load, machine.free(runs[0].folder), runs[0].settings.results_dir)]
    if not given_engine and runs[0].settings.engine == "vllm":
        results += of_engine(runs[0], load)
    refuse(results)
    for check in results:
        if check.state == NOTE:
            print(brief(f"Note: {check.text}."), file=sys.stderr)


def refuse(results: Sequence[Check]) -> None:
    """Raises UserError for all that is wrong."""
    if wrong := list(dict.fromkeys(check.text for check in results if check.state == WRONG)):
        raise UserError(f"{'; '.join(wrong)}.")


def planned(runs: Sequence[Prepared]) -> list[Check]:
    """All checks of a dry run, of runs that would share an engine."""
    load = reduce(add, (run.load for run in runs))
    first = runs[0].among(load.in_flight)
    results = [check for run in runs for check in run.missing]
    results += of_data(first)
    if first.settings.engine == "vllm":
        attempt = attempting(results)
        if attempt(lambda: built(first)):
            results.append(Check(OK, "vLLM takes the engine's arguments"))
        results += of_engine(first, load)
    else:
        results.append(Check(NOT_CHECKED, "the servers: their model, window, GPUs and KV cache"))
    for run in runs:
        attempting(results)(partial(check_writable, run.folder))
    place = first.settings.results_dir
    results.append(checks.disk(load, machine.free(first.folder), place))
    return list(dict.fromkeys(results))


def built(prepared: Prepared) -> bool:
    engine_arguments.build(prepared.launch.arguments)
    return True


def of_data(prepared: Prepared) -> Iterator[Check]:
    if prepared.data is None:
        number = counted(assumed_problems(prepared.settings), "problem")
        yield Check(NOT_CHECKED, f"the number of problems: the plan assumes {number}")
    if prepared.data is not None:
        source = prepared.data.source
        number = counted(len(prepared.data.problems), "problem")
        if source.split is None:
            yield Check(OK, f"{number} in {source.dataset}")
        elif source.revision is None:
            advice = f"--dataset {source.dataset}@REVISION pins it"
            yield Check(NOTE, f"{number} in {source.dataset}, at no fixed revision: {advice}")
        else:
            yield Check(OK, f"{number} in {source.dataset} at revision {source.revision}")
    if prepared.chat is not None:
        yield Check(OK, f"chat format and vocabulary of {prepared.family.name} found")


def of_engine(prepared: Prepared, load: Workload) -> Iterator[Check]:
    """vLLM's arguments against model and machine. A CPU has neither GPUs nor their memory."""
    arguments, name = prepared.launch.arguments, prepared.settings.model_name
    hub_name, model = split(name)[0], prepared.manifest.model
    _, known = checks.KNOWN.get(hub_name, (None, None))
    config = checks.config_of(name, model)
    dtype, cached = arguments.get("dtype"), str(arguments.get("kv_cache_dtype") or "auto")
    facts = memory.facts(config, None if dtype == "auto" else dtype, cached)
    yield checks.heads(facts, arguments)
    vllm = recipes.installed()
    cpu = vllm is not None and vllm.cpu
    gpus = machine.visible(hardware.gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not cpu:
        yield checks.devices(gpus, arguments)
        yield from checks.cache(facts, gpus, arguments, load)
        yield checks.sequences(arguments, load)
    elif known is not None:
        yield Check(
            NOT_CHECKED,
            "GPUs, KV cache and batch, since this is vLLM's CPU build: for a GPU node's plan use "
            "an environment with requirements_client.txt, or the node's own",
        )
    packages = {each: version_of(each) for each in ("hf_transfer", "huggingface-hub")}
    yield from checks.downloads(os.environ, packages)
    if arguments.get("load_format") != "dummy":
        weights = machine.weights(name, model)
        local = os.path.isdir(hub_name)
        here = bool(gpus) or (cpu and known is None)
        yield checks.stored(weights, known, machine.free(weights.folder), local, here)


def check_fit(chains: Sequence[Chain]) -> None:
    """Raises UserError where a run that has not begun has no question that fits the window."""
    if not chains or any(chain.state.step for chain in chains):
        return
    failure = None
    for chain in chains:
        key = chain.key(0)
        views = steps.views(chain.plan, chain.state, key)
        asked = steps.ask(chain.plan, chain.state, views[0], key)
        if asked.request is not None:
            return
        failure = asked.failure
    raise UserError(f"No question fits: {failure}; give a larger --max_new_tokens.")


def check_messages(
    name: str, method: Method[Any, Any], templates: Mapping[str, Template], window: int
) -> None:
    """Raises UserError for a method whose prompts begin the assistant's turn, found out by a chain
    of a few steps with a reply made up. name: of the experiment. window: tokens."""
    room = Room(window, len, lambda text, most: text[-most:], Integer(), Integer().same, templates)
    state = method.start("What is one and one?")
    for _ in range(SAMPLED_STEPS):
        views = method.ask(state, room)
        if any(goes_on(method.render(view, room)) for view in views):
            raise UserError(
                f"{name} begins the assistant's turn (a prefill, or text that the reply goes on "
                "from), for which the chat completions API has no field: use --engine openai, or "
                "another script or, in a study, other --arms."
            )
        state = method.update(state, (Reply(SAMPLE, SAMPLE),) * len(views), room).state


def dry_run(prepared: Prepared) -> None:
    """Print what run.json would hold but for its sessions, the environment, the checks, an
    estimate, and the first prompt. Raises UserError for what is wrong."""
    record = manifest.plain(prepared.manifest)
    del record["sessions"]
    say(manifest.shown(record))
    say(f"\n# results: {prepared.folder}")
    for line in surroundings(prepared):
        say(f"# {line}")
    results = planned([prepared])
    for check in results:
        say(f"# {check.state}: {check.text}")
    say(f"# estimate: {checks.estimate(prepared.load)}")
    if (price := prepared.settings.price) is not None:
        # Each rollout fills the window, at the higher of the prices.
        tokens = prepared.load.rollouts * prepared.settings.max_new_tokens
        say(f"# cost: {money(max(price) * tokens / 1e6)} at most")
    say(first_prompt(prepared))
    refuse(results)


def surroundings(prepared: Prepared) -> Iterator[str]:
    """The environment that the engine would start in, its kernels, and the deviations from the
    recipe, a line each."""
    environment = provenance.environment() | dict(prepared.launch.environment)
    for name, value in sorted(environment.items()):
        yield f"environment: {name} is unset" if value is None else f"environment: {name}={value}"
    described = prepared.launch.described
    for name, kernel in described.kernels.items():
        yield f"{name}: {kernel}"
    for sentence in described.deviations:
        yield f"unlike the {prepared.settings.recipe} recipe: {sentence}"


def first_prompt(prepared: Prepared) -> str:
    """The first problem's prompt as it is sent, or as its messages without a tokenizer."""
    data, chat, method = prepared.data, prepared.chat, prepared.method
    question = data.problems[0].question if data else "(the data set's first question)"
    state = method.start(question)
    if data is not None and chat is not None:
        plan, key = prepared.plan(data, chat), Key("", data.problems[0].id, 0, 0)
        start = steps.start(plan, data.problems[0])
        asked = steps.ask(plan, start, steps.views(plan, start, key)[0], key)
        budget = asked.request.max_tokens if asked.request else asked.failure
        title = f"# first prompt ({len(asked.prompt_ids)} tokens, reply up to {budget})"
        pattern = asked.request.pattern if asked.request else None
        constraint = f"\n# constrained to {pattern}" if pattern else ""
        return f"{title}{constraint}\n{chat.decode(list(asked.prompt_ids), False)}"
    window, answers = prepared.settings.max_new_tokens, data.answers if data else Integer()
    count = chat.count if chat else len
    measure = TokenMeasure(window, count)
    room = Room(
        window,
        count,
        measure.last_sentences,
        answers,
        lambda first, other: first == other,
        prepared.templates,
    )
    prompt = method.render(method.ask(state, room)[0], room)
    turns = "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt.messages)
    return f"# first prompt (as messages)\n{turns}"
