"""What is known of a run before an engine is started, and whether this machine can do it. A real
start refuses what --dry_run calls wrong; what only another machine can tell ends neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from operator import add

from kflow.engines.vllm_engine import arguments as engine_arguments
from kflow.engines.vllm_engine import recipes
from kflow.ground import hardware
from kflow.ground.price import money
from kflow.ground.terminal import brief, counted, say
from kflow.ground.version import version_of
from kflow.loop import steps
from kflow.loop.chain import Chain
from kflow.results import manifest
from kflow.results.store import check_writable
from kflow.running import checks, fidelity, machine, provenance
from kflow.running.checks import NOT_CHECKED, NOTE, OK, WRONG, Check, Workload
from kflow.running.run import NOT_HERE, Run
from kflow.types import Key, Unreachable, UserError


def check(runs: Sequence[Run], given_engine: bool) -> None:
    """The checks of a real start, before its engine is started. Raises UserError for what is wrong
    and prints what should be known. given_engine: the engine is not the one that the settings ask
    for."""
    for run in runs:
        check_writable(run.folder)
        check_fit(run.chains)
    whole, left = reduce(add, (run.load for run in runs)), sum(run.rollouts_left for run in runs)
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


def plan(runs: Sequence[Run], missing: Sequence[Check]) -> list[Check]:
    """All checks of a dry run, of runs that would share an engine. missing: what is not here."""
    load, first = reduce(add, (run.load for run in runs)), runs[0]
    results = [*missing, *of_data(first)]
    if first.settings.engine == "vllm":
        build = partial(engine_arguments.build, first.engine.arguments)
        results += attempt(build, "vLLM takes the engine's arguments for this model")
        results += of_engine(first, load)
    else:
        results.append(Check(NOT_CHECKED, "the servers: their model, window, GPUs and KV cache"))
    for run in runs:
        results += attempt(partial(check_writable, run.folder))
    place = first.settings.results_dir
    results.append(checks.disk(load, machine.free(first.folder), place))
    return list(dict.fromkeys(results))


def attempt(action: Callable[[], object], success: str = "") -> Iterator[Check]:
    """What comes of an action that raises UserError for what is wrong. success: said where nothing
    is."""
    try:
        action()
    except UserError as error:
        state = NOT_CHECKED if isinstance(error, Unreachable) else WRONG
        yield Check(state, str(error).rstrip("."))
    else:
        if success:
            yield Check(OK, success)


def of_data(run: Run) -> Iterator[Check]:
    source, number = run.problems.source, counted(len(run.problems.problems), "problem")
    if source is NOT_HERE:
        yield Check(NOT_CHECKED, f"the number of problems: the plan assumes {number}")
    elif source.split is None:
        made = f", made by {source.generator}" if source.generator else ""
        yield Check(OK, f"{number} in {source.dataset}{made}")
        for text in source.taken_off:
            yield Check(NOTE, f"taken off their questions: {text.rstrip('.')!r}")
    elif source.revision is None:
        advice = f"--dataset {source.dataset}@REVISION pins it"
        yield Check(NOTE, f"{number} in {source.dataset}, at no fixed revision: {advice}")
    else:
        yield Check(OK, f"{number} in {source.dataset} at revision {source.revision}")
    if not run.chat_missing:
        yield Check(OK, f"chat format and vocabulary of {run.family} found")


def of_engine(run: Run, load: Workload) -> Iterator[Check]:
    """What the machine has for vLLM. A CPU has no GPUs."""
    arguments, model = run.engine.arguments, run.settings.model
    known = checks.PUBLISHED_WEIGHTS.get(model.name)
    vllm = recipes.installed()
    cpu = vllm is not None and vllm.cpu
    gpus = hardware.gpus()
    if not cpu:
        yield checks.devices(gpus, arguments)
        yield checks.sequences(arguments, load)
        if loses := recipes.loses_replies(arguments, recipes.node()):
            yield Check(NOTE, f"async_scheduling is on: {loses}")
    elif known is not None:
        yield Check(
            NOT_CHECKED,
            "GPUs and batch, since this is vLLM's CPU build: for a GPU node's plan use "
            "an environment with requirements/client.txt, or the node's own",
        )
    packages = {each: version_of(each) for each in ("hf_transfer", "huggingface-hub")}
    yield from checks.downloads(os.environ, packages)
    if arguments.get("load_format") != "dummy":
        weights = machine.weights(model, run.model)
        local = model.is_folder
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


def dry_run(run: Run, missing: Sequence[Check]) -> None:
    """Print what run.json would hold but for its sessions, the environment, the checks, an
    estimate, and the first prompt. Raises UserError for what is wrong."""
    record = manifest.plain(run.manifest())
    del record["sessions"]
    say(manifest.shown(record))
    say(f"\n# results: {run.folder}")
    say(f"# prompts: {run.wording}")
    for line in surroundings(run):
        say(f"# {line}")
    results = plan([run], missing)
    for check in results:
        say(f"# {check.state}: {check.text}")
    say(f"# estimate: {checks.estimate(run.load)}")
    if (price := run.settings.price) is not None:
        # Each rollout fills the window, at the higher of the prices.
        tokens = run.load.rollouts * run.settings.max_new_tokens
        say(f"# cost: {money(max(price) * tokens / 1e6)} at most")
    say(first_prompt(run))
    refuse(results)


def surroundings(run: Run) -> Iterator[str]:
    """The environment that the engine would start in, its kernels, and the deviations from the
    recipe and from the published system, a line each."""
    environment = provenance.environment() | dict(run.engine.environment)
    for name, value in sorted(environment.items()):
        yield f"environment: {name} is unset" if value is None else f"environment: {name}={value}"
    description = run.engine.description
    for name, kernel in description.kernels.items():
        yield f"{name}: {kernel}"
    for sentence in description.deviations:
        yield f"unlike the {run.settings.recipe} recipe: {sentence}"
    yield from fidelity.differences(run)


def first_prompt(run: Run) -> str:
    """The first problem's prompt as it is sent, or as its messages without a tokenizer."""
    problem = run.problems.problems[0]
    key, start = Key("", problem.id, 0, 0), steps.start(run, problem)
    asked = steps.ask(run, start, steps.views(run, start, key)[0], key)
    if run.chat_missing:
        turns = (f"{turn.role}: {turn.content}" for turn in asked.prompt.messages)
        return "\n\n".join(["# first prompt (as messages)\n" + next(turns), *turns])
    budget = asked.request.max_tokens if asked.request else asked.failure
    title = f"# first prompt ({len(asked.prompt_ids)} tokens, reply up to {budget})"
    pattern = asked.request.pattern if asked.request else None
    constraint = f"\n# constrained to {pattern}" if pattern else ""
    return f"{title}{constraint}\n{run.chat.decode(list(asked.prompt_ids), False)}"
