"""The model of one node (benchmarks/simulate.py) against hand computation and a slow reference."""

from __future__ import annotations

import importlib.util
import json
import random
import statistics
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "simulate.py"
spec = importlib.util.spec_from_file_location("simulate", PATH)
assert spec is not None
assert spec.loader is not None
sim = importlib.util.module_from_spec(spec)
sys.modules["simulate"] = sim
spec.loader.exec_module(sim)

NODE = sim.Node(v1=10, b0=2)  # 20/3, 5, 4 tokens/s each for 1, 2, 3 running sequences
THREE = [[[4, 8], [10, 1], [2, 5]]]  # one seed, three problems, two steps; 30 tokens
EXACT = {"rel": 1e-9, "abs": 1e-9}
DEPENDENT = ["free", "free_longest_first", "barrier", "barrier_one_by_one"]


def seconds(schedule, study, node=NODE):
    return sim.SCHEDULES[schedule](study, node).seconds


def studies(number, seeds=3, problems=4, steps=5, longest=12):
    """Small random studies; short whole lengths, so that there are many ties."""
    for seed in range(number):
        rng = random.Random(seed)
        sizes = [rng.randint(1, most) for most in (seeds, problems, steps)]
        yield [
            [[rng.randint(1, longest) for _ in range(sizes[2])] for _ in range(sizes[1])]
            for _ in range(sizes[0])
        ]


def token_by_token(study, node, order, barrier=False):
    """The reference: every running rollout decodes one token, then the state is looked at again."""
    chains = [chain for problems in study for chain in problems]
    past = [[] for _ in chains]
    left = [0] * len(chains)  # tokens to go of the rollout that runs
    arrived, ticket, elapsed = {}, count(), 0.0
    while any(len(done) < len(chain) for done, chain in zip(past, chains, strict=True)):
        running = [c for c in range(len(chains)) if left[c]]
        for c, chain in enumerate(chains):
            level = min(len(done) for done in past)
            may = not barrier or len(past[c]) == level
            if not left[c] and c not in arrived and len(past[c]) < len(chain) and may:
                arrived[c] = next(ticket)
        while arrived and len(running) < (node.max_num_seqs or len(chains)):
            c = min(arrived, key=lambda c: (order(past[c], chains[c]), arrived[c]))
            del arrived[c]
            left[c] = chains[c][len(past[c])]
            running.append(c)
        elapsed += 1 / (node.v1 / (1 + len(running) / node.b0))
        for c in running:
            left[c] -= 1
            if not left[c]:
                past[c].append(chains[c][len(past[c])])
    return elapsed


def first_come(past, chain):
    return 0


def most_left(study):
    median = statistics.median(x for problems in study for chain in problems for x in chain)

    def order(past, chain):
        return -(len(chain) - len(past)) * (sum(past) / len(past) if past else median)

    return order


@pytest.mark.parametrize("schedule", sim.SCHEDULES)
def test_one_sequence(schedule):
    assert seconds(schedule, [[[100]]]) == pytest.approx(100 / (10 / (1 + 1 / 2)), **EXACT)


@pytest.mark.parametrize("schedule", ["bound", "free", "free_longest_first", "barrier"])
def test_two_equal_sequences_share_the_node(schedule):
    assert seconds(schedule, [[[100], [100]]]) == pytest.approx(100 / (10 / (1 + 2 / 2)), **EXACT)
    assert seconds(schedule, [[[100]], [[100]]]) == pytest.approx(20, **EXACT)


