"""Problems of reasoning-gym: the same in every process, kept with the run, refused by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import ScriptedEngine, brief
from helpers.scripted import refused, run_script
from kflow.problems import generated
from kflow.problems.generated import FORM, Task
from kflow.types import UserError

QWEN = "vllm_kflow_qwen"
INTEGERS = (
    "chain_sum", "products", "gcd", "lcm", "simple_equations", "count_primes", "number_sequence",
    "leg_counting", "letter_counting", "gsm_symbolic", "basic_arithmetic", "simple_geometry",
)  # fmt: skip


def test_tasks_of_integers_are_read(tmp_path: Path) -> None:
    rows = [{"task": task, "size": 8, "seed": 3} for task in INTEGERS]
    data = generated.load(mix(tmp_path, *rows), {}, None)
    assert [problem.id for problem in data.problems] == [
        f"{task}/{number}" for task in INTEGERS for number in range(8)
    ]
    assert all(isinstance(problem.answer, int) for problem in data.problems)
    assert not any(FORM.search(problem.question) for problem in data.problems)
    assert data.source.generator == "reasoning-gym 0.1.25"
    settings = [(each["task"], each["size"], each["seed"]) for each in data.source.task_settings]
    assert settings == [(task, 8, 3) for task in INTEGERS]


@pytest.mark.parametrize(
    ("question", "kept"),
    [
        ("Solve: 4 * 3. Give only the result as your final answer.", "Solve: 4 * 3."),
        ("How much? Give the result as your final answer. Do not include units.", "How much?"),
        ("Find it.Return only the angle as your answer.Do not give the units in your answer.",
         "Find it."),
        ("Steps?\nGive only the number of steps as your final answer, no other text.", "Steps?"),
        ("State the final answer to the following arithmetic problem: 4 + 3 =",) * 2,
        ("He gives 3 apples away and can only carry 5. How many?",) * 2,
    ],
)  # fmt: skip
def test_only_the_form_of_the_answer_is_taken_off(question: str, kept: str) -> None:
    assert FORM.sub("", question).strip() == kept


def test_tasks_that_depend_on_the_hash_seed_are_the_same_in_every_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder")
    made = []
    for seed in ("1", "77"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        made.append(generated.generate([Task(name, {"size": 6}) for name in names]))
    assert made[0] == made[1]
    assert len(made[0].rows) == 6 * len(names)


def mix(home: Path, *rows: dict[str, Any]) -> str:
    (home / "mix.json").write_text(json.dumps(rows))
    return f"reasoning_gym/mix:{home / 'mix.json'}"


def test_a_mix_has_the_problems_of_its_tasks_in_order(tmp_path: Path) -> None:
    rows = [{"task": "lcm", "size": 2}, {"task": "gcd", "size": 1}, {"task": "lcm", "seed": 5}]
    data = generated.load(mix(tmp_path, *rows), {}, 4)
    assert [problem.id for problem in data.problems] == ["lcm/0", "lcm/1", "gcd/0", "lcm#2/0"]


@pytest.mark.parametrize(
    ("dataset", "arguments", "words"),
    [
        ("reasoning_gym/chain_sums", {}, ("no task 'chain_sums'", "chain_sum")),
        ("reasoning_gym/lcm", {"sizes": 3}, ("does not take", "'sizes'")),
        ("reasoning_gym/lcm", {"size": 0}, ("size", "1 to 100,000")),
        ("reasoning_gym/lcm", {"size": "9"}, ("size", "1 to 100,000")),
        ("reasoning_gym/lcm", {"min_numbers": 9, "max_numbers": 2}, ("does not take", "max_num")),
        ("reasoning_gym/word_ladder", {"size": 3}, ("word_ladder is not an integer", "lcm")),
        ("reasoning_gym/mix:gone.json", {}, ("gone.json", "No such file")),
        ("reasoning_gym/mix:gone.json", {"size": 3}, ("--dataset_args", "file")),
    ],
)
def test_what_cannot_be_generated_is_refused(
    dataset: str, arguments: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as refusal:
        generated.load(dataset, arguments, None)
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("content", ["{", "[3]", "3", "[]", '[{"tsak": "lcm"}]'])
def test_a_mix_with_a_typo_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "mix.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"mix\.json"):
        generated.load(f"reasoning_gym/mix:{path}", {}, None)


FLAGS = ["--dataset", "reasoning_gym/lcm", "--dataset_args", '{"size": 3}']


def test_a_run_keeps_its_problems_and_resumes_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run_script(QWEN, [*FLAGS, "--reflex_size", "1"], tmp_path, ScriptedEngine(brief))
    assert ran.code == 0, ran.err
    problems = ran.folder / "problems.jsonl"
    assert len(problems.read_text().splitlines()) == 3
    source = ran.run()["problems"]["source"]
    assert source["generator"] == "reasoning-gym 0.1.25"
    assert ran.run()["settings"]["dataset_args"] == {"size": 3}
    no_package = generated.Generated(error="reasoning_gym/ needs the package reasoning-gym.")
    monkeypatch.setattr(generated, "generate", lambda tasks: no_package)
    ran = run_script(QWEN, [*FLAGS, "--reflex_size", "2"], tmp_path, ScriptedEngine(brief))
    assert ran.code == 0, ran.err
    problems.unlink()
    refused(run_script(QWEN, [*FLAGS, "--reflex_size", "3"], tmp_path), "needs the package")


def test_other_settings_are_another_run(tmp_path: Path) -> None:
    run_script(QWEN, [*FLAGS, "--reflex_size", "1"], tmp_path, ScriptedEngine(brief))
    other = ["--dataset", "reasoning_gym/lcm", "--dataset_args", '{"size": 3, "seed": 1}']
    refused(run_script(QWEN, [*other, "--reflex_size", "2"], tmp_path), "problems.hash")
    flags = ["--dataset_args", '{"size": 3}']
    refused(run_script(QWEN, flags, tmp_path / "file"), "--dataset_args", "reasoning_gym")


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    assert "requirements/gym.txt" in generated.make([Task("lcm", {})]).error
