"""The rivals' scripts from their flags to their files (docs/method.md, "Rivals at equal
budget")."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.fakes import K, ScriptedEngine
from helpers.scripted import QUESTIONS, RIVALS, Ran, refused, run_script
from kflow.running.settings import Settings

OSS, QWEN = "openai/gpt-oss-120b", "Qwen/Qwen3-235B-A22B-Thinking-2507"
NAMES = [name for name, _, _ in QUESTIONS]


class Facts(NamedTuple):
    """docs/method.md on one rival. widths: of the first steps with these flags. fractions: of the
    first step and of later ones. steps: the default number."""

    prefix: str
    widths: tuple[int, ...]
    flags: tuple[str, ...] = ()
    fractions: tuple[float, float] = (0.9, 0.9)
    steps: int = 64


RSA = Facts("vllm_rsa", (4, 4, 4), ("--rollouts_per_step", "4", "--aggregate", "2"), steps=10)
TRT = Facts("vllm_trt", (1, 3, 1, 3, 1), ("--strategies", "3"), steps=17)
RSE = Facts("vllm_rse", (3, 3, 3), ("--attempts", "3"), steps=7)
PACORE = Facts("vllm_pacore", (4, 2, 1), ("--rounds", "4,2"), steps=2)
FACTS = {
    "parallel_thinking": Facts("vllm_parallel", (1, 1, 1)),
    "refine": Facts("vllm_refine", (1, 1, 1)),
    "rsa": RSA,
    "trt": TRT,
    "rse": RSE,
    "pacore": PACORE,
    "markovian_whole_tail": Facts("vllm_markov_tail", (1, 1, 1), fractions=(0.9, 0.5)),
}


class Case(NamedTuple):
    name: str
    facts: Facts
    ran: Ran
    engine: ScriptedEngine
    flags: list[str]


def facts_of(name: str) -> Facts:
    return FACTS[name.split("_", 2)[2]]


@pytest.fixture(scope="module", params=RIVALS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    facts, engine = facts_of(request.param), ScriptedEngine(order=2)
    flags = [*facts.flags, "--reflex_size", str(len(facts.widths))]
    ran = run_script(request.param, flags, tmp_path_factory.mktemp("run"), engine)
    return Case(request.param, facts, ran, engine, flags)


def test_these_are_all_the_rivals() -> None:
    both = {f"vllm_{family}_{rival}" for family in ("oss", "qwen") for rival in FACTS}
    assert set(RIVALS) == both - {"vllm_oss_markovian_whole_tail"}


def test_a_run_ends_well_and_in_its_folder(case: Case) -> None:
    assert (case.ran.code, case.ran.complaints) == (0, [])
    window = 131072 if "_oss_" in case.name else 262144
    assert case.ran.folder.parent.name == f"{case.facts.prefix}_{window}_"
    keys = [(r.key.problem, r.key.step, r.key.slot) for r in case.engine.requests]
    expected = [
        (name, step, slot)
        for name in NAMES
        for step, width in enumerate(case.facts.widths)
        for slot in range(width)
    ]
    assert sorted(keys) == sorted(expected)
    for request in case.engine.requests:
        fraction = case.facts.fractions[min(request.key.step, 1)]
        assert request.max_tokens == int(fraction * window)


def test_records_hold_their_slots(case: Case) -> None:
    for step, width in enumerate(case.facts.widths):
        _, *records = case.ran.step(step)
        assert [record["id"] for record in records] == NAMES
        for record in records:
            slots = record.get("rollouts", [record])
            assert [slot["slot"] for slot in slots] == list(range(width))
            for slot in slots:
                key = K(record["id"], 0, step, slot["slot"])
                assert slot["question"] == case.engine.prompts[key]
                assert slot["failure"] is None
                assert slot["missing_sections"] == []
                assert (slot["predicted"] is None) is not slot["asks_answer"]


@pytest.mark.parametrize("name", RIVALS)
def test_the_defaults(name: str) -> None:
    experiment, facts = importlib.import_module(name).EXPERIMENT, facts_of(name)
    settings = Settings().resolved(experiment.defaults)
    assert (settings.model_name, settings.reflex_size) == (
        OSS if "_oss_" in name else QWEN,
        facts.steps,
    )
    assert settings.dataset == "yentinglin/aime_2025"


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("vllm_oss_rsa", ["--aggregate", "17"], ("--aggregate 17", "--rollouts_per_step")),
        ("vllm_oss_pacore", ["--rounds", "4,"], ("--rounds", "32,4")),
        ("vllm_qwen_pacore", ["--rounds", "4", "--reflex_size", "3"], ("--reflex_size 3", "2")),
        ("vllm_qwen_trt", ["--aggregate", "2"], ("--aggregate",)),
    ],
)
def test_bad_sizes_are_refused(
    name: str, flags: list[str], words: tuple[str, ...], tmp_path: Path
) -> None:
    refused(run_script(name, flags, tmp_path), *words)


@pytest.mark.parametrize(
    ("name", "flags"),
    [("vllm_oss_rsa", ["--rollouts_per_step", "--aggregate"]), ("vllm_qwen_trt", ["--strategies"])],
)
def test_a_methods_own_flags_are_explained_and_recorded(
    name: str, flags: list[str], tmp_path: Path
) -> None:
    help_text = run_script(name, ["--help"], tmp_path).out
    assert all(flag in help_text for flag in flags)
    chosen = [word for flag in flags for word in (flag, "3")]
    engine = ScriptedEngine()
    ran = run_script(name, [*chosen, "--reflex_size", "1"], tmp_path, engine)
    assert ran.code == 0
    fields = ran.run()["experiment"]["fields"]
    assert [fields[flag.removeprefix("--")] for flag in flags] == [3] * len(flags)
    more = run_script(name, [flags[0], "4", "--reflex_size", "2"], tmp_path)
    refused(more, flags[0].removeprefix("--"))