def test_two_seeds_one_by_one_take_twice_as_long_as_one():
    assert seconds("barrier_one_by_one", [[[100]], [[100]]]) == pytest.approx(30, **EXACT)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # three run to clock 7 (chain 3 ends), two to 11 (chain 2), one to 12
        ("free", 7 / 4 + 4 / 5 + 1 / (20 / 3)),
        ("free_longest_first", 7 / 4 + 4 / 5 + 1 / (20 / 3)),
        # step 0: 2 with three, 2 with two, 6 alone; step 1: 1 with three, 4 with two, 3 alone
        ("barrier", (2 / 4 + 2 / 5 + 6 / (20 / 3)) + (1 / 4 + 4 / 5 + 3 / (20 / 3))),
        # all six at once: 1 of six, 1 of five, 2 of four, 1 of three, 3 of two, 2 alone
        ("bound", (1 * 4 + 1 * 3.5 + 2 * 3 + 1 * 2.5 + 3 * 2 + 2 * 1.5) / 10),
    ],
)
def test_three_chains_by_hand(schedule, expected):
    assert seconds(schedule, THREE) == pytest.approx(expected, **EXACT)


def test_three_chains_on_two_places_by_hand():
    """Chain 3 waits until 4, then the places go 4-6 3a, 6-14 1b, 10-15 3b, 14-15 2b: no gap."""
    node = sim.Node(10, 2, max_num_seqs=2)
    assert seconds("free", THREE, node) == pytest.approx(15 / 5, **EXACT)
    assert seconds("bound", THREE, node) == pytest.approx(15 / 5, **EXACT)


def test_longest_first_by_hand():
    """At 4 both long chains have rollouts to go: first come lets them wait to 5, and ends at 9;
    longest first gives them the places at once, fills in the short ones and ends at 8."""
    node = sim.Node(10, 2, max_num_seqs=2)
    chains = [[[4, 4], [4, 1], [1, 1], [1]]]
    assert seconds("free", chains, node) == pytest.approx(7 / 5 + 2 / (20 / 3), **EXACT)
    assert seconds("free_longest_first", chains, node) == pytest.approx(8 / 5, **EXACT)


def test_the_order_of_the_schedules():
    for study in studies(100):
        bound, free, barrier, one_by_one = (
            seconds(schedule, study)
            for schedule in ("bound", "free", "barrier", "barrier_one_by_one")
        )
        assert bound <= free * (1 + 1e-12)
        assert free <= barrier * (1 + 1e-12)
        assert barrier <= one_by_one * (1 + 1e-12)
        assert len(study) > 1 or barrier == one_by_one


@pytest.mark.parametrize("places", [1, 2, 3, 5])
def test_nothing_beats_the_bound_where_chains_wait(places):
    node = sim.Node(10, 2, max_num_seqs=places)
    for study in studies(50):
        bound = seconds("bound", study, node) * (1 - 1e-12)
        assert all(bound <= seconds(schedule, study, node) for schedule in DEPENDENT)


def test_the_bound_is_all_rollouts_as_chains_of_one():
    for study in studies(50):
        rollouts = [[length] for problems in study for chain in problems for length in chain]
        assert seconds("bound", study) == pytest.approx(seconds("free", [rollouts]), **EXACT)


@pytest.mark.parametrize("places", [None, 4])
def test_equal_lengths_need_no_barrier(places):
    study = [[[7] * 5 for _ in range(4)] for _ in range(3)]
    node = sim.Node(10, 2, max_num_seqs=places)
    assert seconds("free", study, node) == pytest.approx(seconds("barrier", study, node), **EXACT)


@pytest.mark.parametrize("places", [None, 1, 3])
@pytest.mark.parametrize("schedule", sim.SCHEDULES)
def test_every_token_is_decoded_once(schedule, places):
    for study in studies(20):
        tokens = sum(length for problems in study for chain in problems for length in chain)
        assert sim.SCHEDULES[schedule](study, sim.Node(10, 2, places)).tokens == tokens


@pytest.mark.parametrize("schedule", sim.SCHEDULES)
def test_with_one_place_every_schedule_takes_the_sum(schedule):
    for study in studies(20):
        tokens = sum(length for problems in study for chain in problems for length in chain)
        time = seconds(schedule, study, sim.Node(10, 2, max_num_seqs=1))
        assert time == pytest.approx(tokens / (20 / 3), **EXACT)


