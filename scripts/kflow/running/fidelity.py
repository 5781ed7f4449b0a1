"""What of a run differs from the published system (docs/fidelity.md has all of it, and why)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kflow.engines.vllm_engine import recipes
from kflow.flags import flags_of
from kflow.ground.redaction import public
from kflow.ground.terminal import shortened
from kflow.running.engine import recipe_of
from kflow.running.options import AnyEngine, Data, ExperimentFlags, Sampling, Schedule
from kflow.running.run import Run
from kflow.running.settings import FLAGS, Settings

VLLM, GPUS = "0.10.2", 8
EFFORT = "high"
PREFIX = "unlike the published system: "
# Flags that say what a run asks; seeds and prompts have a line of their own.
SUBJECTS = (ExperimentFlags, Sampling, Data, Schedule, AnyEngine)
COMPARED = frozenset(
    {each.name for subject in SUBJECTS for each in flags_of(subject)} | {"speculate"}
) - {"seed", "prompt_dir", "max_failures", "canary", "change_engine", "trust_remote_code"}


def differences(run: Run) -> Iterator[str]:
    """A line for each difference in force for this run on this machine, and one that says where
    those are that every run has."""
    for sentence in (*of_engine(run), *of_request(run)):
        yield f"{PREFIX}{sentence}"
    yield f"{PREFIX}docs/fidelity.md has what differs in every run"


def of_engine(run: Run) -> Iterator[str]:
    """Of vLLM, its version and arguments; those on which `run.engine.description` has a sentence
    are left to it."""
    if run.settings.engine != "vllm":
        return
    vllm = recipes.installed()
    if vllm is not None and vllm.cpu:
        yield f"vLLM {vllm.version} on a CPU, not {VLLM} on {GPUS} GPUs"
    elif vllm is not None and vllm.version != VLLM:
        yield f"vLLM {vllm.version}, not {VLLM}"
    asked = Settings(
        model_name=run.settings.model_name,
        max_new_tokens=run.settings.max_new_tokens,
        as_published=True,
        tensor_parallel_size=GPUS,
        trust_remote_code=run.settings.trust_remote_code,  # it changes no reply
    )
    published = recipe_of(run.experiment.family, asked, run.model, None).arguments
    for name, sentence in compare(public(published), public(run.engine.arguments)):
        if not any(each.startswith(f"{name} ") for each in run.engine.description.deviations):
            yield sentence


def compare(
    published: Mapping[str, object], arguments: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """Each engine argument that differs, by its name, and how; both under one vLLM's names."""
    before, now = (dict(recipes.flat(each)) for each in (published, arguments))
    for place in sorted(before.keys() | now.keys()):
        name = ".".join(place)
        if place not in now:
            yield name, f"{name} is left to vLLM, not {shortened(before[place])}"
        elif place not in before:
            yield name, f"{name} is {shortened(now[place])}, not vLLM's own"
        elif before[place] != now[place]:
            yield name, f"{name} is {shortened(now[place])}, not {shortened(before[place])}"


def of_request(run: Run) -> Iterator[str]:
    """Of what is asked: model, data, window, sampling, prompts, seeds."""
    settings = run.settings
    published = {each.name: each.default for each in FLAGS} | run.experiment.defaults
    for name in sorted(COMPARED):
        if (value := getattr(settings, name)) != published[name]:
            usual = published[name]
            other = "" if usual in (None, False) else f", not {shortened(usual)}"
            yield f"--{name} is {shortened(value)}{other}"
    effort = run.experiment.family.reasoning_effort
    if effort not in (None, EFFORT):
        yield f"--reasoning_effort is {effort}, not {EFFORT}"
    if not run.wording.startswith("published"):
        yield f"the prompts are {run.wording}"
    if settings.schedule == "free":
        yield "no chain waits for another: --schedule barrier does"
    yield f"every rollout has a sampling seed, from --seed {settings.seed}"
