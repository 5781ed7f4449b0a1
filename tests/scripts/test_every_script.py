"""All ten scripts from their flags to their files (docs/method.md, "Defaults" and "Output")."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.fakes import K, ScriptedEngine, answer_of, mark
from helpers.scripted import QUESTIONS, SCRIPTS, Ran, run_script
from kflow.engines.vllm_engine.recipes import cpu_dtype, node
from kflow.problems.known_datasets import describe
from kflow.running.settings import Settings

OSS, QWEN = "openai/gpt-oss-120b", "Qwen/Qwen3-235B-A22B-Thinking-2507"
AIME25, AIME24 = "yentinglin/aime_2025", "HuggingFaceH4/aime_2024"
NAMES = [name for name, _, _ in QUESTIONS]
STEPS = 3


class Facts(NamedTuple):
    """docs/method.md on one script. fractions: of step 0 and of later steps."""

    model: str
    window: int
    dataset: str
    prefix: str
    fractions: tuple[float, float] = (0.9, 0.9)


FACTS = {
    "vllm_kflow_oss": Facts(OSS, 131072, AIME25, "vllm"),
    "vllm_kflow_oss24": Facts(OSS, 131072, AIME24, "vllm24"),
    "vllm_kflow_oss_knowledgeRegen": Facts(OSS, 131072, AIME25, "vllm_regen", (0.8, 0.8)),
    "vllm_kflow_oss_positiveKnowledge": Facts(OSS, 131072, AIME25, "vllm_posK", (0.8, 0.8)),
    "vllm_oss_markovian_thinking": Facts(OSS, 131072, AIME25, "vllm_markov", (0.9, 0.5)),
    "vllm_kflow_qwen": Facts(QWEN, 262144, AIME25, "vllm"),
    "vllm_kflow_qwen24": Facts(QWEN, 262144, AIME24, "vllm24"),
    "vllm_kflow_qwen_knowledgeRegen": Facts(QWEN, 262144, AIME25, "vllm_regen"),
    "vllm_kflow_qwen_positiveKnowledge": Facts(QWEN, 262144, AIME25, "vllm_posK"),
    "vllm_qwen_markovian_thinking": Facts(QWEN, 262144, AIME25, "vllm_markov", (0.9, 0.5)),
}


class Case(NamedTuple):
    name: str
    facts: Facts
    ran: Ran
    engine: ScriptedEngine
    home: Path


@pytest.fixture(scope="module", params=SCRIPTS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """One finished run of each script: three problems, three steps, all else by default."""
    home, engine = tmp_path_factory.mktemp("run"), ScriptedEngine(order=2)
    ran = run_script(request.param, ["--reflex_size", str(STEPS)], home, engine)
    return Case(request.param, FACTS[request.param], ran, engine, home)


def test_these_are_all_the_scripts() -> None:
    assert set(FACTS) == set(SCRIPTS)
    assert len(SCRIPTS) == 10


def test_a_run_ends_well_and_in_its_folder(case: Case) -> None:
    assert (case.ran.code, case.ran.complaints) == (0, [])
    folder = case.home / "results" / f"{case.facts.prefix}_{case.facts.window}_" / "model"
    assert case.ran.folder == folder
    files = {"run.json", "status.json", *(f"predictions_{step}.json" for step in range(STEPS))}
    assert {path.name for path in folder.iterdir()} == files
    assert case.ran.out == f"Results: {folder}\n"
    sources = [line.partition(":")[0] for line in case.ran.err.splitlines()]
    assert sources == [f"step {step} complete" for step in range(STEPS)]
    assert (case.engine.started, case.engine.closed) == (1, 1)
    assert len(case.engine.requests) == len(QUESTIONS) * STEPS


def test_the_postfix_and_the_window_name_the_folder(tmp_path: Path) -> None:
    flags = ["--reflex_size", "1", "--limit", "1", "--max_new_tokens", "9000"]
    ran = run_script(SCRIPTS[0], [*flags, "--output_postfix", "try 2"], tmp_path, ScriptedEngine())
    assert ran.folder == tmp_path / "results" / f"{FACTS[SCRIPTS[0]].prefix}_9000_try 2" / "model"
    assert len(ran.step(0)) == 2


def test_records_have_the_fields_of_the_method_first(case: Case) -> None:
    for step in range(STEPS):
        _, *records = case.ran.step(step)
        assert [record["id"] for record in records] == NAMES
        assert [record["gold"] for record in records] == [gold for _, _, gold in QUESTIONS]
        for record in records:
            key = K(record["id"], 0, step)
            fields = ["question", "gold", "predicted", "pred_solution", "correct"]
            assert list(record)[:5] == fields
            assert record["question"] == case.engine.prompts[key]
            assert record["predicted"] == answer_of(key)
            assert record["correct"] is (answer_of(key) == int(record["gold"]))
            assert record["finish_reason"] == "stop"
            assert record["failure"] is None
            assert mark(key, "thoughts") in record["pred_solution"][record["reply_start"] :]
            if "markov" not in case.facts.prefix:  # which prompts for no answer section
                assert record["pred_solution"].endswith(rf"\boxed{{{answer_of(key)}}}")


def test_budgets_are_the_methods_fractions(case: Case) -> None:
    for request in case.engine.requests:
        fraction = case.facts.fractions[min(request.key.step, 1)]
        assert request.max_tokens == int(fraction * case.facts.window)


def test_run_json_says_what_was_run(case: Case) -> None:
    run = case.ran.run()
    settings, (session,) = run["settings"], run["sessions"]
    assert settings["max_new_tokens"] == case.facts.window
    assert run["sampling"] == case.engine.sampling == {"temperature": 0.6}
    assert settings["seed"] == 0
    assert run["experiment"]["prefix"] == case.facts.prefix
    assert run["problems"]["number"] == 3
    method = importlib.import_module(case.name).EXPERIMENT.method
    assert set(run["prompts"]) == set(method.prompts)
    for digest in (*run["prompts"].values(), run["problems"]["hash"]):
        assert re.fullmatch("[0-9a-f]{64}", digest)
    assert session["argv"][0] == f"scripts/{case.name}.py"
    assert session["argv"][-2:] == ["--reflex_size", "3"]
    assert settings["reflex_size"] == 3
    assert settings["model_name"] == str(case.home / "model")
    assert run["engine"]["arguments"] == session["arguments"] == case.engine.arguments
    assert case.engine.arguments["max_model_len"] == case.facts.window
    assert case.engine.arguments["dtype"] == cpu_dtype(node().release)
    assert set(session["versions"]) >= {"python", "nltk"}
    assert {"commit", "dirty", "started", "machine"} <= set(session)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_published_command_is_the_default(name: str) -> None:
    experiment, facts = importlib.import_module(name).EXPERIMENT, FACTS[name]
    options = Settings().resolved(experiment.defaults)
    assert (options.model_name, options.max_new_tokens) == (facts.model, facts.window)
    assert (options.dataset, options.split) == (facts.dataset, None)
    assert describe(options.dataset).split == "train"
    assert (options.temperature, options.reflex_size, options.seed) == (0.6, 64, 0)
    assert (options.output_postfix, options.results_dir) == ("", "./results")
    assert not options.trust_remote_code
