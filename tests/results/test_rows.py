"""Runs from Python: kflow.read, the data frame, and the package as it is installed."""

from __future__ import annotations

import builtins
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas
import pytest

import kflow
from helpers.results_on_disk import ours, published, wide, write_manifest, write_run, write_step
from helpers.scripted import ROOT
from kflow.analysis.carried import measure_carried
from kflow.analysis.export.folder import list_facts
from kflow.analysis.run_statistics import build_timeline
from kflow.method import LeftOut, StepNote
from kflow.results.rollout import Rollout
from kflow.results.rows import COLUMNS, FRAME, FRAME_TEXTS, WITHOUT, make_row
from kflow.types import Entry

BIG = 2**70


def test_a_row_per_rollout_of_every_seed_step_and_slot(tmp_path: Path) -> None:
    entry = Entry("A lesson.", 1)
    for seed in (0, 1):
        folder = tmp_path / f"seed_{seed}"
        first = ours(0, BIG, BIG, knowledge=(entry,))
        slots = [first, ours(0, BIG, 7), ours(0, BIG, None, failure="refused")]
        write_step(folder, 0, [wide(slots, BIG), ours(1, 5, 5)])
        stopped = ours(1, 5, 5, repeats_step=0)
        write_step(folder, 1, [ours(0, BIG, 7, counted=False, carried_tokens=12), stopped])
    write_manifest(tmp_path, {"max_new_tokens": 64})
    run = kflow.read(tmp_path)
    frame = run.to_frame()
    assert list(frame.columns) == list(FRAME)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == FRAME
    assert list(frame.groupby("seed").size()) == [5, 5]
    one = frame[frame.seed == 1].set_index(["id", "step", "slot"])
    assert list(one.index) == [
        ("aime-0", 0, 0), ("aime-0", 0, 1), ("aime-0", 0, 2), ("aime-1", 0, 0), ("aime-0", 1, 0),
    ]  # fmt: skip
    assert list(one.predicted) == [BIG, 7, None, 5, 7]
    assert list(one.gold) == [BIG, BIG, BIG, 5, BIG]
    assert list(one.verdict) == [BIG, BIG, BIG, 5, 7]
    assert list(one.failure) == [None, None, "refused", None, None]
    assert list(one.counted) == [True, True, True, True, False]
    assert list(one.list_entries) == [1, 1, 1, 0, 0]
    assert one.carried_tokens.isna().tolist() == [True] * 4 + [False]


def test_a_row_has_every_field_of_a_rollout_and_what_its_step_did() -> None:
    entry = Entry("a", 2)
    slots = [ours(0, 7, 7), ours(0, 7, None, left_out=LeftOut(1, 20), reply_start=1)]
    note = StepNote(added=(entry,), truncated=("Summary",), selected=2)
    record = wide(slots, 7, note=note, over_budget=True)
    row = make_row("r", 1, 2, record, record.slots[1])
    assert list(row) == list(COLUMNS)
    expanded = {"left_out", "note", *WITHOUT}
    assert {each.name for each in fields(Rollout)} - expanded <= row.keys()
    stated = {
        **{"run": "r", "seed": 1, "step": 2, "slot": 1, "id": "aime-0", "gold": "7"},
        **{"predicted": None, "correct": False, "verdict": "7", "verdict_correct": True},
        **{"left_out_entries": 1, "left_out_tokens": 20, "added": (entry,), "dropped": ()},
        **{"truncated_sections": ("Summary",), "selected": 2, "over_budget": True},
        **{"reply_start": 1, "answer_start": 1, "completion_tokens": 1000, "skipped": ""},
    }
    assert {name: row[name] for name in stated} == stated
    facts = list_facts(row)
    assert facts.items() <= row.items()
    assert not facts.keys() & {"question", "pred_solution", "added", "predicted", "failure"}
    assert {"selected", "correct", "max_tokens", "truncated_sections"} <= facts.keys()


def test_texts_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    text = "before. Hm.</think>So."
    write_step(tmp_path, 0, [ours(0, 1, 1, pred_solution=text, reply_start=8)])
    run = kflow.read(tmp_path)
    frame = run.to_frame(texts=True)
    assert list(frame.columns) == [*FRAME, *FRAME_TEXTS]
    assert frame.question[0].startswith("Question 0")
    assert (frame.pred_solution[0], frame.reply[0]) == (text, "Hm.</think>So.")
    assert frame.visible[0] == "So."
    pandas.testing.assert_frame_equal(frame[list(FRAME)], run.to_frame())
    (tmp_path / "predictions_0.json").unlink()
    assert len(run.to_frame()) == 1
    with pytest.raises(kflow.UserError, match="changed while it was read"):
        run.to_frame(texts=True)


