"""export_results.py: every format read back, no text lost or executed, no file replaced."""

from __future__ import annotations

import csv
import json
import os
import re
import tracemalloc
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from kflow.analysis.export import export as program
from kflow.analysis.export import tabular
from kflow.method import Note
from kflow.results.rollout import Rollout
from kflow.types import Entry
from pages import ENCODABLE, HOSTILE, write_hostile
from results_on_disk import earlier, ours, published, wide, write_run, write_step
from scripted import ROOT

GOLDS = [25, 7]
STEPS = [[25, 1], [25, None], [3, 7]]
FORMS = tuple(program.FORMS)


def exported(form: str, output: Path, *arguments: object) -> Path:
    program.main("", [*map(str, arguments), "--to", form, "--output", str(output)])
    return output


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence of a refusal."""
    with pytest.raises(SystemExit) as ended:
        program.main("", list(map(str, arguments)))
    out, complaint = capsys.readouterr()
    assert ended.value.code == 2
    assert (out, complaint.count("\n")) == ("", 1)
    return complaint


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The rows of a data set, as its readers load it from the folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder.parent / "cache")
    return list(datasets.load_dataset(str(folder), split="train"))


def in_csv(folder: Path) -> list[dict[str, str]]:
    """The rows of a table, the apostrophe before what looks like a formula removed."""
    before = csv.field_size_limit(1 << 30)
    try:
        with open(folder / "rollouts.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    finally:
        csv.field_size_limit(before)
    return [{name: cell.removeprefix("'") for name, cell in row.items()} for row in rows]


def sessions(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of each session by its file, `folder/name`."""
    paths = sorted(folder.glob("*/*.jsonl"))
    return {
        f"{path.parent.name}/{path.name}": [json.loads(line) for line in path.open("rb")]
        for path in paths
    }


