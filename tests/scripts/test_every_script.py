"""All ten scripts from their flags to their files (docs/method.md, "Defaults" and "Output")."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.fakes import K, ScriptedEngine, answer_of, mark, marks
from helpers.scripted import QUESTIONS, SCRIPTS, Ran, run_script
from kflow.engines.vllm_engine.recipes import cpu_dtype, node
from kflow.problems.known_datasets import describe
from kflow.running.settings import Settings
from kflow.types import Key

OSS, QWEN = "openai/gpt-oss-120b", "Qwen/Qwen3-235B-A22B-Thinking-2507"
AIME25, AIME24 = "yentinglin/aime_2025", "HuggingFaceH4/aime_2024"
MISTAKES, WRONG, POSITIVE = (
    "## Empirical Mistakes List",
    "## Wrong Answer List",
    "## Experimental Knowledge List",
)
NAMES = [name for name, _, _ in QUESTIONS]
STEPS = 3


class Facts(NamedTuple):
    """docs/method.md on one script. fractions: of step 0 and of later steps. heading: of the
    knowledge list, None for the Markovian baseline. opening: whether later thinking is begun for
    it."""

    model: str
    window: int
    dataset: str
    prefix: str
    fractions: tuple[float, float]
    heading: str | None
    opening: bool = False


FACTS = {
    "vllm_kflow_oss": Facts(OSS, 131072, AIME25, "vllm", (0.9, 0.9), MISTAKES),
    "vllm_kflow_oss24": Facts(OSS, 131072, AIME24, "vllm24", (0.9, 0.9), MISTAKES),
    "vllm_kflow_oss_knowledgeRegen": Facts(OSS, 131072, AIME25, "vllm_regen", (0.8, 0.8), MISTAKES),
    "vllm_kflow_oss_positiveKnowledge": Facts(
        OSS, 131072, AIME25, "vllm_posK", (0.8, 0.8), POSITIVE
    ),
    "vllm_oss_markovian_thinking": Facts(OSS, 131072, AIME25, "vllm_markov", (0.9, 0.5), None),
    "vllm_kflow_qwen": Facts(QWEN, 262144, AIME25, "vllm", (0.9, 0.9), WRONG, True),
    "vllm_kflow_qwen24": Facts(QWEN, 262144, AIME24, "vllm24", (0.9, 0.9), WRONG, True),
    "vllm_kflow_qwen_knowledgeRegen": Facts(
        QWEN, 262144, AIME25, "vllm_regen", (0.9, 0.9), WRONG, True
    ),
    "vllm_kflow_qwen_positiveKnowledge": Facts(
        QWEN, 262144, AIME25, "vllm_posK", (0.9, 0.9), POSITIVE
    ),
    "vllm_qwen_markovian_thinking": Facts(QWEN, 262144, AIME25, "vllm_markov", (0.9, 0.5), None),
}
WITH_A_LIST = [name for name, facts in FACTS.items() if facts.heading is not None]


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


def later(case: Case, name: str) -> list[tuple[Key, str]]:
    keys = [K(name, 0, step) for step in range(1, STEPS)]
    return [(key, case.engine.prompts[key]) for key in keys]


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


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_postfix_and_the_window_name_the_folder(name: str, tmp_path: Path) -> None:
    flags = ["--reflex_size", "1", "--limit", "1", "--max_new_tokens", "9000"]
    ran = run_script(name, [*flags, "--output_postfix", "try 2"], tmp_path, ScriptedEngine())
    assert ran.folder == tmp_path / "results" / f"{FACTS[name].prefix}_9000_try 2" / "model"
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
            assert record["pred_solution"].endswith(rf"\boxed{{{answer_of(key)}}}") or (
                case.facts.heading is None
            )


def test_summaries_count_what_the_records_say(case: Case) -> None:
    for step in range(STEPS):
        summary, *records = case.ran.step(step)
        fields = ["accuracy", "total", "correct", "average_prompt_length"]
        assert list(summary)[:4] == fields
        right = sum(answer_of(K(name, 0, step)) == int(gold) for name, _, gold in QUESTIONS)
        lengths = [len(r.prompt_ids) for r in case.engine.requests if r.key.step == step]
        assert summary["total"] == len(records) == 3
        assert summary["correct"] == right
        assert summary["accuracy"] == right / 3
        assert summary["average_prompt_length"] == sum(lengths) / 3
        assert summary["missing_sections"] == summary["failed"] == summary["no_answer"] == 0


def test_some_answer_is_right_and_some_is_wrong() -> None:
    right = [
        answer_of(K(name, 0, step)) == int(str(gold))
        for name, _, gold in QUESTIONS
        for step in range(STEPS)
    ]
    assert set(right) == {True, False}


def test_budgets_are_the_methods_fractions(case: Case) -> None:
    for request in case.engine.requests:
        fraction = case.facts.fractions[min(request.key.step, 1)]
        assert request.max_tokens == int(fraction * case.facts.window)


def test_prompts_hold_their_own_chain_alone(case: Case) -> None:
    for key, prompt in case.engine.prompts.items():
        question = next(question for name, question, _ in QUESTIONS if name == key.problem)
        assert prompt.startswith(f"<user>\n{question}\n")
        assert {found.strip("«").split("|")[0] for found in marks(prompt)} == {key.problem}


def test_first_prompts_have_no_notes(case: Case) -> None:
    for name, question, _ in QUESTIONS:
        prompt = case.engine.prompts[K(name, 0, 0)]
        assert not re.search("^## ", prompt, re.MULTILINE)
        bare = f"<user>\n{question}\n<assistant>\n"
        assert (prompt == bare) is (case.facts.heading is None)
        assert prompt.endswith("\n<assistant>\n")


@pytest.mark.parametrize("case", WITH_A_LIST, indirect=True)
def test_later_prompts_show_list_and_reference_in_their_order(case: Case) -> None:
    heading = str(case.facts.heading)
    for name in NAMES:
        for key, prompt in later(case, name):
            assert prompt.count(f"\n{heading}\n") == 1
            reference = prompt.index(mark(key._replace(step=key.step - 1), "Summary"))
            assert (prompt.index(heading) > reference) is (heading == WRONG)
            assert (prompt.endswith("\n<assistant>\n")) is not case.facts.opening


def listed(prompt: str, heading: str) -> str:
    """What a prompt shows under a heading."""
    return prompt.partition(f"\n{heading}\n")[2].partition("\n\n## ")[0]


@pytest.mark.parametrize("case", WITH_A_LIST, indirect=True)
def test_the_list_is_what_the_replies_put_there(case: Case) -> None:
    heading = str(case.facts.heading)
    shows: dict[str, Callable[[str], bool]] = {
        "vllm": lambda text: text == "N/A" or text.startswith("**Wrong Answer 1**: "),
        "vllm24": lambda text: text == "N/A" or text.startswith("**Wrong Answer 1**: "),
        "vllm_regen": lambda text: "|Things to Avoid»" in text,
        "vllm_posK": lambda text: text.startswith("**EK 1**: "),
    }
    lists = [listed(prompt, heading) for name in NAMES for _, prompt in later(case, name)]
    assert all(shows[case.facts.prefix](text) for text in lists)
    assert any(text != "N/A" for text in lists)
    if case.facts.prefix == "vllm_regen":
        for name in NAMES:
            for key, prompt in later(case, name):
                before = key._replace(step=key.step - 1)
                assert marks(listed(prompt, heading)) == {mark(before, "Things to Avoid")}


@pytest.mark.parametrize("case", sorted(set(FACTS) - set(WITH_A_LIST)), indirect=True)
def test_the_baseline_carries_its_text_as_the_assistants(case: Case) -> None:
    for name, question, _ in QUESTIONS:
        for key, prompt in later(case, name):
            record = case.ran.step(key.step)[1 + NAMES.index(name)]
            carried = record["pred_solution"][: record["reply_start"]]
            assert prompt == f"<user>\n{question}\n<assistant>\n{carried}\n<assistant>\n"
            assert carried.endswith("<think>\n") is (case.facts.model == QWEN)
            for step in range(key.step):
                assert mark(K(name, 0, step), "thoughts") in carried


def test_a_run_in_two_goes_makes_the_same_files(case: Case, tmp_path: Path) -> None:
    flags = ["--reflex_size", str(STEPS)]
    assert run_script(case.name, flags, tmp_path, ScriptedEngine(stop_after=5)).code == 1
    ran = run_script(case.name, flags, tmp_path, ScriptedEngine())
    assert (ran.code, ran.predictions()) == (0, case.ran.predictions())


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
