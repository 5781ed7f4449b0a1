"""compare_results.py as its users call it: what it prints and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.programs import Program
from helpers.results_on_disk import ours, wide, write_manifest, write_run, write_step
from helpers.scripted import ROOT
from helpers.small_runs import GOLDS
from kflow.analysis.statistics import wilson
from kflow.types import Entry

HOSTILE = "a\x1b[31m[bold]\n$x$\u202e\u2028"


def rows(table: str) -> dict[str, list[str]]:
    """First column -> the others, of lines whose columns stand two blanks apart."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines}


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_answer_of_two_runs(two: Path, compare: Program) -> None:
    conclusion, standings, over_run = compare(two).split("\n\n")
    title, *sentences = conclusion.splitlines()
    assert title == "m, 4 problems, window 1,000"
    assert words(" ".join(sentences)).startswith("At 2 rollouts a problem, no difference from")
    first, its_votes, second, votes, budget, at_tokens = standings.splitlines()[1:]
    low, high = wilson(1, 4)
    share = ["1/4", "25.0", f"[{100 * low:.0f}, {100 * high:.0f}]"]
    assert rows(first)["mistakes a"] == ["last answer", *share, "(baseline)"]
    assert rows(its_votes)["majority so far"][:2] == ["1.5/4", "37.5"]
    (cells,) = rows(second).values()
    assert (cells[:3], cells[4], cells[6]) == (["last answer", "4/4", "100.0"], "+75.0", "0.25*")
    assert rows(votes)["majority so far"][3] == "+62.5"
    assert budget == "Each at its step nearest to 2,200 tokens a problem:"
    assert rows(at_tokens)["mistakes b"][:2] == ["of 2 rollouts", "4/4"]
    _, _, first, _, *hints = over_run.splitlines()
    assert rows(first)["mistakes a"] == ["50.0", "50.0", "2,200", "2,200", "12.5", "0.0"]
    assert {"--problem aime-1: how", "--settings: 1 that differ"} < {*hints[-1].split("; ")}