def samples(path: Path) -> dict[str, dict[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {
            name.removeprefix("samples/"): json.loads(archive.read(name))
            for name in archive.namelist()
            if name.startswith("samples/")
        }


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A run of two seeds; in the second one a wide step, an early-stopped chain and a rollout that
    came too late."""
    folder = tmp_path / "vllm_1000_x" / "model"
    write_run(folder / "seed_0", STEPS[:2], GOLDS)
    added = Note(added=(Entry("Not 3.", 3),), dropped=(Entry("Not 4.", "4"),))
    first = ours(0, 25, 3, note=added, knowledge=(Entry("Not 4.", 4),), reply_start=2)
    slots = [ours(1, 7, 7), ours(1, 7, None, failure="the prompt does not fit")]
    write_step(folder / "seed_1", 0, [first, wide(slots, 7)])
    late = ours(1, 7, 9, counted=False)
    write_step(folder / "seed_1", 1, [replace(first, repeats_step=0), late])
    manifest = {
        "experiment": {"prefix": "vllm", "method": "m"},
        "model": {"name": "org/model"},
        "answers": "integer",
        "sampling": {"temperature": 0.6},
        "settings": {"max_new_tokens": 1000, "reflex_size": 2, "num_seeds": 2},
        "sessions": [{"started": "2026-02-03T04:05:06+00:00"}],
    }
    (folder / "run.json").write_text(json.dumps(manifest))
    return folder


def test_a_data_set_has_a_row_per_rollout(
    several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = loaded(exported("parquet", tmp_path / "out", several), monkeypatch)
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
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`vllm_1000_x`: model `org/model`, method `m`, window `1000`" in card
    assert "8 in all" in card


def test_a_table_has_the_same_rows(
    several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = loaded(exported("parquet", tmp_path / "out", several), monkeypatch)
    table = in_csv(exported("csv", tmp_path / "table", several))
    assert len(table) == len(rows)
    for cells, row in zip(table, rows, strict=True):
        for name, value in row.items():
            text = json.dumps(value) if not isinstance(value, (str, type(None))) else value or ""
            assert cells[name] == text


def test_a_session_per_chain(several: Path, tmp_path: Path) -> None:
    by_file = sessions(exported("traces", tmp_path / "out", several))
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


def test_a_log_has_a_sample_per_problem_and_an_epoch_per_seed(
    several: Path, tmp_path: Path
) -> None:
    (path,) = exported("inspect", tmp_path / "out", several).iterdir()
    assert path.name == "vllm_1000_x.eval"
    by_key = samples(path)
    assert sorted(by_key) == [f"aime-{n}_epoch_{k}.json" for n in (0, 1) for k in (1, 2)]
    chain = by_key["aime-1_epoch_2.json"]
    assert (chain["id"], chain["epoch"], chain["target"]) == ("aime-1", 2, "7")
    assert [message["role"] for message in chain["messages"]] == ["user", "assistant"] * 3
    assert [m["metadata"]["slot"] for m in chain["messages"]] == [0, 0, 1, 1, 0, 0]
    assert chain["messages"][1]["content"] == [
        {"type": "reasoning", "reasoning": "Thinking.</think>"},
        {"type": "text", "text": r"[Answer]: \boxed{7}"},
    ]
    # The late rollout is among the messages and is no answer of the chain.
    assert chain["scores"] == {"answer": {"value": "C", "answer": "7"}}
    assert by_key["aime-0_epoch_2.json"]["scores"]["answer"] == {"value": "I", "answer": "3"}
    assert chain["model_usage"]["org/model"]["output_tokens"] == 3000
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("header.json"))
        listed = json.loads(archive.read("summaries.json"))
    assert header["status"] == "success"
    assert header["eval"]["created"] == "2026-02-03T04:05:06+00:00"
    assert header["eval"]["config"] == {"epochs": 2}
    assert header["eval"]["model_generate_config"] == {"temperature": 0.6}
    # 25 is right in the first seed; the other problem in the second.
    assert header["results"]["scores"][0]["metrics"]["accuracy"]["value"] == 0.5
    assert [(each["id"], each["epoch"]) for each in listed] == [
        (f"aime-{n}", k) for k in (1, 2) for n in (0, 1)
    ]


def test_no_text_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = f"{'x' * 3_000_000}{ENCODABLE}"
    folder, old = tmp_path / "a" / "m", tmp_path / "b" / "m"
    write_step(folder, 0, [ours(0, 1, 1, question=huge, pred_solution=huge)])
    write_step(old, 0, [earlier(0, 1, 1, question=HOSTILE, pred_solution=HOSTILE)])
    # A lone surrogate is spelt out where UTF-8 has to be written.
    spelt = HOSTILE.replace("\ud83d", "\\ud83d")
    rows = loaded(exported("parquet", tmp_path / "out", folder, old), monkeypatch)
    for name in ("question", "pred_solution"):
        assert [row[name] for row in rows] == [huge, spelt]
    assert [row["escaped"] for row in rows] == [False, True]
    table = in_csv(exported("csv", tmp_path / "table", folder, old))
    for name in ("question", "pred_solution"):
        assert [row[name] for row in table] == [
            text.replace("\x00\x07\x1b", r"\x00\x07\x1b") for text in (huge, spelt)
        ]
    assert [row["escaped"] for row in table] == ["true", "true"]
    chains = list(sessions(exported("traces", tmp_path / "traces", folder, old)).values())
    assert [lines[1]["message"]["content"] for lines in chains] == [huge, HOSTILE]
    assert [lines[2]["message"]["content"] for lines in chains] == [huge, HOSTILE]
    logs = sorted(exported("inspect", tmp_path / "logs", folder, old).iterdir())
    messages = [sample["messages"] for path in logs for sample in samples(path).values()]
    assert [turns[0]["content"] for turns in messages] == [huge, spelt]
    assert [turns[1]["content"][0]["text"] for turns in messages] == [huge, spelt]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+1", "@x", "\t=1", "\r=1", "＝1", "'=1", "'"])
def test_no_cell_is_a_formula(tmp_path: Path, text: str) -> None:
    record = ours(0, -7, -7, id=text, question=text, pred_solution=text, failure=text)
    write_step(tmp_path / "a" / "m", 0, [record])
    folder = exported("csv", tmp_path / "table", tmp_path / "a")
    with open(folder / "rollouts.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    for name in ("id", "question", "pred_solution", "failure"):
        assert row[name] == f"'{text}"
    assert row["predicted"] == "-7"


@pytest.mark.parametrize("form", FORMS)
def test_hostile_names_and_texts_leave_the_folder_in_peace(tmp_path: Path, form: str) -> None:
    runs = write_hostile(tmp_path / "runs")
    bad = ["../../out", "/etc/passwd", "a\0b", ".", "~0", "x" * 300, "a/b", "a\nb"]
    records = [ours(n, 1, 1, id=name) for n, name in enumerate(bad)]
    runs.append(write_step(tmp_path / "runs" / "vllm_64_ids" / "m", 0, records).parent)
    before = sorted(tmp_path.rglob("*"))
    exported(form, tmp_path / "out", *runs)
    others = [path for path in tmp_path.rglob("*") if tmp_path / "out" not in path.parents]
    assert sorted(others) == sorted([*before, tmp_path / "out"])
    if form == "inspect":
        names = {name for p in (tmp_path / "out").iterdir() for name in samples(p)}
        assert names >= {f"~{n}_epoch_1.json" for n in range(len(bad))}
        assert all(name.isprintable() and "/" not in name for name in names)
    if form == "traces":
        chains = sessions(tmp_path / "out").values()
        assert {lines[0]["problem"] for lines in chains} >= set(bad)


@pytest.mark.parametrize("form", FORMS)
def test_the_published_codes_folders_are_exported(tmp_path: Path, form: str) -> None:
    rows = [published(0, "025", 25), published(1, 7, None)]
    write_step(tmp_path / "r" / "vllm_64_" / "m", 0, rows)
    exported(form, tmp_path / "out", tmp_path / "r")
    if form == "csv":
        first, second = in_csv(tmp_path / "out")
        assert (first["gold"], first["predicted"], first["correct"]) == ("025", "25", "true")
        assert (second["id"], second["predicted"], second["prompt_tokens"]) == ("1", "", "")
    if form == "inspect":
        first, second = samples(next((tmp_path / "out").iterdir())).values()
        assert (first["target"], first["scores"]["answer"]["value"]) == ("025", "C")
        assert (second["model_usage"], second["output"]["usage"]) == ({}, None)
        assert second["messages"][1]["metadata"]["completion_tokens"] is None


def test_the_columns_are_described() -> None:
    page = (ROOT / "docs" / "results_and_comparing.md").read_text()
    rows = page.partition("**Rows**")[2].partition("**Logs.**")[0]
    lacking, *table = re.findall(r"^(?:The columns are |\| (?=`))(.*?)(?: \||$)", rows, re.M)
    named = [set(re.findall(r"`(\w+)`", each)) for each in (lacking, " ".join(table))]
    record = {each.name for each in fields(Rollout)}
    assert named[0] < record
    assert (record - named[0]) | named[1] == set(tabular.columns(texts=True))


def test_without_texts(tmp_path: Path, several: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("parquet", "csv"):
        program.main("", [str(several), "--to", form, "--without_texts", "--output",
                          str(tmp_path / form)])  # fmt: skip
    (row, *_) = in_csv(tmp_path / "csv")
    assert not row.keys() & set(tabular.TEXTS)
    assert row["completion_tokens"] == "1000"
    capsys.readouterr()
    assert "belongs to --to parquet or csv" in refused(
        capsys, several, "--to", "traces", "--without_texts"
    )


def test_a_large_data_set_has_several_files(
    several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "BATCH", 200)
    monkeypatch.setattr(tabular, "LARGEST_PART", 400)
    folder = exported("parquet", tmp_path / "out", several)
    assert len(list((folder / "data").iterdir())) > 1
    assert len(loaded(folder, monkeypatch)) == 8


def test_what_is_there_is_left_alone(
    several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    for name in ("file", "folder", "link"):
        sentence = refused(capsys, several, "--to", "csv", "--output", tmp_path / name)
        assert "already exists and is left alone" in sentence
    assert "is not a folder" in refused(
        capsys, several, "--to", "csv", "--output", tmp_path / "x" / "y"
    )
    assert "--to" in refused(capsys, several)
    assert "contains no results" in refused(capsys, tmp_path / "folder", "--to", "csv")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_appears_meanwhile_is_left_alone(
    several: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def slow(*arguments: Any) -> int:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("x")
        return 0

    monkeypatch.setitem(program.FORMS, "csv", slow)
    sentence = refused(capsys, several, "--to", "csv", "--output", tmp_path / "out")
    assert "is left alone" in sentence
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["precious"]
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_named_and_nothing_is_written(
    several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    path = several / "seed_1" / "predictions_1.json"
    path.write_bytes(path.read_bytes()[:-10])
    before = sorted(tmp_path.rglob("*"))
    sentence = refused(capsys, several, "--to", form, "--output", tmp_path / "out")
    assert f"{path} cannot be read" in sentence
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_in_progress_is_exported_as_far_as_it_is(
    several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (several / "seed_0" / "rollouts_2.jsonl").write_text("")
    folder = exported("inspect", tmp_path / "out", several)
    assert "is in progress: 1 incomplete step left out" in capsys.readouterr().err
    with zipfile.ZipFile(folder / "vllm_1000_x.eval") as archive:
        assert json.loads(archive.read("header.json"))["status"] == "started"


@pytest.mark.parametrize("form", FORMS)
def test_memory_does_not_grow_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(tabular, "BATCH", 400_000)

    def peak(steps: int) -> int:
        folder = tmp_path / f"vllm_64_{steps}" / "m"
        for step in range(steps):
            text = f"{os.urandom(100_000).hex()}</think>x"
            write_step(folder, step, [ours(n, n, n, pred_solution=text) for n in range(2)])
        tracemalloc.start()
        exported(form, tmp_path / f"out_{steps}", folder)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(24) - peak(4) < 500_000  # the run grows by 8 MB
