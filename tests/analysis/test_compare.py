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


def test_the_tables_of_two_runs(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = compare(capsys, two)
    own, votes, ever, spent, *rest = text.split("\n\n")
    at_tokens = "Against vllm_64_a, within 2,200 tokens per problem"
    assert [at_tokens in part for part in rest] == [False, False, False, False, True] + [False] * 4
    lines = rows(own)
    assert lines["vllm_64_a"] == ["vllm_64_b"]
    assert lines["step 0"] == ["2/4 50.0 %", "4/4 100.0 %"]
    assert lines["step 1"] == ["1/4 25.0 %", "4/4 100.0 %"]
    low, high = wilson(1, 4)
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in lines
    assert rows(votes)["step 1"] == ["1.5/4 37.5 %", "4/4 100.0 %"]
    assert rows(ever)["step 1"] == ["50.0 %", "100.0 %"]
    assert rows(spent)["step 1"] == ["2, 2,200, 2,200", "2, 2,200, 2,200"]
    lines = rows("\n".join(rest))
    assert lines["best step (post hoc)"] == ["50.0 % at 0", "100.0 % at 0"]
    assert lines["majority over steps"] == ["1.5/4, 1 tied", "4/4"]
    assert lines["right to wrong, wrong to right"] == ["1, 0", "0, 0"]
    assert lines["reply tokens"] == ["8,000", "8,000"]
    assert lines["a chain's replies / window"] == ["2.00x", "2.00x"]
    assert lines["no answer"] == ["12.5 %", "0.0 %"]
    assert lines["of these, with a box"] == ["0.0 %", "-"]
    assert rest[1].splitlines()[0].strip() == "Against vllm_64_a, within 2 rollouts per problem"
    compared = rows(rest[1])
    assert "vllm_64_b" in compared
    assert compared["answer"][:3] == ["25.0 %", "100.0 %", "+75.0"]
    assert compared["answer"][-1] == "-"
    assert compared["rolling majority"][:3] == ["37.5 %", "100.0 %", "+62.5"]
    assert rows(rest[2])["vllm_64_b"] == ["1 each", "2 each", "2,200 each", "2,200 each"]
    assert lines["better: aime-1 (0/1 to 1/1), aime-2 (0/1 to 1/1), aime-3 (0/1 to 1/1)"] == []
    words = " ".join(" ".join(rest).split())
    assert "breakthroughs, right here and in no rollout of vllm_64_a: aime-2, aime-3" in words
    assert not any(line.startswith("worse") for line in lines)
    assert "too few to tell: the two differ on 3 of 4 problems" in words
    assert "-: no gain would be, or the differences are too few or too alike to tell." in words
    assert lines["seed"] == ["0", "7"]


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
    lines = compare(capsys, two).splitlines()
    assert max(map(len, lines)) <= columns
    assert "d" * 6 in "".join(lines)


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


def test_equal_budgets_say_which_is_equal_and_how_far_the_others_are_apart(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (0, 1, 2):
        records = [ours(n, g, g, completion_tokens=300) for n, g in enumerate(GOLDS)]
        write_step(two / "vllm_64_b" / "m", step, records)
    table = compare(capsys, two, "--at_rollouts", 2)
    assert "Against vllm_64_a, within 2 rollouts per problem" in table
    tokens = "800 to 2,200 (0.36x)"
    assert rows(table)["vllm_64_b"] == ["1 each", "2 each", tokens, tokens]
    table = compare(capsys, two, "--at_tokens", 1100)
    assert "Against vllm_64_a, within 1,100 tokens per problem" in table
    tokens = "800 to 1,100 (0.73x)"
    assert rows(table)["vllm_64_b"] == ["1 to 0", "2 to 1 (2.00x)", tokens, tokens]
    difference = json.loads(compare(capsys, two, "--at_tokens", 1100, "--json"))["against"][0]
    assert difference["budget"] == {"rollouts": None, "tokens": 1100}
    assert (difference["at"]["step"], difference["baseline_at"]["step"]) == (1, 0)


def test_pass_at_k_of_a_parallel_baseline(tmp_path: Path, capsys: Any) -> None:
    write_run(
        tmp_path / "p",
        [[1, 9], [9, 9]],
        [1, 2],
        experiment={"prefix": "vllm_parallel", "ahead": True},
    )
    write_run(tmp_path / "q", [[1, 2], [1, 2]], [1, 2])
    lines = rows(compare(capsys, tmp_path))
    assert lines["k = 1"] == ["25.0 %", "100.0 %"]
    assert lines["k = 2"] == ["50.0 %", "100.0 %"]
    assert lines["right to wrong, wrong to right"] == ["-", "0, 0"]


def test_boxes_without_an_answer_point_to_regrading(two: Path, capsys: Any) -> None:
    assert "--regrade says whether" not in compare(capsys, two)
    records = [ours(n, g, None, unreadable_box=True) for n, g in enumerate(GOLDS)]
    write_step(two / "vllm_64_b" / "m", 1, records)
    table = compare(capsys, two)
    assert "--regrade says whether" in table
    assert rows(table)["of these, with a box"] == ["0.0 %", "100.0 %"]


def test_only_steps_with_a_value_are_shown(tmp_path: Path, capsys: Any) -> None:
    """Of 32 steps every other one asks for no answer, as those that every n-th would be."""
    for step in range(32):
        write_step(tmp_path, step, [ours(0, 1, 1 if step % 2 else None, asks_answer=step % 2 == 1)])
    own, votes, *_ = compare(capsys, tmp_path).split("\n\n")
    steps = [line for line in rows(own) if line.startswith("step")]
    assert steps == [f"step {n}" for n in (1, 5, 9, 13, 17, 21, 25, 29, 31)]
    assert "step 0" in votes


def test_long_runs_show_about_eight_steps_and_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, [GOLDS] * 64, GOLDS)
    steps = [line for line in rows(compare(capsys, tmp_path)) if re.match(r"step \d", line)]
    assert steps == [f"step {n}" for n in (*range(0, 64, 8), 63)]
    text = compare(capsys, tmp_path, "--every", 60)
    steps = [line for line in rows(text) if re.match(r"step \d", line)]
    assert steps == ["step 0", "step 60", "step 63"]


def test_several_seeds_are_told_with_their_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, answers in enumerate(([1, 2, 9, 9], [1, 8, 8, 8])):
        write_run(tmp_path / f"seed_{seed}", [answers], GOLDS)
    text = compare(capsys, tmp_path)
    assert rows(text.partition("\n\n")[0])["step 0"] == ["3/8 37.5 %"]
    lines = rows(text)
    assert lines["avg@K"] == ["37.5 %, K=2"]
    assert lines["maj@K"] == ["1.5/4, 3 tied"]
    assert (lines["pass@1"], lines["pass@2"]) == (["37.5 %"], ["50.0 %"])
    assert lines["standard error over problems"] == ["23.9 %"]


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
    assert rows(out.partition("\n\n")[0])["step 1"] == ["-", "4/4 100.0 %"]


def test_a_parallel_run_alone_has_nothing_to_be_compared_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([str(Path(__file__).resolve().parents[2] / "results" / "vllm_parallel_512_example")])
    out = capsys.readouterr().out
    assert "Rolling majority by step" in out
    assert "Against" not in out


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
    assert "Against vllm_64_a/m, at step 0" in out


def test_a_run_that_cannot_be_read_does_not_keep_the_others_from_it(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (0, 1):
        (two / "vllm_64_a" / "m" / f"predictions_{step}.json").write_text("[{")
    main([str(two)])
    out, notes = capsys.readouterr()
    assert f"{two}/vllm_64_a/m has no step that can be read for every seed" in notes
    assert rows(out.partition("\n\n")[0])["step 1"] == ["4/4 100.0 %"]
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
        (["--every", "2", "--json"], "--every does not go with --json"),
        (["--plot_by", "tokens"], "--plot_by needs --plot"),
        (["--at_rollouts", "0"], "must be a whole number, at least 1"),
        (["--at_rollouts", "9" * 5000], "must be a whole number, at least 1"),
        (["--at_rollouts", "3"], "holds 2 rollouts per problem"),
        (["--at_tokens", "2201"], "holds 2,200 tokens per problem"),
        (["--step", "5"], "have not both completed step 5"),
        (["--baseline", "{}"], "holds 2 runs: name one of them"),
        (["nowhere"], "nowhere contains no results"),
        (["--json", "--csv"], "not allowed with"),
        (["--every", "0"], "must be a whole number, at least 1"),
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
    lines = rows(compare(capsys, two, "--common").partition("\n\n")[0])
    assert lines["step 0"] == ["2/3 66.7 %", "3/3 100.0 %", "3/3 100.0 %"]


@pytest.mark.parametrize(
    "more", [[], ["--csv"], ["--json"], ["--regrade"], ["--problem", HOSTILE], ["--plot", "p.svg"]]
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