def test_longest_first_changes_nothing_where_nobody_waits():
    for study in studies(30):
        chains = sum(len(problems) for problems in study)
        for places in (None, chains, chains + 1):
            node = sim.Node(10, 2, max_num_seqs=places)
            free = sim.SCHEDULES["free"](study, node)
            assert sim.SCHEDULES["free_longest_first"](study, node) == free


def test_without_a_limit_seconds_follow_from_the_longest_chain_and_the_tokens():
    """path / v1 + tokens / (v1 * b0): no order of the same chains could be faster."""
    for study in studies(50):
        chains = [sum(chain) for problems in study for chain in problems]
        expected = max(chains) / 10 + sum(chains) / 20
        assert seconds("free", study) == pytest.approx(expected, **EXACT)


def test_against_token_by_token():
    for number, study in enumerate(studies(50)):
        node = sim.Node(10, 2, max_num_seqs=[None, 1, 2, 3, 7][number % 5])
        each = [token_by_token([problems], node, first_come, True) for problems in study]
        expected = {
            "free": token_by_token(study, node, first_come),
            "free_longest_first": token_by_token(study, node, most_left(study)),
            "barrier": token_by_token(study, node, first_come, True),
            "barrier_one_by_one": sum(each),
        }
        for schedule, reference in expected.items():
            assert seconds(schedule, study, node) == pytest.approx(reference, **EXACT), schedule


def test_drafts_by_hand():
    """A step that checks 3 tokens each of 2 sequences takes as long as one of 6 sequences: with
    b0 = 2, (1 + 3) / 10 seconds, and gives 2.5 tokens to each of them."""
    drafted = NODE.with_drafts(2.5, 3)
    assert drafted.speed(2) == pytest.approx(2.5 / 0.4)
    assert seconds("free", [[[10]]], drafted) == pytest.approx(4 * (1 + 3 / 2) / 10)
    assert NODE.with_drafts(1, 1) == NODE


def test_drafts_shorten_the_longest_chain_and_may_cost_a_full_node():
    few, many = [[[100, 300]]], [[[100, 300]] * 64]
    node, drafted = sim.Node(200, 64), sim.Node(200, 64).with_drafts(2, 4)
    ratio = [
        seconds("free", study, node) / seconds("free", study, drafted) for study in (few, many)
    ]
    assert ratio[0] == pytest.approx(2 * (1 + 1 / 64) / (1 + 4 / 64))
    assert ratio[1] == pytest.approx(2 * (1 + 64 / 64) / (1 + 4 * 64 / 64))


def logs(study):
    """Per problem, the logs of all its lengths: list[problem][seed and step]."""
    return [
        [sim.math.log(length) for problems in study for length in problems[p]]
        for p in range(len(study[0]))
    ]


def test_lengths_have_the_median_and_the_variance_asked_for():
    study = sim.draw(sim.Lengths(20_000, 0.8, 0.0, 10**9), 30, 64, 8, "0/0")
    every = [x for problem in logs(study) for x in problem]
    assert statistics.median(every) == pytest.approx(sim.math.log(20_000), abs=0.05)
    assert statistics.stdev(every) == pytest.approx(0.8, rel=0.02)
    shared = sim.draw(sim.Lengths(20_000, 0.8, 0.7, 10**9), 400, 8, 4, "0/0")
    within = statistics.fmean(statistics.variance(problem) for problem in logs(shared))
    between = statistics.variance([statistics.fmean(problem) for problem in logs(shared)])
    assert within == pytest.approx(0.3 * 0.64, rel=0.1)
    assert between == pytest.approx(0.7 * 0.64, rel=0.2)


def test_a_share_of_one_makes_a_problems_lengths_equal_and_lengths_end_at_the_cut():
    study = sim.draw(sim.Lengths(20_000, 3, 1.0, 30_000), 20, 3, 2, "0/0")
    assert all(len({x for problems in study for x in problems[p]}) == 1 for p in range(20))
    every = [x for problems in study for chain in problems for x in chain]
    assert max(every) == 30_000
    assert all(isinstance(x, int) and x >= 1 for x in every)


