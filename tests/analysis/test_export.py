"""export_results.py: every format read back, no text lost or executed, no file replaced."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from helpers.pages import ENCODABLE, HOSTILE, write_hostile
from helpers.programs import Program
from helpers.results_on_disk import ours, published, wide, write_manifest, write_run, write_step
from helpers.scripted import ROOT
from kflow.analysis.export import tabular, traces
from kflow.method import StepNote
from kflow.results.rollout import Rollout
from kflow.results.rows import COLUMNS, TEXTS
from kflow.types import Entry

GOLDS = [25, 7]
STEPS = [[25, 1], [25, None], [3, 7]]
FORMS = ("parquet", "traces")  # inspect_ai has an environment of its own


Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def exported(export: Program, tmp_path: Path) -> Callable[..., Path]:
    """Writes a new folder from runs, named by the first argument."""

    def write(form: str, *arguments: object) -> Path:
        output = tmp_path / f"out_{form}"
        export(*arguments, "--to", form, "--output", output)
        return output

    return write


@pytest.fixture
def loaded(exported: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rows:
    """The rows of runs as a data set, as its readers load it."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def load(*arguments: object) -> list[dict[str, Any]]:
        folder = exported("parquet", *arguments)
        return list(datasets.load_dataset(str(folder), split="train"))

    return load