def test_what_the_published_code_does_not_record_is_missing(tmp_path: Path) -> None:
    write_run(tmp_path, [[1, None]], [1, 2], published)
    frame = kflow.read(tmp_path).to_frame()
    assert list(frame.id) == ["0", "1"]
    assert frame.completion_tokens.isna().all()
    assert list(frame.predicted) == [1, None]


def test_one_run_is_read_at_a_time(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "m", [[1]], [1])
    assert kflow.read(str(tmp_path)).folder == tmp_path / "a" / "m"
    write_run(tmp_path / "b" / "m", [[1]], [1])
    with pytest.raises(kflow.UserError, match=r"holds 2 runs: name one, such as .*a/m\."):
        kflow.read(tmp_path)
    with pytest.raises(kflow.UserError, match="There is nothing at"):
        kflow.read(tmp_path / "c")


def test_without_pandas_a_frame_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kflow.read(write_run(tmp_path, [[1]], [1]))
    imported = builtins.__import__

    def closed(name: str, *how: Any) -> object:
        if name == "pandas":
            raise ImportError(name)
        return imported(name, *how)

    monkeypatch.setattr(builtins, "__import__", closed)
    with pytest.raises(kflow.UserError, match=r"^A data frame needs pandas: pip install pandas\.$"):
        run.to_frame()


def child(code: str, *path: Path) -> str:
    environment = {"PYTHONPATH": ":".join(map(str, path)), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


LOADED = """
import sys, kflow
print([name for name in sys.modules if name.startswith("kflow.")])
kflow.read
heavy = ("vllm", "torch", "transformers", "pandas", "datasets", "aiohttp", "nltk")
print([name for name in heavy if name in sys.modules], "kflow.experiment" in sys.modules)
assert sorted(kflow.__all__) == kflow.__all__ and dir(kflow) == kflow.__all__
assert all(getattr(kflow, name).__name__ for name in kflow.__all__)
print([name for name in heavy if name in sys.modules], hasattr(kflow, "gone"))
"""


def test_importing_the_package_loads_next_to_nothing() -> None:
    assert child(LOADED, ROOT / "scripts").splitlines() == ["[]", "[] False", "[] False"]


INSTALLED = """
from pathlib import Path
import kflow
home = Path(kflow.__file__).parent
files = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
print(sorted(name for name in files if "__pycache__" not in name))
"""


def test_what_is_installed_is_the_whole_package(tmp_path: Path) -> None:
    """Prompts, the page's parts, the bundled problems and the mark of a typed package."""
    subprocess.run(["cp", "-r", "pyproject.toml", "scripts", tmp_path], cwd=ROOT, check=True)
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    subprocess.run(
        [sys.executable, "-m", "pip", *install, str(tmp_path / "site"), str(tmp_path)], check=True
    )
    here = ROOT / "scripts" / "kflow"
    expected = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    assert "py.typed" in expected
    assert child(INSTALLED, tmp_path / "site").strip() == str(sorted(expected))


def test_what_a_chain_was_asked_after(tmp_path: Path) -> None:
    """Wrong, a reflection, right, no answer, a missing step, wrong; and after two at once."""
    asked_nothing = ours(0, 1, None, asks_answer=False)
    for step, record in {
        0: ours(0, 1, 9),
        1: asked_nothing,
        2: ours(0, 1, 1),
        3: ours(0, 1, None),
        5: ours(0, 1, 9),
    }.items():
        write_step(tmp_path / "m", step, [record])
    frame = kflow.read(tmp_path / "m").to_frame()
    assert frame.previous_correct.tolist() == [pandas.NA, pandas.NA, False, True, pandas.NA]
    assert frame.different_answers.tolist() == [1, 1, 2, 2, 2]
    write_step(tmp_path / "w", 0, [wide([ours(0, 1, 1), ours(0, 1, 9)], 1)])
    write_step(tmp_path / "w", 1, [ours(0, 1, 1)])
    write_step(tmp_path / "w", 2, [ours(0, 1, 5)])
    frame = kflow.read(tmp_path / "w").to_frame()
    assert frame.previous_correct.tolist() == [pandas.NA, pandas.NA, pandas.NA, True]
    assert frame.different_answers.tolist() == [2, 2, 2, 3]


def test_the_frame_and_the_comparison_say_the_same_of_what_is_carried() -> None:
    runs = [ROOT / "results" / f"vllm{arm}_2048_study" for arm in ("_parallel", "", "_refine")]
    base, *arms = [kflow.read(run) for run in runs]
    assert base.to_frame().previous_correct.isna().all()
    carried = measure_carried([build_timeline(run) for run in (base, *arms)])
    for arm, of in zip(arms, carried, strict=True):
        after = arm.to_frame().dropna(subset="previous_correct")
        right = after.groupby("previous_correct").correct.mean()
        assert of.repaired is not None
        assert of.kept is not None
        assert (right[False], right[True]) == pytest.approx((of.repaired.share, of.kept.share))
        assert len(after) == of.repaired.answers + of.kept.answers