def test_more_seeds_keep_the_first_ones():
    lengths = sim.Lengths(20_000, 0.8, 0.5, 117_964)
    assert sim.draw(lengths, 3, 4, 5, "7/0")[:2] == sim.draw(lengths, 3, 4, 2, "7/0")
    assert sim.draw(lengths, 3, 4, 2, "7/0") != sim.draw(lengths, 3, 4, 2, "7/1")


SMALL = ["--problems", "3", "--steps", "4", "--num_seeds", "1", "2", "--draws", "2"]


def test_drafts_reach_the_table(capsys):
    flags = [*SMALL, "--difficulty_share", "0.5", "--num_seeds", "1"]
    sim.main(flags)
    plain = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    sim.main([*flags, "--tokens_per_step", "2", "--checked_per_step", "2", "--b0", "128"])
    twice = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["hours"]["mean"] for row in twice] == pytest.approx(
        [row["hours"]["mean"] / 2 for row in plain], rel=1e-4
    )


def test_the_table_and_its_last_line(capsys):
    sim.main([*SMALL, "--difficulty_share", "0.5", "--max_num_seqs", "2"])
    printed = capsys.readouterr().out
    sim.main([*SMALL, "--difficulty_share", "0.5", "--max_num_seqs", "2"])
    assert capsys.readouterr().out == printed
    sim.main([*SMALL, "--difficulty_share", "0.5", "--max_num_seqs", "2", "--seed", "1"])
    assert capsys.readouterr().out != printed
    figures = json.loads(printed.splitlines()[-1])
    assert figures["parameters"]["max_num_seqs"] == 2
    assert [(row["num_seeds"], row["schedule"]) for row in figures["rows"]] == [
        (seeds, schedule) for seeds in (1, 2) for schedule in sim.SCHEDULES
    ]
    for row in figures["rows"]:
        for name in ("hours", "ratio_to_bound", "speedup_over_one_by_one"):
            assert row[name]["low"] <= row[name]["mean"] <= row[name]["high"]
        exactly = {"bound": "ratio_to_bound", "barrier_one_by_one": "speedup_over_one_by_one"}
        if name := exactly.get(row["schedule"]):
            assert row[name] == {"mean": 1, "low": 1, "high": 1}
        start = ["0.5", str(row["num_seeds"]), row["schedule"]]
        assert sum(line.split()[:3] == start for line in printed.splitlines()) == 1


@pytest.mark.parametrize(
    "flags",
    [
        ["--problems", "0"],
        ["--num_seeds"],
        ["--num_seeds", "two"],
        ["--sigma", "-1"],
        ["--sigma", "nan"],
        ["--difficulty_share", "1.5"],
        ["--v1", "0"],
        ["--b0", "inf"],
        ["--max_num_seqs", "0"],
        ["--tokens_per_step", "0.5"],
        ["--tokens_per_step", "3", "--checked_per_step", "2"],
        ["--problems", "1000000", "--steps", "1000000"],
        ["--no_such_flag"],
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        sim.main(flags)
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)


def test_a_plot_without_matplotlib_is_a_mistake(capsys, monkeypatch):
    monkeypatch.setattr(sim, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        sim.main([*SMALL, "--plot", "plot.png"])
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert "matplotlib" in captured.err


def test_a_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    sim.main([*SMALL, "--plot", str(tmp_path / "plot.png")])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit) as ended:
        sim.main([*SMALL, "--plot", str(tmp_path / "nowhere" / "plot.png")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_it_runs_as_a_script_and_help_calls_its_defaults_assumptions(tmp_path):
    done = subprocess.run(
        [sys.executable, PATH, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "ASSUMPTIONS" in done.stdout
    assert done.stdout.count("assumed: ") == 5


def test_the_largest_usual_study_is_quick():
    study = sim.draw(sim.Lengths(20_000, 0.8, 0.5, 117_964), 30, 64, 16, "0/0")
    began = time.perf_counter()
    sim.SCHEDULES["free"](study, sim.Node(200, 64))
    assert time.perf_counter() - began < 2
