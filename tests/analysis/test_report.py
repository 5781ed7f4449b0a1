"""report.py without a browser: how large its page gets, what it leaves alone, and how it follows
a run."""

from __future__ import annotations

import io
import os
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.pages import ENCODABLE, Page, read_page
from helpers.programs import Program
from helpers.results_on_disk import ours, write_run, write_step
from kflow.analysis.page import page
from kflow.analysis.page import report as reporting
from kflow.analysis.page.page import Size
from kflow.results.runs import read
from kflow.results.status import EngineStatus, Status, StatusFile, to_json
from kflow.types import UserError

GOLDS = [25, 7]
STEPS = [[25, 1], [25, None], [3, 7]]


def noise(characters: int) -> str:
    return "".join(random.Random(characters).choices("0123456789abcdef", k=characters))


def big_run(folder: Path, steps: int, characters: int) -> Path:
    for step in range(steps):
        text = f"{noise(characters + step)}</think>{noise(300)}"
        write_step(folder, step, [ours(n, n, n, pred_solution=text) for n in range(4)])
    return folder


def written(*folders: Path) -> tuple[Size, Page]:
    """The page of runs, and what is said of its size."""
    file, path = io.BytesIO(), folders[0].parent / "r.html"
    size = page.write([read(folder, folder.name) for folder in folders], file)
    assert size.page == len(file.getvalue())
    path.write_bytes(file.getvalue())
    return size, read_page(path)


