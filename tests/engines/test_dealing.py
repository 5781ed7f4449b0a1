"""Chains and servers: dealt evenly, a problem's together, and kept."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from helpers.http_server import SEEDS, Scripted, Server
from helpers.scripted import QUESTIONS, run_script
from helpers.served import quick
from kflow.engines.openai_engine.retry import Fleet, chain_of, deal
from kflow.results.rollout import sampling_seed
from kflow.types import Key

KFLOW = "vllm_kflow_qwen"


def chains(problems: int, seeds: int, run: str = "") -> list[Key]:
    """In the order in which they are asked."""
    return [Key(run, str(n), seed, 0) for seed, n in product(range(seeds), range(problems))]


@pytest.mark.parametrize(
    ("problems", "seeds", "servers", "most_split"),
    [(30, 16, 4, 2), (30, 16, 16, 15), (1, 16, 4, 1), (4, 8, 4, 0), (3, 2, 8, 3)],
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
        sampling_seed(0, seed, problem, step) & SEEDS: problem
        for problem, seed, step in product(problems, range(3), range(2))
    }
    scripted = Scripted(seeds=3)
    with Server(scripted) as one, Server(scripted) as two, Server(scripted) as three:
        servers = (one, two, three)
        flags = ["--engine", "openai", "--served_model_name", "model"]
        flags += [word for server in servers for word in ("--base_url", server.url)]
        flags += ["--reflex_size", "2", "--num_seeds", "3", *begins_anew * ["--overwrite"]]
        assert run_script(KFLOW, flags, tmp_path, served=scripted.chat).code == 0
        dealt = [[whose[each.body["seed"]] for each in server.received[1:]] for server in servers]
    assert dealt == [[problem] * 6 for problem in problems]
