"""compare_results.py as its users call it: what it prints, draws and refuses."""

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

from compare_results import main
from kflow.analysis.replies import split
from kflow.analysis.statistics import wilson
from results_on_disk import ours, published, write_run, write_step
from scripted import ROOT

GOLDS = [1, 2, 3, 4]
EXAMPLE = ROOT / "results" / "vllm_1024_example"


def compare(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence of a refusal."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, told = capsys.readouterr()
    assert ended.value.code == 2
    assert (out, told.count("\n")) == ("", 1)
    return told


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two runs: a with 2 and 1 of 4 right, b with 4 of 4."""
    settings = {"max_new_tokens": 1000, "seed": 0}
    write_run(
        tmp_path / "vllm_64_a" / "m", [[1, 2, 9, 9], [1, 9, 9, None]], GOLDS, settings=settings
    )
    write_run(tmp_path / "vllm_64_b" / "m", [GOLDS, GOLDS], GOLDS, settings=settings | {"seed": 7})
    return tmp_path


def rows(table: str) -> dict[str, list[str]]:
    """First column -> the others, of lines whose columns stand two blanks apart."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines}


def test_the_tables_of_two_runs(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = rows(compare(capsys, two))
    assert shown["vllm_64_a"] == ["vllm_64_b"]
    assert shown["step 0"] == ["2/4 50.0 %", "4/4 100.0 %"]
    assert shown["step 1"] == ["1/4 25.0 %", "4/4 100.0 %"]
    low, high = wilson(1, 4)
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in shown
    assert shown["best step (picked afterwards)"] == ["50.0 % at 0", "100.0 % at 0"]
    assert shown["majority over steps"] == ["1.5/4, 1 tied", "4/4"]
    assert shown["ever correct (an oracle)"] == ["50.0 %", "100.0 %"]
    assert shown["right to wrong, wrong to right"] == ["1, 0", "0, 0"]
    assert shown["reply tokens"] == ["8,000", "8,000"]
    assert shown["a chain's tokens / window"] == ["2.00x", "2.00x"]
    assert shown["no answer"] == ["12.5 %", "0.0 %"]
    assert shown["vllm_64_b"][:2] == ["1", "+75.0"]
    assert shown["better: aime-1 (0/1 to 1/1), aime-2 (0/1 to 1/1), aime-3 (0/1 to 1/1)"] == []
    assert not any(line.startswith("worse") for line in shown)
    assert "too few to tell: the runs differ on 3 of 4 problems" in " ".join(shown)
    assert shown["seed"] == ["0", "7"]


def test_the_baseline_is_the_first_or_the_one_named(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = two / "vllm_64_a", two / "vllm_64_b"
    for arguments, baseline in (
        ([a, b], "vllm_64_a"),
        ([a, b, "--baseline", b], "vllm_64_b"),
        ([a, "--baseline", b / "m"], "vllm_64_b"),
    ):
        found = json.loads(compare(capsys, *arguments, "--json"))
        assert [each["baseline"] for each in found["against"]] == [baseline]


def test_json_holds_every_step_and_csv_one_line_each(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(compare(capsys, two, "--json"))
    lines = list(csv.DictReader(io.StringIO(compare(capsys, two, "--csv"))))
    told = [(run["name"], step) for run in found["runs"] for step in run["accuracy"]]
    assert len(lines) == len(told) == 4
    for line, (name, step) in zip(lines, told, strict=True):
        assert line["run"] == name
        assert (int(line["step"]), int(line["right"])) == (step["step"], step["right"])
        assert float(line["low"]) == step["low"]
        assert line["standard_error"] == ""


def test_long_runs_show_about_eight_steps_and_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, [GOLDS] * 64, GOLDS)
    shown = [line for line in rows(compare(capsys, tmp_path)) if line.startswith("step ")]
    assert shown == [f"step {n}" for n in (*range(0, 64, 8), 63)]
    shown = [line for line in rows(compare(capsys, tmp_path, "--every", 60)) if "step " in line[:5]]
    assert shown == ["step 0", "step 60", "step 63"]


def test_several_seeds_are_told_with_their_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, answers in enumerate(([1, 2, 9, 9], [1, 8, 8, 8])):
        write_run(tmp_path / f"seed_{seed}", [answers], GOLDS)
    shown = rows(compare(capsys, tmp_path))
    assert shown["step 0"] == ["3/8 37.5 %"]
    assert shown["avg@K"] == ["37.5 %, K=2"]
    assert shown["maj@K"] == ["1.5/4, 3 tied"]
    assert (shown["pass@1"], shown["pass@2"]) == (["37.5 %"], ["50.0 %"])
    assert shown["standard error over problems"] == ["23.9 %"]


def test_one_problem_step_by_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "?\n\n## Wrong Answer List\n**Wrong Answer 1**: x\n\n## Instructions\n"
    write_step(tmp_path / "a", 0, [ours(0, -7, -7, finish_reason="length")])
    write_step(tmp_path / "a", 1, [ours(0, -7, int("9" * 30), question=prompt)])
    write_step(tmp_path / "b", 0, [ours(0, -7, None, failure="refused")])
    shown = compare(capsys, tmp_path, "--problem", "aime-0")
    assert "Problem aime-0, the right answer is -7" in shown
    told = rows(shown)
    assert told["step 0"] == ["-7 right, cut off, list of 0", "failed, list of 0"]
    assert "99999999... (30 digits) wrong, list of 1" in re.sub(r"\s+", " ", shown)


def test_the_plot_has_every_run_and_is_the_same_twice(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [two / f"{n}.svg" for n in (1, 2)]
    for picture in pictures:
        compare(capsys, two, "--plot", picture)
    drawn = [picture.read_text() for picture in pictures]
    assert drawn[0] == drawn[1]
    assert {"vllm_64_a", "vllm_64_b"} <= set(re.findall(r"<!--\s*(vllm_64_\w)\s*-->", drawn[0]))
    compare(capsys, two, "--plot", two / "p.PNG")
    assert (two / "p.PNG").read_bytes().startswith(b"\x89PNG")


def test_grading_again_finds_what_differs_and_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four replies: sound; another number on file than in the text; an answer in the thinking
    alone; one that only math-verify reads. And a failed one, which has no text."""
    settings = {"experiment": {"answer": "first_boxed"}}
    texts = [
        r"x</think>\boxed{1}",
        r"x</think>\boxed{2}",
        r"\boxed{3}</think>Four, I think.",
        r"x</think>\boxed{\frac{8}{2}}",
    ]
    answers = [1, 9, 3, None]
    rows_ = [
        ours(n, gold, answer, pred_solution=text)
        for n, (gold, answer, text) in enumerate(zip(GOLDS, answers, texts, strict=True))
    ]
    write_step(tmp_path, 0, [*rows_, ours(4, 5, None, failure="refused", pred_solution="")])
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings, "sessions": [{}]}))
    found: Any = json.loads(compare(capsys, tmp_path, "--regrade", "--json"))["regraded"][0]
    assert (found["rule"], found["rule_is_guessed"]) == ("first_boxed", False)
    assert (found["checked"], found["failed"]) == (4, 1)
    told = {each["problem"]: each for each in found["disagreements"]}
    assert set(told) == {"aime-1", "aime-2", "aime-3"}
    assert (told["aime-1"]["by_rule"], told["aime-1"]["from_visible_answer"]) == (2, 2)
    assert told["aime-1"]["math_verify"] is True
    assert "by_rule" not in told["aime-2"]
    assert told["aime-2"]["from_visible_answer"] is None
    assert told["aime-2"]["math_verify"] is False
    assert told["aime-3"]["math_verify"] is True
    assert "from_visible_answer" not in told["aime-3"]
    shown = compare(capsys, tmp_path, "--regrade")
    assert "1 by the run's own rule (first_boxed), 2 by it from the visible answer alone" in shown
    assert "problem aime-2, seed 0, step 0: file: 3, gold 3; visible answer: no answer" in shown


def test_grading_a_carried_text_reads_the_new_part_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"experiment": {"answer": "first_boxed_or_last_integer"}}
    text = r"before \boxed{5} "
    row = ours(0, 1, 1, pred_solution=text + r"now \boxed{1}", reply_start=len(text))
    write_step(tmp_path, 0, [row])
    (tmp_path / "run.json").write_text(json.dumps({"settings": settings, "sessions": [{}]}))
    found: Any = json.loads(compare(capsys, tmp_path, "--regrade", "--json"))["regraded"][0]
    assert found["disagreements"] == []


@pytest.mark.parametrize("mark", ["</think>", "assistantfinal"])
def test_the_visible_answer_is_what_follows_the_familys_last_mark(mark: str) -> None:
    assert split(rf"a{mark}b{mark}\boxed{{3}}") == (f"a{mark}b", r"\boxed{3}")
    assert split(r"\boxed{3}") == ("", r"\boxed{3}")


def test_without_a_run_json_the_rule_that_fits_is_taken_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = r"\boxed{8} no, \boxed{1}"
    write_step(tmp_path, 0, [published(0, 1, 1, pred_solution=both)])
    shown = compare(capsys, tmp_path, "--regrade")
    assert "last_boxed_or_last_integer, guessed as there is no run.json" in shown


def test_the_committed_run_is_graded_as_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(compare(capsys, EXAMPLE, "--regrade", "--json"))["regraded"]
    assert [each["by_rule"] for each in found] == [0] * len(found)
    assert all(each["checked"] >= 72 for each in found)


def test_a_run_in_progress_and_a_damaged_file_are_named(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (two / "vllm_64_a" / "m" / "predictions_1.json").write_text("[{")
    (two / "vllm_64_b" / "m" / "rollouts_2.jsonl").touch()
    main([str(two)])
    out, told = capsys.readouterr()
    assert "predictions_1.json is left out: it is not JSON" in told
    assert "vllm_64_b/m is in progress: 2 steps are complete" in told
    assert rows(out)["step 1"] == ["-", "4/4 100.0 %"]


def test_a_run_that_cannot_be_read_does_not_keep_the_others_from_it(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (0, 1):
        (two / "vllm_64_a" / "m" / f"predictions_{step}.json").write_text("[{")
    main([str(two)])
    out, told = capsys.readouterr()
    assert f"{two}/vllm_64_a/m has no step that can be read for every seed" in told
    assert rows(out)["step 1"] == ["4/4 100.0 %"]
    assert "vllm_64_a cannot be read" in refused(capsys, two, "--baseline", two / "vllm_64_a")
    for step in (0, 1):
        (two / "vllm_64_b" / "m" / f"predictions_{step}.json").write_text("")
    assert "vllm_64_b/m has no step that can be read" in refused(capsys, two)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ["--problem", "aime-9"],
            "No problem aime-9 in vllm_64_a: its problems are aime-0, aime-1",
        ),
        (["--plot", "p.pdf"], "--plot p.pdf: give a file name that ends in .png or .svg"),
        (["--plot", "no/where/p.png"], "Cannot write --plot no/where/p.png"),
        (["--step", "5"], "have not both completed step 5"),
        (["--baseline", "{}"], "holds 2 runs: name one of them"),
        (["nowhere"], "nowhere holds no results"),
        (["--json", "--csv"], "not allowed with"),
        (["--every", "0"], "must be a whole number, at least 1"),
    ],
)
def test_a_mistake_is_one_sentence(
    two: Path, capsys: pytest.CaptureFixture[str], more: list[str], told: str
) -> None:
    assert told in refused(capsys, two, *(each.format(two) for each in more))


def test_other_problems_are_refused_unless_the_common_ones_are_asked_for(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(two / "vllm_64_c" / "m", [GOLDS[:3]], GOLDS[:3])
    told = refused(capsys, two)
    assert "vllm_64_a has problem aime-3, vllm_64_c has not" in told
    shown = rows(compare(capsys, two, "--common"))
    assert shown["step 0"] == ["2/3 66.7 %", "3/3 100.0 %", "3/3 100.0 %"]


def test_text_from_files_is_shown_and_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "a\x1b[31m[bold]\n$x$"
    for name in ("a", hostile):
        settings = {"model": f"{name}\x1b]0;x\x07"}
        write_run(tmp_path / name, [[1]], [1], settings=settings)
    write_step(tmp_path / "a", 0, [ours(0, 1, 1, id="\x1b[2J")])
    write_step(tmp_path / hostile, 0, [ours(0, 1, 2, id="\x1b[2J")])
    for more in ([], ["--regrade"], ["--problem", "\x1b[2J"], ["--plot", tmp_path / "p.svg"]):
        main([str(tmp_path), *map(str, more)])
        out, told = capsys.readouterr()
        assert "\x1b" not in out + told
    assert "[bold]" in compare(capsys, tmp_path)
    assert "Oblique" not in (tmp_path / "p.svg").read_text()  # a name is not set as mathematics


def test_a_reader_that_stops_early_is_no_error(two: Path) -> None:
    script = ROOT / "scripts" / "compare_results.py"
    command = f"'{sys.executable}' '{script}' '{two}' --json | head -c 1 >/dev/null"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