def test_texts_are_cut_to_what_each_rollout_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_TEXT", 60_000)
    size, report_page = written(big_run(tmp_path / "big", 3, 40_000))
    assert (size.allowance, size.seeds) == (60_000 // 12, None)
    assert "cut to 5,000 characters" in report_page.text
    for step, line in enumerate(report_page.chain(0, 0, 2)):
        head, left, tail = line["slots"][0]["texts"][2]
        whole = noise(40_000 + step) + "</think>"
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert len(head) + left + len(tail) == len(whole)
        lengths = [len(text) for text in line["slots"][0]["texts"] if isinstance(text, str)]
        assert 4000 < len(head) + len(tail) + sum(lengths) <= 5000


def test_many_seeds_have_the_texts_of_the_first_ones_rather_than_scraps_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(8):
        big_run(tmp_path / "run" / f"seed_{seed}", 3, 4000 + seed)
    big_run(tmp_path / "one", 3, 3000)
    monkeypatch.setattr(page, "LEAST", 2000)
    monkeypatch.setattr(page, "MOST_TEXT", 110_000)  # 12 rollouts a seed, and 12 of the other run
    size, report_page = written(tmp_path / "run", tmp_path / "one")
    assert (size.seeds, size.allowance) == (3, 110_000 // 48)
    names = {attributes.get("id") or "" for _, attributes in report_page.tags}
    expected = [f"t0-{seed}-{p}" for seed in range(3) for p in range(4)]
    expected += [f"t1-0-{p}" for p in range(4)]
    assert sorted(name for name in names if re.fullmatch(r"t\d+-\d+-\d+", name)) == expected
    assert len(report_page.data["runs"][0]["outcomes"]) == 8
    assert " only; for the other seeds" in report_page.text


def test_a_page_of_numbers_alone_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "LARGEST_NUMBERS", 100)
    with pytest.raises(UserError, match="name fewer runs"):
        page.write([read(big_run(tmp_path, 2, 1000), "big")], io.BytesIO())


def test_memory_does_not_grow_with_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_TEXT", 100_000)

    def peak(steps: int) -> int:
        run = read(big_run(tmp_path / str(steps), steps, 200_000), "big")
        file = open(tmp_path / "page", "w+b")  # noqa: SIM115
        page.template()
        tracemalloc.start()
        page.write([run], file)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        file.close()
        return most

    # A record takes 200 kB; its bytes and its texts are held at a time.
    assert peak(12) - peak(4) < 800_000


def test_mistakes_are_one_sentence(tmp_path: Path, report: Program) -> None:
    folder = write_run(tmp_path / "run", STEPS, GOLDS)
    results = folder / "predictions_0.json"
    before = results.read_bytes()
    for arguments, why in (
        ([tmp_path / "none"], "There is nothing at"),
        ([folder, "-o", results], "is left alone"),
        ([folder, "-o", tmp_path], "is a folder"),
        ([folder, "-o", tmp_path / "x" / "r.html"], "is not a folder"),
        ([], "RESULTS"),
        (["--watch", tmp_path / "none"], "does not exist"),
    ):
        assert why in report.refuse(*arguments)
    assert results.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_pipe_and_a_links_target_are_left_alone(tmp_path: Path, report: Program) -> None:
    folder, target = write_run(tmp_path / "run", STEPS, GOLDS), tmp_path / "thesis.txt"
    target.write_text("precious")
    (tmp_path / "link.html").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.html")
    for name in ("link.html", "pipe.html"):
        assert "is left alone" in report.refuse(folder, "-o", tmp_path / name)
    (tmp_path / ".r.html.part").symlink_to(target)
    report(folder, "-o", tmp_path / "r.html")
    assert target.read_text() == "precious"


def test_an_older_report_is_replaced_and_a_failed_one_leaves_it(
    tmp_path: Path, report: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, at = write_run(tmp_path / "run", STEPS, GOLDS, settings={}), tmp_path / "r.html"
    pages = []
    for run in (folder, write_run(tmp_path / "b", STEPS, GOLDS)):
        report(run, "-o", at)
        pages.append(at.read_bytes())
    assert pages[0] != pages[1]

    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kflow.analysis.command.write_whole", full)
    assert "No space left" in report.refuse(folder, "-o", at)
    assert at.read_bytes() == pages[1]
    assert not list(tmp_path.glob(".*"))


def watch(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *then: Callable[[], object]
) -> tuple[list[str], list[int], object]:
    """The pages that a reader sees at each look of a program that follows a run, how many of them
    there were whenever runs were built into one, and the exit code. then: what happens to the run
    after each look; Ctrl-C comes last."""
    at, waiting = folder.parent.parent / "w.html", list(then)
    seen, built, code = list[str](), list[int](), None
    write = page.write

    def look(seconds: float) -> None:
        seen.append(at.read_text("utf-8"))
        if not waiting:
            raise KeyboardInterrupt
        waiting.pop(0)()

    def count(runs: Any, *more: Any) -> Any:
        built.append(len(seen))
        return write(runs, *more)

    with monkeypatch.context() as patched:
        patched.setattr(reporting.time, "sleep", look)
        patched.setattr(page, "write", count)
        try:
            reporting.main("", ["--watch", str(folder), "-o", str(at)])
            seen.append(at.read_text("utf-8"))
        except SystemExit as ended:
            code = ended.code
    return seen, built, code


def test_a_run_is_followed_from_nothing_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "vllm_64_a" / "m"
    folder.mkdir(parents=True)
    StatusFile(folder).update(Status(6, 0))

    def state(done: int, state: str = "running") -> None:
        StatusFile(folder).update(Status(6, done, state, engine=EngineStatus(running=2)))

    pages, built, code = watch(
        monkeypatch,
        folder,
        lambda: (folder / "rollouts_0.jsonl").touch(),
        lambda: (write_run(folder, STEPS[:1], GOLDS), state(2)),
        lambda: state(3),
        lambda: (write_run(folder, STEPS[:2], GOLDS), state(4)),
        lambda: (
            write_run(folder, STEPS, GOLDS),
            (folder / "rollouts_0.jsonl").unlink(),
            state(6, "complete"),
        ),
    )
    assert code is None
    assert "contains no results" in pages[0]
    assert "still at its first step" in pages[1]
    states = [re.findall(r"<p>vllm_64_a/m: (.*)</p>", text) for text in pages]
    assert [each.partition(", ")[0] for (each,) in states] == ["running"] * 5 + ["complete"]
    assert ["3/6 steps" in text for text in pages] == [False, False, False, True, False, False]
    refreshed = ['http-equiv="refresh"' in text for text in pages]
    assert refreshed == [True] * 5 + [False]
    assert built == [2, 4, 5]  # not where only the status is new
    assert '"steps":[0,1,2]' in pages[5]


def test_a_watch_ends_on_ctrl_c_and_survives_a_damaged_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS, settings={"reflex_size": 9})
    damage = (folder / "predictions_1.json").write_text
    pages, _, code = watch(
        monkeypatch,
        folder,
        lambda: damage("["),
        lambda: write_step(folder, 1, [ours(0, 25, 25), ours(1, 7, 7)]),
    )
    assert code == 130
    assert "is left out" not in pages[0] + pages[2]
    assert "predictions_1.json is left out: it is not JSON" in pages[1]
    assert all("m: no status.json" in text for text in pages)


# What is in a status.json -> what is shown of it.
STATUSES: dict[str, tuple[bytes, str]] = {
    "one that was killed": (
        to_json(Status(9, 3, updated="2026-11-24T10:00:00+00:00")),
        "nothing written since 2026-11-24T10:00:00+00:00: it may have been killed",
    ),
    "markup": (
        to_json(Status(9, 3, "<script>alert(1)</script>", updated="2026-11-24T10:00:00+00:00")),
        "m: &lt;script&gt;alert(1)&lt;/script&gt;, 3/9 steps",
    ),
    "control characters": (
        to_json(Status(9, 3, ENCODABLE, updated="2026-11-24T10:00:00+00:00")), "⟨U+001B⟩[31m",
    ),
    "no time": (to_json(Status(9, 3)), "status.json cannot be read"),
    "a time without a zone": (to_json(Status(9, 3, updated="2026-11-24")), "cannot be read"),
    "not JSON": (b"{", "status.json cannot be read"),
    "deep": (b"[" * 100_000, "status.json cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", STATUSES)
def test_a_status_is_shown_as_text_whatever_it_holds(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, expected = STATUSES[case]
    folder = write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS, settings={"reflex_size": 9})
    (folder / "status.json").write_bytes(content)
    (text,), _, _ = watch(monkeypatch, folder)
    (line,) = re.findall(r"<body>\n<p>(.*)</p>\n", text)
    assert expected in line
    assert line.isprintable()
    assert len(line) < 2000