def sessions(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of each session by its file, `folder/name`."""
    paths = sorted(folder.glob("*/*.jsonl"))
    return {
        f"{path.parent.name}/{path.name}": [json.loads(line) for line in path.open("rb")]
        for path in paths
    }


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A run of two seeds; in the second one a wide step, an early-stopped chain and a rollout that
    came too late."""
    folder = tmp_path / "vllm_1000_x" / "model"
    write_run(folder / "seed_0", STEPS[:2], GOLDS)
    added = StepNote(added=(Entry("Not 3.", 3),), dropped=(Entry("Not 4.", "4"),))
    first = ours(0, 25, 3, note=added, knowledge=(Entry("Not 4.", 4),), reply_start=2)
    slots = [ours(1, 7, 7), ours(1, 7, None, failure="the prompt does not fit")]
    write_step(folder / "seed_1", 0, [first, wide(slots, 7)])
    late = ours(1, 7, 9, counted=False)
    write_step(folder / "seed_1", 1, [replace(first, repeats_step=0), late])
    write_manifest(
        folder,
        {"max_new_tokens": 1000, "num_seeds": 2},
        experiment={"prefix": "vllm", "method": "m"},
        model={"name": "org/model"},
    )
    return folder


def test_a_data_set_has_a_row_per_rollout(several: Path, tmp_path: Path, loaded: Rows) -> None:
    rows = loaded(several)
    assert [(r["seed"], r["step"], r["slot"], r["id"]) for r in rows] == [
        *((0, step, 0, f"aime-{n}") for step in range(2) for n in range(2)),
        (1, 0, 0, "aime-0"), (1, 0, 0, "aime-1"), (1, 0, 1, "aime-1"), (1, 1, 0, "aime-1"),
    ]  # fmt: skip
    assert [r["predicted"] for r in rows] == ["25", "1", "25", None, "3", "7", None, "9"]
    assert [r["correct"] for r in rows] == [True, False, True, False, False, True, False, False]
    first = rows[4]
    assert first["pred_solution"] == r"Thinking.</think>[Answer]: \boxed{3}"
    assert first["pred_solution"][first["answer_start"] :] == r"[Answer]: \boxed{3}"
    assert first["knowledge"] == [{"text": "Not 4.", "answer": "4"}]
    assert first["added"] == [{"text": "Not 3.", "answer": "3"}]
    assert (first["run"], first["gold"], first["prompt_tokens"]) == ("vllm_1000_x", "25", 100)
    assert rows[6]["failure"] == "the prompt does not fit"
    assert [r["verdict"] for r in rows[5:7]] == ["7", "7"]
    assert (rows[-1]["counted"], rows[-2]["counted"]) == (False, True)
    card = (tmp_path / "out_parquet" / "README.md").read_text()
    assert "`vllm_1000_x`: model `org/model`, method `m`, window `1000`" in card
    assert "8 in all" in card


def test_a_session_per_chain(several: Path, exported: Any) -> None:
    by_file = sessions(exported("traces", several))
    assert sorted(by_file) == [
        f"vllm_1000_x/aime-{n}_seed_{k}.jsonl" for n in (0, 1) for k in (0, 1)
    ]
    head, *lines = by_file["vllm_1000_x/aime-1_seed_1.jsonl"]
    assert (head["type"], head["harness"]) == ("session", "knowledge-flow")
    assert (head["problem"], head["seed"], head["gold"]) == ("aime-1", 1, "7")
    assert len({lines[0]["id"] for lines in by_file.values()}) == 4
    assert [(line["message"]["role"], line["step"], line["slot"]) for line in lines] == [
        (role, *place) for place in ((0, 0), (0, 1), (1, 0)) for role in ("user", "assistant")
    ]
    reply = lines[1]
    assert reply["message"] == {
        "role": "assistant",
        "content": r"[Answer]: \boxed{7}",
        "reasoningContent": "Thinking.</think>",
        "model": "org/model",
    }
    assert (reply["predicted"], reply["correct"]) == ("7", True)
    assert lines[3]["failure"] == "the prompt does not fit"


def test_no_text_is_lost(tmp_path: Path, exported: Any, loaded: Rows) -> None:
    huge = f"{'x' * 3_000_000}{ENCODABLE}"
    folder, old = tmp_path / "a" / "m", tmp_path / "b" / "m"
    write_step(folder, 0, [ours(0, 1, 1, question=huge, pred_solution=huge)])
    write_step(old, 0, [published(0, 1, 1, question=HOSTILE, pred_solution=HOSTILE)])
    # A lone surrogate is spelt out where UTF-8 has to be written.
    spelt = HOSTILE.replace("\ud83d", "\\ud83d")
    rows = loaded(folder, old)
    for name in ("question", "pred_solution"):
        assert [row[name] for row in rows] == [huge, spelt]
    assert [row["escaped"] for row in rows] == [False, True]
    chains = list(sessions(exported("traces", folder, old)).values())
    for turn in (1, 2):
        assert [lines[turn]["message"]["content"] for lines in chains] == [huge, HOSTILE]


@pytest.mark.parametrize("form", FORMS)
def test_hostile_names_and_texts_leave_the_folder_in_peace(
    tmp_path: Path, exported: Any, form: str
) -> None:
    runs = write_hostile(tmp_path / "runs")
    bad = ["../../out", "/etc/passwd", "a\0b", ".", "~0", "x" * 300, "a/b", "a\nb"]
    records = [ours(n, 1, 1, id=name) for n, name in enumerate(bad)]
    runs.append(write_step(tmp_path / "runs" / "vllm_64_ids" / "m", 0, records).parent)
    before = sorted(tmp_path.rglob("*"))
    folder = exported(form, *runs)
    others = [path for path in tmp_path.rglob("*") if folder not in path.parents]
    assert sorted(others) == sorted([*before, folder])
    if form == "traces":
        problems = {lines[0]["problem"] for lines in sessions(folder).values()}
        assert problems >= set(bad)


def test_the_published_codes_folders_are_exported(
    tmp_path: Path, exported: Any, loaded: Rows
) -> None:
    rows = [published(0, "025", 25), published(1, 7, None)]
    write_step(tmp_path / "r" / "vllm_64_" / "m", 0, rows)
    first, second = loaded(tmp_path / "r")
    assert (first["gold"], first["predicted"], first["correct"]) == ("025", "25", True)
    assert (second["id"], second["predicted"], second["prompt_tokens"]) == ("1", None, None)
    assert len(sessions(exported("traces", tmp_path / "r"))) == 2


def test_the_columns_are_described() -> None:
    page = (ROOT / "docs" / "results_and_comparing.md").read_text()
    rows = page.partition("**Rows**")[2].partition("**Logs.**")[0]
    lacking, *table = re.findall(r"^(?:The columns are |\| (?=`))(.*?)(?: \||$)", rows, re.M)
    named = [set(re.findall(r"`(\w+)`", each)) for each in (lacking, " ".join(table))]
    record = {each.name for each in fields(Rollout)}
    assert named[0] < record
    assert (record - named[0]) | named[1] == {*COLUMNS, "escaped"}


def test_without_texts(several: Path, loaded: Rows) -> None:
    (row, *_) = loaded(several, "--without_texts")
    assert not row.keys() & set(TEXTS)
    assert row["completion_tokens"] == 1000


@pytest.mark.parametrize(
    "flags",
    [
        ["--to", "traces", "--without_texts"],
        ["--to", "parquet", "--follow"],
        ["--to", "wandb", "--output", "o"],
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    several: Path, export: Program, flags: list[str]
) -> None:
    assert "cannot be combined with --to" in export.refuse(several, *flags)


def test_a_large_data_set_has_several_files(
    several: Path, tmp_path: Path, loaded: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "BATCH", 200)
    monkeypatch.setattr(tabular, "LARGEST_PART", 400)
    assert len(loaded(several)) == 8
    assert len(list((tmp_path / "out_parquet" / "data").iterdir())) > 1


def test_what_is_there_is_left_alone(several: Path, tmp_path: Path, export: Program) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    for name, why in (
        ("file", "already exists"),
        ("folder", "already exists"),
        ("link", "already exists"),
        ("x/y", "is not a folder"),
    ):
        arguments = (several, "--to", "traces", "--output", tmp_path / name)
        assert why in export.refuse(*arguments)
    assert "--to" in export.refuse(several)
    assert "contains no results" in export.refuse(tmp_path / "folder", "--to", "traces")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_appears_meanwhile_is_left_alone(
    several: Path, tmp_path: Path, export: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any) -> int:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("x")
        return 0

    monkeypatch.setattr(traces, "write_traces", slow)
    sentence = export.refuse(several, "--to", "traces", "--output", tmp_path / "out")
    assert "is left alone" in sentence
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["precious"]
    assert not list(tmp_path.glob(".out*"))


def test_a_damaged_file_is_named_and_nothing_is_written(
    several: Path, tmp_path: Path, export: Program
) -> None:
    path = several / "seed_1" / "predictions_1.json"
    path.write_bytes(path.read_bytes()[:-10])
    before = sorted(tmp_path.rglob("*"))
    for form in FORMS:
        sentence = export.refuse(several, "--to", form, "--output", tmp_path / "out")
        assert f"{path} is left out" in sentence
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_in_progress_is_exported_as_far_as_it_is(
    several: Path, export: Program, exported: Any
) -> None:
    (several / "seed_0" / "rollouts_2.jsonl").write_text("")
    (several / "seed_1" / "predictions_1.json").unlink()  # a step of one seed alone is whole too
    folder = exported("traces", several)
    assert "is in progress" in export.notes
    assert [len(lines) for lines in sessions(folder).values()] == [5, 3, 5, 5]


@pytest.mark.parametrize("form", FORMS)
def test_memory_does_not_grow_with_the_run(
    tmp_path: Path, export: Program, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(tabular, "BATCH", 400_000)

    def peak(steps: int) -> int:
        folder = tmp_path / f"vllm_64_{steps}" / "m"
        for step in range(steps):
            text = f"{os.urandom(100_000).hex()}</think>x"
            write_step(folder, step, [ours(n, n, n, pred_solution=text) for n in range(2)])
        tracemalloc.start()
        export(folder, "--to", form, "--output", tmp_path / f"out_{steps}")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(24) - peak(4) < 500_000  # the run grows by 8 MB
