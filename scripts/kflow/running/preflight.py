"""What is known of a run before an engine is started, and whether this machine can do it. A real
start refuses what --dry_run calls wrong, a missing key once a server does; what only another
machine can tell ends neither.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from kflow.engines.openai_engine.network import on_this_machine
from kflow.engines.vllm_engine import arguments as engine_arguments
from kflow.engines.vllm_engine import recipes
from kflow.flags import flags_of
from kflow.ground import hardware, redaction
from kflow.ground.redaction import masked, public
from kflow.ground.streams import say
from kflow.ground.terminal import brief, counted, shortened
from kflow.loop import steps
from kflow.loop.steps import AskedRollout
from kflow.results import manifest
from kflow.running import checks, plan, provenance
from kflow.running.checks import NOT_CHECKED, NOTE, OK, PUBLISHED_WEIGHTS, WRONG, Check
from kflow.running.engine import recipe_of
from kflow.running.options import (
    AS_JSON,
    AnyEngine,
    Data,
    ExperimentFlags,
    Sampling,
    Schedule,
)
from kflow.running.plan import Workload
from kflow.running.run import NOT_HERE, Run
from kflow.running.settings import FLAGS, Settings
from kflow.types import Key, Problem, Unreachable, UserError

ORDER = (WRONG, NOTE, NOT_CHECKED, OK)
# The published system.
PUBLISHED_VLLM, PUBLISHED_GPUS = "0.10.2", 8
PUBLISHED_EFFORT = "high"
UNLIKE = "unlike the published system: "
# Flags that say what a run asks; seeds and prompts have a line of their own.
SUBJECTS = (ExperimentFlags, Sampling, Data, Schedule, AnyEngine)
COMPARED = frozenset(
    {each.name for subject in SUBJECTS for each in flags_of(subject)} | {"speculate"}
) - {"seed", "prompt_dir", "max_failures", "canary", "change_engine", "trust_remote_code"}


def check(runs: Sequence[Run], given_engine: bool) -> None:
    """The checks of a real start, before its engine is started. Raises UserError for what is wrong
    and prints what should be known. given_engine: the engine is not the one that the settings ask
    for."""
    for run in runs:
        if run.chains and not any(chain.state.step for chain in run.chains):  # it begins
            check_fit(run)
    results = list(of_machine(runs, plan.left_of(runs), given_engine))
    refuse(results)
    for check in results:
        if check.state == NOTE:
            print(brief(f"Note: {check.text}."), file=sys.stderr)


def refuse(results: Sequence[Check]) -> None:
    """Raises UserError for all that is wrong."""
    if wrong := list(dict.fromkeys(check.text for check in results if check.state == WRONG)):
        raise UserError(f"{'; '.join(wrong)}.")


def check_all(runs: Sequence[Run], missing: Sequence[Check]) -> list[Check]:
    """All checks of a dry run, of runs that would share an engine. missing: what is not here."""
    first = runs[0]
    results = [*missing, *of_data(first)]
    if first.settings.engine == "vllm":
        build = partial(engine_arguments.build, first.engine.arguments)
        results += attempt(build, "vLLM takes the engine's arguments for this model")
    else:
        results += of_servers(runs)
    for run in runs:
        if not run.chat_missing:
            results += attempt(partial(check_fit, run))
    results += of_machine(runs, plan.load_of(runs))
    return list(dict.fromkeys(results))


def of_machine(runs: Sequence[Run], load: Workload, given_engine: bool = False) -> Iterator[Check]:
    """What this machine has for runs that share an engine."""
    first = runs[0]
    if first.settings.engine == "vllm" and not given_engine:
        yield from of_engine(first, load)
    for run in runs:
        yield from attempt(partial(checks.writable, run.folder))
    free = checks.free(first.folder)
    yield checks.disk(load.result_bytes, free, first.settings.results_dir)


def attempt(action: Callable[[], object], success: str = "") -> Iterator[Check]:
    """What comes of an action that raises UserError for what is wrong. success: said where nothing
    is."""
    try:
        action()
    except UserError as error:
        yield Check.of(error)
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
            yield Check(NOTE, f"removed from their questions: {text.rstrip('.')!r}")
    elif source.revision is None:
        advice = f"--dataset {source.dataset}@REVISION pins it"
        yield Check(NOTE, f"{number} in {source.dataset}, at no fixed revision: {advice}")
    else:
        yield Check(OK, f"{number} in {source.dataset} at revision {source.revision}")
    if not run.chat_missing:
        yield Check(OK, f"chat format and vocabulary of {run.family} found")


def of_servers(runs: Sequence[Run]) -> Iterator[Check]:
    """A key for servers that others can reach, and what servers say of themselves, which costs
    nothing; their prices are those of the plan."""
    first = runs[0]
    keyless = [masked(url) for url in first.settings.addresses if not on_this_machine(url)]
    if keyless and not redaction.key():
        remedy = f"set {redaction.KEY}, to any word for a server that needs no key"
        yield Check(WRONG, f"there is no key for {', '.join(keyless)}: {remedy}")
    if first.engine.look is None:
        return
    try:
        described = first.engine.look(first.chat)
    except Unreachable as error:
        yield Check(NOT_CHECKED, f"the servers' model, window and prices: {error}")
    except UserError as error:
        if redaction.key() or not keyless:
            yield Check.of(error)
    else:
        for run in runs:
            run.described = described
        yield from attempt(partial(plan.check_priced, first))
        for server in described.servers:
            window = "" if server.window is None else f", with a window of {server.window:,} tokens"
            yield Check(OK, f"{server.url} serves {server.model}{window}")


def of_engine(run: Run, load: Workload) -> Iterator[Check]:
    """What the machine has for vLLM. A CPU has no GPUs."""
    arguments, model = run.engine.arguments, run.settings.model
    published, cpu = model.name in PUBLISHED_WEIGHTS, recipes.is_cpu_build()
    gpus = hardware.gpus()
    if not cpu:
        yield checks.devices(gpus, arguments)
        yield checks.sequences(arguments, load.in_flight)
        if loses := recipes.loses_replies(arguments, recipes.node()):
            yield Check(NOTE, f"async_scheduling is on: {loses}")
    elif arguments.get("dtype") == "bfloat16" != recipes.cpu_dtype(recipes.node().release):
        yield Check(NOTE, "this CPU has no instructions for bfloat16: --dtype float32 is faster")
    if cpu and published:
        yield Check(
            NOT_CHECKED,
            "GPUs and batch, since this is vLLM's CPU build: for a GPU node's plan use "
            "an environment with requirements/client.txt, or the node's own",
        )
    if arguments.get("load_format") != "dummy":
        weights = checks.find_weights(model, run.model)
        here = bool(gpus) or (cpu and not published)
        yield checks.stored(weights, checks.free(weights.folder), model.is_folder, here)


def check_fit(run: Run) -> None:
    """Raises UserError where no question fits the window."""
    failure = None
    for problem in run.problems.problems:
        asked = first_rollout(run, problem)
        if asked.request is not None:
            return
        failure = asked.failure
    raise UserError(f"No question fits: {failure}; give a larger --max_new_tokens.")


def dry_run(run: Run, missing: Sequence[Check]) -> None:
    """Print the checks, what differs from the recipe and the published system, and the plan. As
    JSON: first what run.json would hold but for its sessions, and all the rest as comments, with
    the environment before it and the first prompt after it. Raises UserError for what is wrong."""
    results = check_all([run], missing)
    asked = first_rollout(run, run.problems.problems[0])
    planned = [*plan.of_run(run), f"first prompt: {in_tokens(run, asked)}"]
    if run.settings.dry_run == AS_JSON:
        record = manifest.plain(run.manifest())
        del record["sessions"]
        say(manifest.shown(record))
        comments = [*planned[:1], *environment(run), *findings(run, results), *planned[1:]]
        say("\n" + "\n".join(f"# {line}" for line in comments))
        say(first_prompt(run, asked))
    else:
        say("\n".join([*findings(run, results), "", *planned]))
        say("--dry_run json also prints what run.json would hold, the environment and that prompt.")
    refuse(results)


def dry_run_together(
    runs: Sequence[Run], missing: Sequence[Check], assumed: int, speed: int
) -> None:
    """The same of runs that share an engine. As JSON: its arguments and its environment too."""
    first = runs[0]
    first.resize(sum(run.in_flight for run in runs))
    results = check_all(runs, missing)
    planned = [*plan.of_study(runs, assumed, speed)]
    if first.settings.dry_run == AS_JSON:
        planned.append(f"engine arguments: {json.dumps(public(first.engine.arguments))}")
        planned += environment(first)
    say("\n".join([*findings(first, results), "", *planned]))
    refuse(results)


def findings(run: Run, results: Sequence[Check]) -> Iterator[str]:
    """The checks, what is wrong first; the engine's kernels; and the deviations from the recipe and
    from the published system."""
    for check in sorted(results, key=lambda check: ORDER.index(check.state)):
        yield f"{check.state}: {check.text}"
    description = run.engine.description
    for name, kernel in description.kernels.items():
        yield f"{name}: {kernel}"
    for sentence in description.deviations:
        yield f"unlike the {run.settings.recipe} recipe: {sentence}"
    for sentence in (*unlike_engine(run), *unlike_request(run)):
        yield f"{UNLIKE}{sentence}"
    yield f"{UNLIKE}docs/fidelity.md lists what differs in every run"


def unlike_engine(run: Run) -> Iterator[str]:
    """What differs from the published system of vLLM's version and arguments; what
    `run.engine.description` has a sentence on is left to it."""
    if run.settings.engine != "vllm":
        return
    vllm = recipes.installed()
    if vllm is not None and vllm.cpu:
        yield f"vLLM {vllm.version} on a CPU, not {PUBLISHED_VLLM} on {PUBLISHED_GPUS} GPUs"
    elif vllm is not None and vllm.version != PUBLISHED_VLLM:
        yield f"vLLM {vllm.version}, not {PUBLISHED_VLLM}"
    asked = Settings(
        model_name=run.settings.model_name,
        max_new_tokens=run.settings.max_new_tokens,
        as_published=True,
        tensor_parallel_size=PUBLISHED_GPUS,
        trust_remote_code=run.settings.trust_remote_code,  # it changes no reply
    )
    published = recipe_of(run.experiment.family, asked, run.model, None).arguments
    before, now = (dict(recipes.flat(public(each))) for each in (published, run.engine.arguments))
    said = {sentence.split()[0] for sentence in run.engine.description.deviations}
    for place in sorted(before.keys() | now.keys()):
        same = place in before and place in now and before[place] == now[place]
        if not same and (name := ".".join(place)) not in said:
            value = f"is {shortened(now[place])}" if place in now else "is left to vLLM"
            other = shortened(before[place]) if place in before else "vLLM's own"
            yield f"{name} {value}, not {other}"


def unlike_request(run: Run) -> Iterator[str]:
    """What differs of what is asked: model, data, window, sampling, prompts, seeds."""
    settings = run.settings
    published = {each.name: each.default for each in FLAGS} | run.experiment.defaults
    for name in sorted(COMPARED):
        if (value := getattr(settings, name)) != published[name]:
            usual = published[name]
            other = "" if usual in (None, False) else f", not {shortened(usual)}"
            yield f"--{name} is {shortened(value)}{other}"
    effort = run.experiment.family.reasoning_effort
    if effort not in (None, PUBLISHED_EFFORT):
        yield f"--reasoning_effort is {effort}, not {PUBLISHED_EFFORT}"
    if not run.wording.startswith("published"):
        yield f"the prompts are {run.wording}"
    if settings.schedule == "free":
        yield "no chain waits for another; with --schedule barrier all do"
    yield f"every rollout has a sampling seed, derived from --seed {settings.seed}"


def environment(run: Run) -> Iterator[str]:
    """The environment that the engine would start in."""
    values = provenance.environment() | dict(run.engine.environment)
    for name, value in sorted(values.items()):
        yield f"environment: {name} is unset" if value is None else f"environment: {name}={value}"


def first_rollout(run: Run, problem: Problem) -> AskedRollout:
    key, start = Key("", problem.id, 0, 0), steps.start(run, problem)
    return steps.ask(run, start, steps.views(run, start, key)[0], key)


def in_tokens(run: Run, asked: AskedRollout) -> str:
    """The lengths of the first problem's prompt and its reply."""
    budget = f"a reply of up to {asked.request.max_tokens:,}" if asked.request else asked.failure
    about = "about " if run.chat_missing else ""
    return f"{about}{len(asked.prompt_ids):,} tokens, {budget}"


def first_prompt(run: Run, asked: AskedRollout) -> str:
    """The first problem's prompt as it is sent, or as its messages without a tokenizer."""
    if run.chat_missing:
        turns = (f"{turn.role}: {turn.content}" for turn in asked.prompt.messages)
        return "\n\n".join(["# first prompt (as messages)\n" + next(turns), *turns])
    budget = asked.request.max_tokens if asked.request else asked.failure
    title = f"# first prompt ({len(asked.prompt_ids)} tokens, reply up to {budget})"
    pattern = asked.request.pattern if asked.request else None
    constraint = f"\n# constrained to {pattern}" if pattern else ""
    return f"{title}{constraint}\n{run.chat.decode(list(asked.prompt_ids), False)}"
