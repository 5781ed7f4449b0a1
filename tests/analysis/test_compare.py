"""compare_results.py as its users call it: what it prints and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.results_on_disk import ours, wide, write_manifest, write_run, write_step
from kflow.analysis import compare as program
from kflow.analysis.statistics import wilson
from kflow.types import Entry

GOLDS = [1, 2, 3, 4]
HOSTILE = "a\x1b[31m[bold]\n$x$\u202e\u2028"
ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "results" / "vllm_512_example"


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which the columns of every table stand two blanks apart."""
    monkeypatch.setenv("COLUMNS", "120")


def main(arguments: list[str]) -> None:
    program.main("Compare runs.", arguments)


def compare(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence of a refusal."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, stderr = capsys.readouterr()
    assert ended.value.code == 2
    assert (out, stderr.count("\n")) == ("", 1)
    return stderr


def two_runs(folder: Path) -> Path:
    """Two runs in the folder, which is returned: a with 2 and 1 of 4 right, b with 4 of 4."""
    settings = {"max_new_tokens": 1000, "seed": 0}
    write_run(folder / "vllm_64_a" / "m", [[1, 2, 9, 9], [1, 9, 9, None]], GOLDS, settings=settings)
    write_run(folder / "vllm_64_b" / "m", [GOLDS, GOLDS], GOLDS, settings=settings | {"seed": 7})
    return folder


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return two_runs(tmp_path)


def rows(table: str) -> dict[str, list[str]]:
    """First column -> the others, of lines whose columns stand two blanks apart."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines}


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_answer_of_two_runs(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdict, standings, over_run = compare(capsys, two).split("\n\n")
    title, *sentences = verdict.splitlines()
    assert title == "m, 4 problems, window 1,000"
    assert words(" ".join(sentences)).startswith("At 2 rollouts a problem, no difference from")
    first, its_votes, second, votes, budget, at_tokens = standings.splitlines()[1:]
    low, high = wilson(1, 4)
    share = ["1/4", "25.0", f"[{100 * low:.0f}, {100 * high:.0f}]"]
    assert rows(first)["mistakes a"] == ["last answer", *share, "(baseline)"]
    assert rows(its_votes)["majority of 2"][:2] == ["1.5/4", "37.5"]
    (cells,) = rows(second).values()
    assert (cells[:3], cells[4], cells[6]) == (["last answer", "4/4", "100.0"], "+75.0", "0.25*")
    assert rows(votes)["majority of 2"][3] == "+62.5"
    assert budget == "Each at its step nearest to 2,200 tokens a problem:"
    assert rows(at_tokens)["mistakes b"][:2] == ["of 2 rollouts", "4/4"]
    _, _, *lines = over_run.splitlines()
    assert rows(lines[0])["mistakes a"] == ["50.0", "50.0", "2,200", "2,200", "12.5", "0.0"]
    hints = words(" ".join(lines[2:]))
    assert "mistakes b: 3 better (aime-1, aime-2 and aime-3)." in hints
    assert "Results: vllm_64_a (mistakes a), vllm_64_b (mistakes b)." in hints
    assert "--problem aime-1: how" in hints
    assert "--settings: 1 that differ" in hints


@pytest.mark.parametrize("name", ["512_example", "2048_study"])
def test_the_answer_on_the_committed_runs_is_short(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by a glob, which has the mistakes list first."""
    for columns, most in ((80, 32), (120, 28)):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = compare(capsys, ROOT / "results" / f"*_{name}").splitlines()
        assert len(lines) <= most
        assert max(map(len, lines)) <= columns
        assert len([line for line in lines if "(baseline)" in line]) == 1
        (stands,) = (line for line in lines if "(baseline)" in line)
        assert stands.split()[:3] == ["parallel", "majority", "of"]
        for verdict in ("drags", "unclear") if name == "2048_study" else ("unclear", "helps"):
            assert len([line for line in lines if f"{verdict} " in line and "[" in line]) == 1
        assert sum(line.count(name) for line in lines) == 3  # folders, once each


def test_details_follow_the_answer(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer, text = compare(capsys, two), compare(capsys, two, "--details")
    assert text.startswith(answer)
    a, b, replies, chains, *against = text[len(answer) :].strip().split("\n\n")
    assert rows(a)["1"][:4] == ["25.0", "[5, 70]", "37.5", "50.0"]
    assert rows(b)["0"] == [
        "100.0",
        "[51, 100]",
        "100.0",
        "100.0",
        "1",
        "1,100",
        "1,100",
        "1,000",
        "1",
    ]
    assert rows(replies)["mistakes a"] == ["8", "1,000", "12.5", "0.0", "0.0", "0.0", "0.0", "0.0"]
    assert rows(chains)["mistakes a"] == ["2", "1", "0", "2", "0.0"]
    table = rows(against[0])
    assert words(against[0]).startswith("Against mistakes a, at 2 rollouts a problem")
    assert table["mistakes b"][:4] == ["majority", "37.5", "100.0", "+62.5"]
    moved = "mistakes b better: aime-1 (0/1 to 1/1), aime-2 (0/1 to 1/1), aime-3 (0/1 to 1/1)."
    assert against[1] == moved
    assert "mistakes b right, and no rollout of mistakes a: aime-2, aime-3." in text


def test_settings_that_differ_are_shown_where_asked_for(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer, text = compare(capsys, two), compare(capsys, two, "--settings")
    assert words(text[len(answer) :]) == "Settings that differ seed mistakes a 0 mistakes b 7"
    alike = compare(capsys, two / "vllm_64_a", "--settings")
    assert alike.strip().endswith("No setting differs.")


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_tables_fit_the_terminal(
    two: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in ("c", "d" * 30, "e"):
        write_run(two / f"vllm_64_{name}" / "m", [GOLDS, GOLDS], GOLDS, settings={"seed": 1})
    text = compare(capsys, two, "--details", "--settings", "--stop", "first:1")
    assert max(map(len, text.splitlines())) <= columns
    assert "d" * 30 in text.replace("\n", "").replace(" ", "")


def test_parallel_thinking_is_the_baseline_wherever_it_stands(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(
        two / "vllm_parallel_64_c" / "m",
        [GOLDS, GOLDS],
        GOLDS,
        experiment={"prefix": "vllm_parallel", "ahead": True},
    )
    report = json.loads(compare(capsys, two, "--json"))
    assert {each["baseline"] for each in report["against"]} == {"vllm_parallel_64_c"}
    assert [run["label"] for run in report["runs"]] == ["parallel", "mistakes a", "mistakes b"]
    assert [each["run"] for each in report["carried"]] == ["vllm_64_a", "vllm_64_b"]
    named = json.loads(compare(capsys, two, "--baseline", two / "vllm_64_b", "--json"))
    assert {each["baseline"] for each in named["against"]} == {"vllm_64_b"}
    assert named["runs"][0]["name"] == "vllm_64_b"


def test_the_baseline_is_the_first_or_the_one_named(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = two / "vllm_64_a", two / "vllm_64_b"
    for arguments, baseline in (
        ([a, b], "vllm_64_a"),
        ([a, b, "--baseline", b], "vllm_64_b"),
        ([a, "--baseline", b / "m"], "vllm_64_b"),
    ):
        report = json.loads(compare(capsys, *arguments, "--json"))
        assert [each["baseline"] for each in report["against"]] == [baseline] * 2
        assert [each["budget"] for each in report["against"]] == [
            {"rollouts": 2, "tokens": None},
            {"rollouts": None, "tokens": 2200},
        ]


def test_json_holds_every_step_and_csv_one_line_each(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads(compare(capsys, two, "--json"))
    lines = list(csv.DictReader(io.StringIO(compare(capsys, two, "--csv"))))
    steps = [(run["name"], step) for run in report["runs"] for step in run["by_step"]]
    assert len(lines) == len(steps) == 4
    for line, (name, step) in zip(lines, steps, strict=True):
        assert (line["run"], int(line["step"])) == (name, step["step"])
        assert int(line["right"]) == step["own"]["right"]
        assert float(line["low"]) == step["own"]["low"]
        assert float(line["majority_right"]) == step["rolling_majority"]["right"]
        assert float(line["tokens"]) == step["tokens"] == 1100 * (step["step"] + 1)
        assert (line["standard_error"], line["list_share"]) == ("", "")


def test_other_budgets(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (0, 1, 2):
        records = [ours(n, g, g, completion_tokens=300) for n, g in enumerate(GOLDS)]
        write_step(two / "vllm_64_b" / "m", step, records)
    table = compare(capsys, two, "--at_rollouts", 2)
    assert words(table.partition("\n")[2]).startswith("At 2 rollouts a problem, ")
    assert rows(table)["mistakes b"][2:4] == ["800", "800"]
    table = compare(capsys, two, "--at_tokens", 1150)
    assert words(table.partition("\n")[2]).startswith("At 1,150 tokens a problem, ")
    assert rows(table)["mistakes a"][2:4] == ["1,100", "1,100"]
    assert rows(table)["mistakes b"][2:4] == ["1,200", "1,200"]
    difference = json.loads(compare(capsys, two, "--at_tokens", 1150, "--json"))["against"][0]
    assert difference["budget"] == {"rollouts": None, "tokens": 1150}
    assert (difference["at"]["step"], difference["baseline_at"]["step"]) == (2, 0)
    table = compare(capsys, two, "--step", 0)
    assert words(table.partition("\n")[2]).startswith("At step 0, ")


def test_boxes_without_an_answer_point_to_regrading(two: Path, capsys: Any) -> None:
    assert "--regrade says whether" not in words(compare(capsys, two, "--details"))
    records = [ours(n, g, None, unreadable_box=True) for n, g in enumerate(GOLDS)]
    write_step(two / "vllm_64_b" / "m", 1, records)
    table = compare(capsys, two, "--details")
    assert "--regrade says whether" in words(table)
    replies = table.partition("Replies, %")[2].partition("\n\n")[0]
    assert [rows(replies)[f"mistakes {name}"][3] for name in "ab"] == ["0.0", "100.0"]


def test_a_figure_that_no_step_has_is_no_column(tmp_path: Path, capsys: Any) -> None:
    """Every other step asks for no answer; none shows a list, and none has several rollouts."""
    for step in range(4):
        write_step(tmp_path, step, [ours(0, 1, 1 if step % 2 else None, asks_answer=step % 2 == 1)])
    table = compare(capsys, tmp_path, "--details").partition("by step")[2].partition("\n\n")[0]
    heads, lines = words(table), rows(table)
    assert [lines[str(step)][:2] for step in range(2)] == [["-", "-"], ["100.0", "[21, 100]"]]
    assert not {"single", "list", "cost"} & {*heads.split()}


def test_several_seeds_are_told_with_their_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, answers in enumerate(([1, 2, 9, 9], [1, 8, 8, 8])):
        write_run(tmp_path / f"seed_{seed}", [answers], GOLDS)
    text = compare(capsys, tmp_path, "--details")
    assert text.startswith(f"{tmp_path.name}, 4 problems, 2 seeds\n")
    over_seeds = rows(text.partition("Over seeds")[2])[tmp_path.name]
    assert over_seeds == ["2", "37.5", "23.9", "37.5", "37.5", "50.0"]


def test_one_problem_step_by_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {"knowledge": (Entry("x"),)}
    write_step(tmp_path / "a", 0, [ours(0, -7, -7, finish_reason="length")])
    write_step(tmp_path / "a", 1, [ours(0, -7, int("9" * 30), **listed)])
    write_step(tmp_path / "b", 0, [ours(0, -7, None, failure="refused")])
    write_step(tmp_path / "b", 2, [ours(0, -7, 3, repeats_step=0, over_budget=True)])
    table = compare(capsys, tmp_path, "--problem", "aime-0")
    assert "Problem aime-0, the right answer is -7" in table
    lines = rows(table)
    assert lines["step 0"] == ["-7 right, truncated", "failed"]
    assert lines["step 2"] == [
        "not among its steps 0 to 1",
        "3 wrong, early-stopped, at its token budget",
    ]
    assert "99999999... (30 characters) wrong, list of 1" in " ".join(table.split())


def test_a_run_in_progress_and_a_damaged_file_are_named(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (two / "vllm_64_a" / "m" / "predictions_1.json").write_text("[{")
    (two / "vllm_64_b" / "m" / "rollouts_2.jsonl").touch()
    main([str(two)])
    out, notes = capsys.readouterr()
    assert "predictions_1.json is left out: it is not JSON" in notes
    assert "vllm_64_b/m is in progress: 2 steps complete" in notes
    assert "At 1 rollout a problem" in out


def test_a_parallel_run_alone_has_nothing_to_be_compared_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([str(Path(__file__).resolve().parents[2] / "results" / "vllm_parallel_512_example")])
    out = capsys.readouterr().out
    assert "majority of 4" in out
    assert "points [" in out  # from its first step to its last
    assert "(baseline)" not in out


def test_runs_without_a_budget_in_common_are_compared_at_a_step(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four rollouts in the one's first step, two in all of the other's."""
    other = tmp_path / "wide"
    write_step(other, 0, [wide([ours(n, g, g)] * 4, g) for n, g in enumerate(GOLDS)])
    assert main([str(two / "vllm_64_a"), str(other), "--common"]) is None
    out, notes = capsys.readouterr()
    assert "No comparison at equal rollouts" in notes
    assert "No comparison at equal tokens" in notes
    assert "At step 0, no difference" in out


def test_a_run_that_cannot_be_read_does_not_keep_the_others_from_it(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (0, 1):
        (two / "vllm_64_a" / "m" / f"predictions_{step}.json").write_text("[{")
    main([str(two)])
    out, notes = capsys.readouterr()
    assert f"{two}/vllm_64_a/m has no step that can be read for every seed" in notes
    assert re.search(r"mistakes +last answer +4/4 +100.0", out)
    broken, other = two / "vllm_64_a", two / "vllm_64_b"
    why = "vllm_64_a/m has no step that can be read"
    assert why in refused(capsys, two, "--baseline", broken)
    assert why in refused(capsys, broken, other)
    assert why in refused(capsys, other, broken)
    for step in (0, 1):
        (two / "vllm_64_b" / "m" / f"predictions_{step}.json").write_text("")
    assert "vllm_64_b/m has no step that can be read" in refused(capsys, two)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["--problem", "aime-9"],
            "No problem aime-9 in vllm_64_a: its problems are aime-0, aime-1",
        ),
        (["--plot", "p.pdf"], "--plot p.pdf: give a file name that ends in .png or .svg"),
        (
            ["--plot", "no/where/p.png"],
            "no/where is not a folder: create it, or give --plot another",
        ),
        (["--plot", "{}/x.svg", "--plot_by", "luck"], "--plot_by: invalid choice"),
        (["--step", "1", "--at_tokens", "5"], "not allowed with"),
        (["--problem", "aime-1", "--json"], "--problem does not go with --json"),
        (["--regrade", "--csv"], "--regrade does not go with --csv"),
        (["--details", "--json"], "--details does not go with --json"),
        (["--settings", "--csv"], "--settings does not go with --csv"),
        (["--plot_by", "tokens"], "--plot_by needs --plot"),
        (["--at_rollouts", "0"], "must be a whole number, at least 1"),
        (["--at_rollouts", "9" * 5000], "must be a whole number, at least 1"),
        (["--at_rollouts", "3"], "holds 2 rollouts per problem"),
        (["--at_tokens", "2201"], "holds 2,200 tokens per problem"),
        (["--step", "5"], "have not all completed step 5"),
        (["--baseline", "{}"], "holds 2 runs: name one of them"),
        (["nowhere"], "nowhere contains no results"),
        (["--json", "--csv"], "not allowed with"),
        (["--at_tokens", "many"], "must be a whole number, at least 1"),
    ],
)
def test_a_mistake_is_one_sentence(
    two: Path, capsys: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    assert sentence in refused(capsys, two, *(each.format(two) for each in more))


def test_other_problems_are_refused_unless_the_common_ones_are_asked_for(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(two / "vllm_64_c" / "m", [GOLDS[:3]], GOLDS[:3])
    complaint = refused(capsys, two)
    assert "vllm_64_a has problem aime-3, vllm_64_c does not" in complaint
    lines = compare(capsys, two, "--common").splitlines()
    assert [line.split()[4] for line in lines if "last answer" in line] == ["2/3", "3/3", "3/3"]


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--details", "--settings"],
        ["--csv"],
        ["--json"],
        ["--regrade"],
        ["--problem", HOSTILE],
        ["--plot", "p.svg"],
    ],
)
def test_text_from_files_is_shown_and_not_obeyed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", HOSTILE):
        write_manifest(tmp_path / name, {"model": f"{name}{HOSTILE}", HOSTILE: name})
    write_step(tmp_path / "a", 0, [ours(0, 1, 1, id=HOSTILE)])
    write_step(tmp_path / HOSTILE, 0, [ours(0, 1, 2, id=HOSTILE)])
    (tmp_path / HOSTILE / "predictions_1.json").write_text("[")
    main([str(tmp_path), *more])
    out, notes = capsys.readouterr()
    assert not [c for c in out + notes if not c.isprintable() and c not in "\n\r"]
    assert "[bold]" in out
    if more[:1] == ["--plot"]:
        assert "Oblique" not in Path("p.svg").read_text()  # a name is not set as mathematics


def test_folders_named_by_fault_are_escaped_in_complaints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "\x1b" not in refused(capsys, tmp_path / HOSTILE)


def test_a_reader_that_stops_early_is_no_error(two: Path) -> None:
    script = ROOT / "scripts" / "compare_results.py"
    command = f"'{sys.executable}' '{script}' '{two}' --json | head -c 1 >/dev/null"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