@pytest.mark.parametrize("name", ["512_example", "2048_study"])
def test_the_answer_on_the_committed_runs_is_short(
    name: str, compare: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mistakes list is named first, as a glob would have it."""
    arms = ("vllm", "vllm_parallel", "vllm_refine")
    for columns, most in ((80, 27), (120, 25)):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = compare(*(ROOT / "results" / f"{arm}_{name}" for arm in arms)).splitlines()
        assert len(lines) <= most
        assert max(map(len, lines)) <= columns
        (stands,) = (line for line in lines if "(baseline)" in line)
        assert stands.split()[:3] == ["parallel", "majority", "of"]
        effects = re.findall(r"(drags|unclear|helps) .*\[", "\n".join(lines))
        assert effects == (["drags", "unclear"] if name == "2048_study" else ["unclear"] * 2)


def test_details_follow_the_answer(two: Path, compare: Program) -> None:
    answer, text = compare(two), compare(two, "--details")
    assert text.startswith(answer)
    names, a, b, replies, chains, *against = text[len(answer) :].strip().split("\n\n")
    assert words(names) == "Results: vllm_64_a (mistakes a), vllm_64_b (mistakes b)."
    assert rows(a)["1"][:4] == ["25.0", "[5, 70]", "37.5", "50.0"]
    costs = ["1", "1,100", "1,100", "1,000", "1"]
    assert rows(b)["0"] == ["100.0", "[51, 100]", "100.0", "100.0", *costs]
    assert rows(replies)["mistakes a"] == ["8", "1,000", "12.5", "0.0", "0.0", "0.0", "0.0", "0.0"]
    assert rows(chains)["mistakes a"] == ["2", "1", "0", "2", "0.0"]
    assert words(against[0]).startswith("Against mistakes a, at 2 rollouts a problem")
    assert rows(against[0])["mistakes b"][:4] == ["majority", "37.5", "100.0", "+62.5"]
    moved = "mistakes b better: aime-1 (0/1 to 1/1), aime-2 (0/1 to 1/1), aime-3 (0/1 to 1/1)."
    assert against[1] == moved
    assert "mistakes b right, and no rollout of mistakes a: aime-2, aime-3." in text


def test_settings_that_differ_are_shown_where_asked_for(two: Path, compare: Program) -> None:
    answer, text = compare(two), compare(two, "--settings")
    assert words(text[len(answer) :]) == "Settings that differ seed mistakes a 0 mistakes b 7"
    assert "No setting differs." in compare(two / "vllm_64_a", "--settings")


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_tables_fit_the_terminal(
    two: Path, compare: Program, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in ("c", "d" * 30, "e"):
        write_run(two / f"vllm_64_{name}" / "m", [GOLDS, GOLDS], GOLDS, settings={"seed": 1})
    text = compare(two, "--details", "--settings", "--stop", "first:1")
    assert max(map(len, text.splitlines())) <= columns
    assert "d" * 30 in text.replace("\n", "").replace(" ", "")


def test_the_baseline_is_parallel_thinking_the_first_or_the_one_named(
    two: Path, compare: Program
) -> None:
    a, b, c = (two / f"vllm_{name}" for name in ("64_a", "64_b", "parallel_64_c"))
    ahead = {"prefix": "vllm_parallel", "ahead": True}
    write_run(c / "m", [GOLDS, GOLDS], GOLDS, experiment=ahead)
    for arguments, baseline in (
        ([a, b], a),
        ([a, b, "--baseline", b], b),
        ([a, "--baseline", b / "m"], b),
        ([two], c),
        ([two, "--baseline", b], b),
    ):
        report = compare.json(*arguments)
        assert {each["baseline"] for each in report["against"]} == {baseline.name}
        assert report["runs"][0]["name"] == baseline.name
        budgets = [each["budget"] for each in report["against"]]
        assert budgets[0] == {"rollouts": 2, "tokens": None}
        assert budgets[-1] == {"rollouts": None, "tokens": 2200}
    report = compare.json(two)
    assert [run["label"] for run in report["runs"]] == ["parallel", "mistakes a", "mistakes b"]
    assert [each["run"] for each in report["carried"]] == ["vllm_64_a", "vllm_64_b"]


def test_other_budgets(two: Path, compare: Program) -> None:
    for step in (0, 1, 2):
        records = [ours(n, g, g, completion_tokens=300) for n, g in enumerate(GOLDS)]
        write_step(two / "vllm_64_b" / "m", step, records)
    for flag, size, spelt, a, b in (
        ("--at_rollouts", 2, "2 rollouts a problem", "2,200", "800"),
        ("--at_tokens", 1150, "1,150 tokens a problem", "1,100", "1,200"),
        ("--step", 0, "step 0", "1,100", "400"),
    ):
        table = compare(two, flag, size)
        assert words(table.partition("\n")[2]).startswith(f"At {spelt}, ")
        assert [rows(table)[f"mistakes {name}"][2] for name in "ab"] == [a, b]
    difference = compare.json(two, "--at_tokens", 1150)["against"][0]
    assert difference["budget"] == {"rollouts": None, "tokens": 1150}
    assert (difference["at"]["step"], difference["baseline_at"]["step"]) == (2, 0)


def test_boxes_without_an_answer_point_to_regrading(two: Path, compare: Program) -> None:
    assert "--regrade says" not in words(compare(two, "--details"))
    records = [ours(n, g, None, unreadable_box=True) for n, g in enumerate(GOLDS)]
    write_step(two / "vllm_64_b" / "m", 1, records)
    table = compare(two, "--details")
    assert "--regrade says" in words(table)
    replies = table.partition("Replies, %")[2].partition("\n\n")[0]
    assert [rows(replies)[f"mistakes {name}"][3] for name in "ab"] == ["0.0", "100.0"]


def test_a_figure_that_no_step_has_is_no_column(tmp_path: Path, compare: Program) -> None:
    """Every other step asks for no answer; none shows a list, and none has several rollouts."""
    for step in range(4):
        write_step(tmp_path, step, [ours(0, 1, 1 if step % 2 else None, asks_answer=step % 2 == 1)])
    table = compare(tmp_path, "--details").partition("by step")[2].partition("\n\n")[0]
    heads, lines = words(table), rows(table)
    assert [lines[str(step)][:2] for step in range(2)] == [["-", "-"], ["100.0", "[21, 100]"]]
    assert not {"single", "list", "cost"} & {*heads.split()}


def test_several_seeds_are_told_with_their_error(tmp_path: Path, compare: Program) -> None:
    for seed, answers in enumerate(([1, 2, 9, 9], [1, 8, 8, 8])):
        write_run(tmp_path / f"seed_{seed}", [answers], GOLDS)
    text = compare(tmp_path, "--details")
    assert text.startswith(f"{tmp_path.name}, 4 problems, 2 seeds\n")
    over_seeds = rows(text.partition("Over seeds")[2])[tmp_path.name]
    assert over_seeds == ["2", "37.5", "23.9", "37.5", "37.5", "50.0"]


def test_one_problem_step_by_step(tmp_path: Path, compare: Program) -> None:
    listed = {"knowledge": (Entry("x"),)}
    write_step(tmp_path / "a", 0, [ours(0, -7, -7, finish_reason="length")])
    write_step(tmp_path / "a", 1, [ours(0, -7, int("9" * 30), **listed)])
    write_step(tmp_path / "b", 0, [ours(0, -7, None, failure="refused")])
    write_step(tmp_path / "b", 2, [ours(0, -7, 3, repeats_step=0, over_budget=True)])
    table = compare(tmp_path, "--problem", "aime-0")
    assert "Problem aime-0, the right answer is -7" in table
    assert rows(table)["step 0"] == ["-7 right, truncated", "failed"]
    stopped = "3 wrong, early-stopped, at its token budget"
    assert rows(table)["step 2"] == ["not among its steps 0 to 1", stopped]
    assert "99999999... (30 characters) wrong, list of 1" in words(table)


def test_a_run_in_progress_and_a_damaged_file_are_named(two: Path, compare: Program) -> None:
    (two / "vllm_64_a" / "m" / "predictions_1.json").write_text("[{")
    (two / "vllm_64_b" / "m" / "rollouts_2.jsonl").touch()
    assert "At 1 rollout a problem" in compare(two)
    assert "predictions_1.json is left out: it is not JSON" in compare.notes
    assert "vllm_64_b/m is in progress: 2 steps complete" in compare.notes


def test_a_parallel_run_alone_has_nothing_to_be_compared_with(compare: Program) -> None:
    out = compare(ROOT / "results" / "vllm_parallel_512_example")
    assert "majority of 4" in out
    assert "points [" in out  # from its first step to its last
    assert "(baseline)" not in out


def test_runs_without_a_budget_in_common_are_compared_at_a_step(
    two: Path, compare: Program
) -> None:
    """Four rollouts in the one's first step, two in all of the other's."""
    other = two / "wide"
    write_step(other, 0, [wide([ours(n, g, g)] * 4, g) for n, g in enumerate(GOLDS)])
    assert "At step 0, no difference" in compare(two / "vllm_64_a", other, "--common")
    for unit in ("rollouts", "tokens"):
        assert f"No comparison at equal {unit}" in compare.notes


def test_a_run_that_cannot_be_read_does_not_keep_the_others_from_it(
    two: Path, compare: Program
) -> None:
    broken, other = two / "vllm_64_a", two / "vllm_64_b"
    for step in (0, 1):
        (broken / "m" / f"predictions_{step}.json").write_text("[{")
    assert re.search(r"mistakes +last answer +4/4 +100.0", compare(two))
    why = "vllm_64_a/m has no step that can be read"
    assert why in compare.notes
    for arguments in ((two, "--baseline", broken), (broken, other), (other, broken)):
        assert why in compare.refuse(*arguments)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--problem", "aime-9"], "No problem aime-9 in vllm_64_a: its problems are aime-0, "),
        (["--plot", "p.pdf"], "--plot p.pdf: give a file name that ends in .png or .svg"),
        (["--plot", "no/where/p.png"], "no/where is not a folder"),
        (["--plot", "{}/x.svg", "--plot_by", "luck"], "--plot_by: invalid choice"),
        (["--plot_by", "tokens"], "--plot_by needs --plot"),
        (["--step", "1", "--at_tokens", "5"], "not allowed with"),
        (["--json", "--csv"], "not allowed with"),
        (["--problem", "aime-1", "--json"], "--problem cannot be combined with --json"),
        (["--regrade", "--csv"], "--regrade cannot be combined with --csv"),
        (["--details", "--json"], "--details cannot be combined with --json"),
        (["--settings", "--csv"], "--settings cannot be combined with --csv"),
        (["--stop", "first:2", "--regrade"], "--stop cannot be combined with --regrade"),
        (["--at_rollouts", "0"], "must be a whole number, at least 1"),
        (["--at_rollouts", "9" * 5000], "must be a whole number, at least 1"),
        (["--at_tokens", "many"], "must be a whole number, at least 1"),
        (["--at_rollouts", "3"], "holds 2 rollouts per problem"),
        (["--step", "5"], "have not all completed step 5"),
        (["--baseline", "{}"], "holds 2 runs: name one of them"),
        (["nowhere"], "There is nothing at nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(
    two: Path, compare: Program, more: list[str], words: str
) -> None:
    assert words in compare.refuse(two, *(each.format(two) for each in more))


def test_other_problems_are_refused_unless_the_common_ones_are_asked_for(
    two: Path, compare: Program
) -> None:
    write_run(two / "vllm_64_c" / "m", [GOLDS[:3]], GOLDS[:3], settings={})
    assert "vllm_64_a has problem aime-3, vllm_64_c does not" in compare.refuse(two)
    lines = compare(two, "--common").splitlines()
    assert [line.split()[4] for line in lines if "last answer" in line] == ["2/3", "3/3", "3/3"]


@pytest.mark.parametrize(
    "more",
    [
        ["--details", "--settings"],
        ["--csv"],
        ["--json"],
        ["--regrade"],
        ["--problem", HOSTILE],
        ["--plot", "p.svg"],
    ],
)
def test_text_from_files_is_shown_and_not_obeyed(
    tmp_path: Path, compare: Program, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", HOSTILE):
        write_manifest(tmp_path / name, {"model": f"{name}{HOSTILE}", HOSTILE: name})
    write_step(tmp_path / "a", 0, [ours(0, 1, 1, id=HOSTILE)])
    write_step(tmp_path / HOSTILE, 0, [ours(0, 1, 2, id=HOSTILE)])
    (tmp_path / HOSTILE / "predictions_1.json").write_text("[")
    out = compare(tmp_path, *more)
    assert not [c for c in out + compare.notes if not c.isprintable() and c not in "\n\r"]
    assert "[bold]" in out
    if more[:1] == ["--plot"]:
        assert "Oblique" not in Path("p.svg").read_text()  # a name is not set as mathematics


def test_folders_named_by_fault_are_escaped_in_complaints(tmp_path: Path, compare: Program) -> None:
    assert "[31m" in compare.refuse(tmp_path / HOSTILE)


def test_a_reader_that_stops_early_is_no_error(two: Path) -> None:
    script = ROOT / "scripts" / "compare_results.py"
    command = f"'{sys.executable}' '{script}' '{two}' --json | head -c 1 >/dev/null"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
