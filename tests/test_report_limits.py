"""report.py without a browser: how large its page gets, what it refuses, what it leaves alone."""

from __future__ import annotations

import io
import os
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from kflow.analysis.page import page, report
from kflow.analysis.runs import read
from kflow.types import UserError
from pages import (
    read_page,
    write_page,
)
from results_on_disk import ours, write_run, write_step

GOLDS = [25, 7]
STEPS = [[25, 1], [25, None], [3, 7]]


def refuses(capsys: pytest.CaptureFixture[str], *argv: Path | str) -> str:
    with pytest.raises(SystemExit) as ended:
        report.main("", list(map(str, argv)))
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


def noise(characters: int) -> str:
    return "".join(random.Random(characters).choices("0123456789abcdef", k=characters))


def big_run(folder: Path, steps: int, characters: int) -> Path:
    for step in range(steps):
        text = f"{noise(characters + step)}</think>{noise(300)}"
        write_step(folder, step, [ours(n, n, n, pred_solution=text) for n in range(4)])
    return folder


@pytest.mark.parametrize("largest", [270_000, 290_000, 500_000])
def test_texts_are_cut_until_the_page_is_small_enough(tmp_path: Path, largest: int) -> None:
    run = read(big_run(tmp_path, 3, 40_000), "big")
    file = io.BytesIO()
    size = page.write([run], file, largest)
    assert size.page == len(file.getvalue()) <= largest
    (tmp_path / "r.html").write_bytes(file.getvalue())
    report_page = read_page(tmp_path / "r.html")
    assert size.allowance is not None
    assert f"cut to {size.allowance:,} characters" in report_page.text
    for step, line in enumerate(report_page.chain(0, 0, 2)):
        head, left, tail = line["slots"][0]["texts"][2]
        whole = noise(40_000 + step) + "</think>"
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert len(head) + left + len(tail) == len(whole)
        assert len(head) + len(tail) > (3000 if largest == 500_000 else 0)


def test_many_seeds_have_the_texts_of_the_first_ones_rather_than_scraps_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(8):
        big_run(tmp_path / "run" / f"seed_{seed}", 3, 4000 + seed)
    big_run(tmp_path / "one", 3, 3000)
    monkeypatch.setattr(page, "LEAST", 2000)
    runs = [read(tmp_path / "run", "many"), read(tmp_path / "one", "one")]
    file = io.BytesIO()
    size = page.write(runs, file, 320_000)
    assert size.page <= 320_000
    assert size.seeds is not None
    assert 1 <= size.seeds < 8
    assert size.allowance is not None
    (tmp_path / "r.html").write_bytes(file.getvalue())
    report_page = read_page(tmp_path / "r.html")
    names = {attributes.get("id") or "" for _, attributes in report_page.tags}
    expected = {f"t0-{seed}-{p}" for seed in range(size.seeds) for p in range(4)}
    assert {name for name in names if re.fullmatch(r"t\d+-\d+-\d+", name)} == expected | {
        f"t1-0-{p}" for p in range(4)
    }
    assert len(report_page.data["runs"][0]["outcomes"]) == 8
    assert "are in the page; of the other seeds" in report_page.text


def test_a_page_of_numbers_alone_that_is_too_large_is_refused(tmp_path: Path) -> None:
    run = read(big_run(tmp_path, 2, 1000), "big")
    with pytest.raises(UserError, match="name fewer runs"):
        page.write([run], io.BytesIO(), 20_000)


def test_memory_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    def peak(steps: int) -> int:
        run = read(big_run(tmp_path / str(steps), steps, 200_000), "big")
        file = open(tmp_path / "page", "w+b")  # noqa: SIM115
        page.template()
        tracemalloc.start()
        page.write([run], file, 600_000)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        file.close()
        return most

    # A record takes 200 kB; its bytes and its texts are held at a time.
    assert peak(12) - peak(4) < 800_000


@pytest.mark.parametrize("damage", ["", "[{", "fewer"])
def test_a_file_that_changes_meanwhile_is_named(tmp_path: Path, damage: str) -> None:
    run = read(write_run(tmp_path, STEPS, GOLDS), "run")
    if damage == "fewer":
        write_step(tmp_path, 1, [ours(0, 25, 25)])
    else:
        (tmp_path / "predictions_1.json").write_text(damage)
    with pytest.raises(UserError, match=r"predictions_1\.json changed while it was read"):
        page.write([run], io.BytesIO())


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", STEPS, GOLDS)
    results = folder / "predictions_0.json"
    before = results.read_bytes()
    assert "contains no results" in refuses(capsys, tmp_path / "none")
    assert "is left alone" in refuses(capsys, folder, "-o", results)
    assert "is a folder" in refuses(capsys, folder, "-o", tmp_path)
    assert "is not a folder" in refuses(capsys, folder, "-o", tmp_path / "x" / "r.html")
    assert "RESULTS" in refuses(capsys)
    assert results.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_pipe_and_a_links_target_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, target = write_run(tmp_path / "run", STEPS, GOLDS), tmp_path / "thesis.txt"
    target.write_text("precious")
    (tmp_path / "link.html").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.html")
    for name in ("link.html", "pipe.html"):
        assert "is left alone" in refuses(capsys, folder, "-o", tmp_path / name)
    (tmp_path / ".r.html.part").symlink_to(target)
    write_page(folder, at=tmp_path / "r.html")
    assert target.read_text() == "precious"


def test_an_older_report_is_replaced_and_a_failed_one_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, at = write_run(tmp_path / "run", STEPS, GOLDS), tmp_path / "r.html"
    write_page(folder, at=at)
    before = at.read_bytes()
    write_page(write_run(tmp_path / "b", STEPS, GOLDS), at=at)
    assert at.read_bytes() != before
    before = at.read_bytes()

    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kflow.analysis.command.write_whole", full)
    capsys.readouterr()
    assert "No space left" in refuses(capsys, folder, "-o", at)
    assert at.read_bytes() == before
    assert not list(tmp_path.glob(".*"))
