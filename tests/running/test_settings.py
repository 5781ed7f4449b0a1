"""Settings: one rule for flags and notebooks, the method's own flags, what resume compares."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kflow
from helpers.fakes import ScriptedEngine, brief
from helpers.scripted import QUESTIONS, Ran, refused, run_script, takes_all, write_problems
from kflow import testing
from kflow.engines.vllm_engine import arguments as engine_arguments
from kflow.experiment import Experiment, main, parse_flags
from kflow.families import gpt_oss
from kflow.flags import Group, Share, Whole, check, flag
from kflow.loop.prompts import locate
from kflow.methods.mistakes import Mistakes
from kflow.results import recorded
from kflow.running import provenance, run, settings
from kflow.running.settings import Settings
from kflow.types import UserError
from vllm_kflow_qwen import EXPERIMENT

QWEN, OSS = "vllm_kflow_qwen", "vllm_kflow_oss"
INFINITE = float("inf")
LONG = "x" * 5000
# A setting, its words on a command line and its value in a notebook, where they can be given there,
# and the refusal.
WRONG: list[tuple[str, str | None, Any, str]] = [
    ("reflex_size", "0", -1, "must be a whole number, at least 1"),
    ("reflex_size", None, True, "must be a whole number"),
    ("temperature", "-1", float("nan"), "must be a number, at least 0 and at most 2"),
    ("temperature", "\x1b[31m\n", "0.6", "must be a number"),
    ("top_p", "0", 0.0, "must be a number, above 0 and at most 1"),
    ("num_seeds", "1000000000", 10**9, "a whole number, at least 1 and at most 10,000"),
    ("schedule", "soon", "soon", "must be one of free, barrier, not 'soon'"),
    ("dry_run", "no", 1.5, "must be "),
    ("engine_args", "{", [1], "must be "),
    ("engine_args", '{"a": {"b": 1, "b": 1}}', None, "has the key 'b' 2 times"),
    ("engine_args", '{"a": NaN}', None, "holds NaN"),
    ("engine_args", '{"a": 1e999}', {"a": INFINITE}, "must be plain JSON"),
    ("engine_args", r'{"a": "\ud800"}', {"a": "\ud800"}, "holds a lone surrogate"),
    ("model_name", LONG, LONG, "must be a name of 1 to 4,096 characters"),
    ("dataset", "a\0b", 3, "must be a name"),
    ("output_postfix", "a/b", "a/b", "must be a name without slashes"),
    ("base_url", "http://me:pw@h/v1", ("http://me:pw@h/v1",), "must not contain a user name or pa"),
    ("base_url", "http://h:0/v1", ("h",), "must be like http://HOST:PORT/v1"),
    ("base_url", None, "http://h/v1", "must be a tuple"),
    ("base_url", "http://h/v1", ("http://h/v1",), "only valid with --engine openai or chat"),
    ("engine", "openai", "openai", "--base_url: required with --engine openai"),
    ("request_timeout", "3600", None, "only valid with --engine openai or chat, not vllm"),
]


@pytest.mark.parametrize(
    ("name", "text", "value", "words"), WRONG, ids=[f"{n}-{row[0]}" for n, row in enumerate(WRONG)]
)
def test_a_wrong_value_is_refused_as_flag_and_in_a_notebook(
    name: str, text: str | None, value: Any, words: str, tmp_path: Path
) -> None:
    if text is not None:
        ran = run_script(QWEN, [f"--{name}", text], tmp_path)
        refused(ran, f"{QWEN}.py: argument --", words, "see --help.")
        assert len(ran.err) < 400
        assert not ran.results.exists()
    if value is not None:
        with pytest.raises(UserError) as refusal:
            Settings(**{name: value})
        assert words in str(refusal.value)
        assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--api_key", "sk-1"], "a key is read from OPENAI_API_KEY in the environment"),
        (["--api-key=sk-1"], "a key is read from OPENAI_API_KEY in the environment"),
        (["--reflex", "3"], "unrecognized arguments: --reflex 3"),
        ([f"--\x1b[31m{LONG}"], r"unrecognized arguments: --\x1b[31mxxx"),
        (["--as_published", "--recipe", "throughput"], "not with --recipe throughput"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(
    argv: list[str], words: str, tmp_path: Path
) -> None:
    ran = run_script(QWEN, argv, tmp_path)
    refused(ran, words, "see --help.")
    assert len(ran.err) < 400
    assert "sk-1" not in ran.err


def test_every_setting_has_a_rule_that_takes_its_default() -> None:
    names = [each.name for group in settings.GROUPS for each in group.flags]
    assert sorted(names) == sorted(each.name for each in fields(Settings))
    for each in settings.FLAGS:
        if each.default not in (None, "", 0, ()):
            assert check(each.kind, each.default) == each.default


def test_readers_of_results_know_on_which_settings_they_depend() -> None:
    assert set(recorded.IDENTITY) == set(settings.IDENTITY)


def test_the_defaults_are_the_experiments() -> None:
    expected = Settings(
        model_name="Qwen/Qwen3-235B-A22B-Thinking-2507",
        max_new_tokens=262144,
        dataset="yentinglin/aime_2025",
        reflex_size=64,
    )
    assert parse_flags(EXPERIMENT, [])[1] == expected
    assert Settings().resolved(EXPERIMENT.defaults) == expected
    assert Settings(reflex_size=3).resolved(EXPERIMENT.defaults).reflex_size == 3


@dataclass(frozen=True)
class Panel(Mistakes):
    """A method with flags of its own."""

    rollouts_per_step: Whole = flag(16, "rollouts of a step")
    share: Share = flag(0.5, "of the window")


PANEL = Panel(**{f.name: getattr(EXPERIMENT.method, f.name) for f in fields(EXPERIMENT.method)})


def test_a_methods_own_flags_go_into_the_method(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--rollouts_per_step", "4", "--temperature", "1"]
    experiment, chosen = parse_flags(replace(EXPERIMENT, method=PANEL), words)
    values = (chosen.temperature, experiment.method.rollouts_per_step, experiment.method.share)
    assert values == (1.0, 4, 0.5)
    for wrong in (["--rollouts_per_step", "0"], ["--share", "2"]):
        with pytest.raises(SystemExit) as ended:
            parse_flags(replace(EXPERIMENT, method=PANEL), wrong)
        assert ended.value.code == 2
    assert "argument --rollouts_per_step: must be a whole number" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_flags(replace(EXPERIMENT, method=PANEL), ["--help"])
    assert "rollouts of a step (16)" in capsys.readouterr().out


def work(home: Path, engine: ScriptedEngine, of: Experiment = EXPERIMENT, **given: Any) -> Path:
    """A run as from a notebook, of two steps on one problem."""
    return testing.run(of, [("How many?", 1)], home, engine, **{"reflex_size": 2, **given})


def test_a_run_from_a_notebook_returns_its_folder(tmp_path: Path) -> None:
    folder = work(tmp_path, ScriptedEngine(brief))
    assert folder == tmp_path / "results" / "vllm_262144_" / "model"
    assert sorted(path.name for path in folder.iterdir()) == [
        "predictions_0.json", "predictions_1.json", "run.json", "status.json"
    ]  # fmt: skip
    assert (folder / "run.json").stat().st_mode & 0o777 == 0o600


def test_a_run_from_a_notebook_raises_and_never_ends_the_process(tmp_path: Path) -> None:
    with pytest.raises(kflow.RunEnded, match="It is gone"):
        work(tmp_path, ScriptedEngine(brief, stop_after=1))
    for changes, words in (
        ({"dataset": "gone.jsonl"}, "There is no file"),
        ({"temperature": 1.0}, "sampling.temperature: 0.6 -> 1.0"),
        ({"results_dir": str(tmp_path / "problems.jsonl")}, "Cannot write results"),
    ):
        with pytest.raises(kflow.UserError) as refusal:
            work(tmp_path, ScriptedEngine(), **changes)
        assert words in str(refusal.value)


def rule_of_three(visible: str, header: str) -> str | None:
    return visible if header else None


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (rule_of_three, "test_settings.rule_of_three"),
        (
            partial(rule_of_three, header="x"),
            {
                "partial": "test_settings.rule_of_three",
                "arguments": [],
                "keywords": {"header": "x"},
            },
        ),
        (len, "builtins.len"),
        (Group("a", ()), {"type": "kflow.flags.Group", "title": "a", "flags": []}),
    ],
)
def test_a_methods_fields_are_recorded_by_what_they_are(value: Any, recorded: Any) -> None:
    record = provenance.method_fields(replace(EXPERIMENT.method, error_entry=value))["error_entry"]
    if isinstance(recorded, dict):
        record = {name: record[name] for name in recorded}
    assert record == recorded


def closure() -> Callable[[str], str]:
    def inner(text: str) -> str:
        return text

    return inner


@pytest.mark.parametrize(
    "value", [lambda visible: None, closure(), partial(closure()), object(), "x".lower]
)
def test_what_has_no_name_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"field error_entry holds .* which has no name"):
        provenance.method_fields(replace(EXPERIMENT.method, error_entry=value))


def test_a_method_that_is_no_dataclass_is_refused() -> None:
    with pytest.raises(UserError, match="is not a dataclass instance"):
        provenance.method_fields(object())


CHANGED: list[tuple[list[str], str]] = [
    (["--temperature", "0.7"], "sampling.temperature: 0.6 -> 0.7"),
    (["--top_p", "0.9"], "sampling.top_p: null -> 0.9"),
    (["--seed", "1"], "settings.seed: 0 -> 1"),
    (["--stop_when_stable", "3"], "settings.stop_when_stable: null -> 3"),
    (["--token_budget", "99999"], "settings.token_budget: null -> 99999"),
    (["--force_sections"], "settings.force_sections: false -> true"),
    (["--limit", "2"], "problems.number: 3 -> 2"),
    (["--dtype", "float16"], "engine.dtype: "),
    (["--engine_args", '{"kv_cache_dtype": "fp8"}'], 'engine.kv_cache_dtype: null -> "fp8"'),
]
HARMLESS = [
    "--num_seeds", "2", "--reflex_size", "3", "--max_failures", "100", "--schedule", "barrier",
    "--tensor_parallel_size", "2", "--max_num_seqs", "7", "--enforce_eager",
    "--model_name", "./model/../model", "--engine_args", '{"max_num_batched_tokens": 99}',
]  # fmt: skip


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """A run of one step, in this folder."""
    monkeypatch.chdir(tmp_path)
    ran = run_script(QWEN, ["--reflex_size", "1"], tmp_path, ScriptedEngine(brief))
    assert ran.code == 0
    return ran


@pytest.mark.parametrize(("flags", "differing"), CHANGED)
def test_what_results_depend_on_cannot_change(
    flags: list[str], differing: str, begun: Ran, tmp_path: Path
) -> None:
    again = run_script(QWEN, ["--reflex_size", "2", *flags], tmp_path)
    refused(again, "holds a run with different settings (", differing)


def test_the_rest_can_change(begun: Ran, tmp_path: Path) -> None:
    again = run_script(QWEN, HARMLESS, tmp_path, ScriptedEngine(brief))
    assert (again.code, len(again.run()["sessions"])) == (0, 2)


def test_a_changed_prompt_is_another_run(begun: Ran, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for path in Path(EXPERIMENT.method.prompt_folder).glob("*.txt"):
        (texts / path.name).write_bytes(path.read_bytes())
    flags = ["--prompt_dir", str(texts)]
    assert "is complete" in run_script(QWEN, ["--reflex_size", "1", *flags], tmp_path).out
    name = EXPERIMENT.method.first
    path = locate(texts, name)
    path.write_text(path.read_text() + " Hurry.")
    refused(run_script(QWEN, flags, tmp_path), f"prompts.{name}: ")


def test_other_problems_are_another_run(begun: Ran, tmp_path: Path) -> None:
    write_problems(tmp_path / "problems.jsonl", QUESTIONS[::-1])
    refused(run_script(QWEN, ["--reflex_size", "2"], tmp_path), "problems.hash: ")


def test_a_run_of_another_version_is_refused(begun: Ran, tmp_path: Path) -> None:
    (begun.folder / "run.json").write_text('{"settings": {"seed": 0}, "sessions": [{}]}')
    refused(run_script(QWEN, ["--reflex_size", "2"], tmp_path), "a run of another version")


def test_a_run_that_began_while_this_one_looked_is_not_joined_unseen(
    begun: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "recorded", lambda folder: None)
    flags = ["--reflex_size", "2", "--temperature", "1.5"]
    refused(run_script(QWEN, flags, tmp_path, ScriptedEngine(brief)), "sampling.temperature")


# The family's own flags.


def test_the_effort_is_a_flag_of_gpt_oss_alone(tmp_path: Path) -> None:
    usage = run_script(OSS, ["--help"], tmp_path).out
    assert re.search(r"the family:\n  --reasoning_effort \{low,medium,high\}\n.* \(high\)\n", usage)
    refused(run_script(QWEN, ["--reasoning_effort", "low"], tmp_path), "--reasoning_effort")
    refused(run_script(OSS, ["--reasoning_effort", "most"], tmp_path), "low, medium, high", "most")


def test_the_effort_is_on_record_and_decides_which_run_it_is(tmp_path: Path) -> None:
    one, low = ["--reflex_size", "1"], ["--reasoning_effort", "low"]
    published = run_script(OSS, one, tmp_path / "published", ScriptedEngine(brief)).run()
    assert published["experiment"]["reasoning_effort"] == "high"
    assert not {"family_fields", "rule"} & set(published["experiment"])
    ran = run_script(OSS, [*one, *low], tmp_path / "low", ScriptedEngine(brief))
    assert ran.run()["experiment"] == published["experiment"] | {"reasoning_effort": "low"}
    assert "is complete" in run_script(OSS, [*one, *low], tmp_path / "low").out
    again = run_script(OSS, ["--reflex_size", "2"], tmp_path / "low")
    refused(again, 'experiment.reasoning_effort: "low" -> "high"')


@pytest.mark.usefixtures("offline")
def test_the_effort_reaches_the_prompt(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_arguments, "build", takes_all)
    problems = write_problems(tmp_path / "problems.jsonl", [("a", "How many?", 1)])
    flags = ["--dry_run", "json", "--dataset", str(problems), "--reasoning_effort", "medium"]
    with pytest.raises(SystemExit) as ended:
        main(importlib.import_module(OSS).EXPERIMENT, flags)
    captured = capsys.readouterr()
    assert (ended.value.code, "Reasoning: medium" in captured.out) == (0, True), captured.err


@dataclass(frozen=True)
class Clash(Mistakes):
    """A method with a flag that every script has."""

    seed: int = field(default=1, metadata={"help": "of what?"})


def test_own_flags_are_checked_in_notebooks_and_against_all_others(tmp_path: Path) -> None:
    for changes, words in (
        ({"family": replace(gpt_oss.FAMILY, reasoning_effort="most")}, "must be one of low,"),
        ({"method": replace(PANEL, share=2.0)}, "share must be a number"),
    ):
        with pytest.raises(kflow.UserError, match=words):
            work(tmp_path, ScriptedEngine(brief), replace(EXPERIMENT, **changes))
    clash = Clash(**{f.name: getattr(EXPERIMENT.method, f.name) for f in fields(EXPERIMENT.method)})
    with pytest.raises(UserError, match="the name of another flag"):
        parse_flags(replace(EXPERIMENT, method=clash), [])
