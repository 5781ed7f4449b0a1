"""Every script from its flags to its files (docs/method.md, "Defaults", "Output" and "Rivals at
equal budget")."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.fakes import K, ScriptedEngine, answer_of, mark
from helpers.scripted import ALL, QUESTIONS, SCRIPTS, Ran, refused, run_script
from kflow.engines.vllm_engine.recipes import cpu_dtype, node
from kflow.problems.known_datasets import describe
from kflow.running.settings import Settings

OSS, QWEN = "openai/gpt-oss-120b", "Qwen/Qwen3-235B-A22B-Thinking-2507"
AIME25, AIME24 = "yentinglin/aime_2025", "HuggingFaceH4/aime_2024"
NAMES = [name for name, _, _ in QUESTIONS]


class Facts(NamedTuple):
    """docs/method.md on a script for gpt-oss, and for Qwen. fractions: of the window, by step 0 and
    later ones. widths: of the first steps with these flags. steps: the default number."""

    prefix: str
    fractions: tuple[float, float] = (0.9, 0.9)
    dataset: str = AIME25
    widths: tuple[int, ...] = (1, 1, 1)
    flags: tuple[str, ...] = ()
    steps: int = 64


FACTS = {
    "kflow_oss": Facts("vllm"),
    "kflow_oss24": Facts("vllm24", dataset=AIME24),
    "kflow_oss_knowledgeRegen": Facts("vllm_regen", (0.8, 0.8)),
    "kflow_oss_positiveKnowledge": Facts("vllm_posK", (0.8, 0.8)),
    "oss_markovian_thinking": Facts("vllm_markov", (0.9, 0.5)),
    "oss_parallel_thinking": Facts("vllm_parallel"),
    "oss_refine": Facts("vllm_refine"),
    "oss_rsa": Facts(
        "vllm_rsa", widths=(4, 4), flags=("--rollouts_per_step", "4", "--aggregate", "2"), steps=10
    ),
    "oss_trt": Facts("vllm_trt", widths=(1, 3, 1, 3), flags=("--strategies", "3"), steps=17),
    "oss_rse": Facts("vllm_rse", widths=(3, 3, 3), flags=("--attempts", "3"), steps=7),
    "oss_pacore": Facts("vllm_pacore", widths=(4, 2, 1), flags=("--rounds", "4,2"), steps=2),
    "qwen_markovian_whole_tail": Facts("vllm_markov_tail", (0.9, 0.5)),
}
FACTS |= {name.replace("oss", "qwen"): facts for name, facts in FACTS.items() if "oss" in name}
FACTS["kflow_qwen_knowledgeRegen"] = Facts("vllm_regen")
FACTS["kflow_qwen_positiveKnowledge"] = Facts("vllm_posK")


class Case(NamedTuple):
    name: str
    facts: Facts
    window: int
    ran: Ran
    engine: ScriptedEngine
    home: Path


@pytest.fixture(scope="module", params=ALL)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """One finished run of each script: three problems, a few steps, all else by default."""
    home, engine = tmp_path_factory.mktemp("run"), ScriptedEngine(order=2)
    facts, window = FACTS[request.param[5:]], 131072 if "oss" in request.param else 262144
    flags = [*facts.flags, "--reflex_size", str(len(facts.widths))]
    ran = run_script(request.param, flags, home, engine)
    return Case(request.param, facts, window, ran, engine, home)


def test_these_are_all_the_scripts() -> None:
    assert {f"vllm_{name}" for name in FACTS} == set(ALL)
    assert len(SCRIPTS) == 10


def test_a_run_ends_well_and_in_its_folder(case: Case) -> None:
    assert (case.ran.code, case.ran.complaints) == (0, [])
    folder = case.home / "results" / f"{case.facts.prefix}_{case.window}_" / "model"
    assert case.ran.folder == folder
    steps = range(len(case.facts.widths))
    files = {"run.json", "status.json", *(f"predictions_{step}.json" for step in steps)}
    assert {path.name for path in folder.iterdir()} == files
    assert case.ran.out == f"Results: {folder}\n"
    lines = case.ran.err.splitlines()
    for step, line in zip(steps, lines, strict=True):
        assert line.startswith(f"step {step} complete")
    assert (case.engine.started, case.engine.closed) == (1, 1)


def test_every_slot_is_asked_once_with_its_budget(case: Case) -> None:
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
        assert request.max_tokens == int(fraction * case.window)


def test_the_postfix_and_the_window_name_the_folder(tmp_path: Path) -> None:
    flags = ["--reflex_size", "1", "--limit", "1", "--max_new_tokens", "9000"]
    flags += ["--output_postfix", "try 2"]
    ran = run_script("vllm_kflow_oss", flags, tmp_path, ScriptedEngine())
    assert ran.folder == tmp_path / "results" / "vllm_9000_try 2" / "model"
    assert len(ran.step(0)) == 2


def test_records_have_the_fields_of_the_method_first_and_their_slots(case: Case) -> None:
    for step, width in enumerate(case.facts.widths):
        _, *records = case.ran.step(step)
        assert [record["id"] for record in records] == NAMES
        assert [record["gold"] for record in records] == [gold for _, _, gold in QUESTIONS]
        for record in records:
            fields = ["question", "gold", "predicted", "pred_solution", "correct"]
            assert list(record)[:5] == fields
            slots = record.get("rollouts", [record])
            assert [slot["slot"] for slot in slots] == list(range(width))
            for slot in slots:
                key = K(record["id"], 0, step, slot["slot"])
                assert slot["question"] == case.engine.prompts[key]
                assert slot["predicted"] == (answer_of(key) if slot["asks_answer"] else None)
                assert (slot["finish_reason"], slot["failure"]) == ("stop", None)
                assert slot["missing_sections"] == []
                reply = slot["pred_solution"][slot["reply_start"] :]
                assert mark(key, "thoughts") in reply
            if width == 1 and record["asks_answer"]:
                assert record["correct"] is (record["predicted"] == int(record["gold"]))


def test_run_json_says_what_was_run(case: Case) -> None:
    lists = ("vllm", "vllm24", "vllm_regen", "vllm_posK", "vllm_trt")
    assert case.ran.run().get("shows_list", False) == (case.facts.prefix in lists)
    run = case.ran.run()
    settings, (session,) = run["settings"], run["sessions"]
    assert settings["max_new_tokens"] == case.window
    assert run["sampling"] == case.engine.sampling == {"temperature": 0.6}
    assert settings["seed"] == 0
    assert run["experiment"]["prefix"] == case.facts.prefix
    assert run["problems"]["number"] == 3
    method = importlib.import_module(case.name).EXPERIMENT.method
    assert set(run["prompts"]) == set(method.prompts)
    for digest in (*run["prompts"].values(), run["problems"]["hash"]):
        assert re.fullmatch("[0-9a-f]{64}", digest)
    assert session["argv"][0] == f"scripts/{case.name}.py"
    assert session["argv"][-2:] == ["--reflex_size", str(settings["reflex_size"])]
    assert settings["model_name"] == str(case.home / "model")
    assert run["engine"]["arguments"] == session["arguments"] == case.engine.arguments
    assert case.engine.arguments["max_model_len"] == case.window
    assert case.engine.arguments["dtype"] == cpu_dtype(node().release)
    assert set(session["versions"]) >= {"python", "nltk"}
    assert {"commit", "dirty", "started", "machine"} <= set(session)


@pytest.mark.parametrize("name", ALL)
def test_the_published_command_is_the_default(name: str) -> None:
    facts, oss = FACTS[name[5:]], "oss" in name
    options = Settings().resolved(importlib.import_module(name).EXPERIMENT.defaults)
    assert options.model_name == (OSS if oss else QWEN)
    assert options.max_new_tokens == (131072 if oss else 262144)
    assert (options.dataset, options.split) == (facts.dataset, None)
    assert describe(options.dataset).split == "train"
    assert (options.temperature, options.reflex_size, options.seed) == (0.6, facts.steps, 0)
    assert (options.output_postfix, options.results_dir) == ("", "./results")
    assert not options.trust_remote_code


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


def test_a_methods_own_flags_are_explained_and_recorded(tmp_path: Path) -> None:
    names = ("rollouts_per_step", "aggregate")
    help_text = run_script("vllm_oss_rsa", ["--help"], tmp_path).out
    assert all(f"--{name}" in help_text for name in names)
    chosen = [word for name in names for word in (f"--{name}", "3")]
    ran = run_script("vllm_oss_rsa", [*chosen, "--reflex_size", "1"], tmp_path, ScriptedEngine())
    fields = ran.run()["experiment"]["fields"]
    assert [fields[name] for name in names] == [3, 3]
    more = run_script("vllm_oss_rsa", ["--rollouts_per_step", "4"], tmp_path)
    refused(more, "rollouts_per_step")
