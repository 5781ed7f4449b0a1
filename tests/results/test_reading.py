"""Results folders with something wrong in them: it is named, and the rest is read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from helpers.results_on_disk import ours, published, write_manifest, write_run, write_step
from kflow.results import reading
from kflow.results.rollout import to_json
from kflow.results.runs import read, read_all
from kflow.types import UserError

GOLDS = [25, "025", 7]
STEPS = [[25, 1, None], [25, 25, 7]]

ROW = to_json(ours(0, 25, 25)).decode()
SUMMARY = '{"accuracy": 1}'


def as_list(*rows: str) -> str:
    return "[\n" + ",\n".join((SUMMARY, *rows)) + "\n]\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "it is not JSON"),
        ("[{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("{}", "it is not a list of a summary and records"),
        ("[]", "it is not a list of a summary and records"),
        (as_list(), "it is not a list of a summary and records"),
        ("[1, 2]", "its first element is not a summary"),
        (f"[\n{ROW},\n{ROW}\n]\n", "its first element is not a summary"),
        ('[{"accuracy": 1}, 2]', "record 0: it is not an object"),
        (as_list(ROW)[:-2], "its list is incomplete, or a line is not a record"),
        (as_list(ROW)[:-40], "its list is incomplete, or a line is not a record"),
        (as_list(ROW) + "x", "its list is incomplete, or a line is not a record"),
        (as_list(ROW + ROW), "record 0: "),
        (as_list(ROW.replace('"slot":0', '"slot":-1')), "record 0: slot is out of range"),
        (as_list(ROW.replace('"slot":0', '"slot":true')), "record 0: Expected `int`, got `bool`"),
        (as_list(ROW.replace('"gold":25', '"gold":' + "[" * 900 + "]" * 900)), "the gold"),
        (as_list(ROW.replace('"gold":25', '"gold":[[1]]')), "the gold answer of aime-0 is"),
        (as_list(ROW.replace('"gold":25', '"gold":"x"')), "the gold answer of aime-0 is"),
        (as_list(ROW), "it differs from the files before it: 3 problems against 1"),
        (
            as_list(*(to_json(ours(n, 25, 25)).decode() for n in range(3))),
            "it differs from the files before it: the gold answer of aime-2 is 7 against 25",
        ),
        (as_list(ROW, ROW, ROW), "two records have the same id"),
        (
            json.dumps([{"accuracy": 1}, *(published(n, g, 1, id=f"aime-{n}")
                                           for n, g in enumerate(GOLDS))]),
            "it differs from the files before it: another program wrote it",
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_the_rest_read(
    tmp_path: Path, content: str, complaint: str
) -> None:
    write_run(tmp_path, [*STEPS, STEPS[0]], GOLDS)
    (tmp_path / "predictions_1.json").write_text(content)
    run = read(tmp_path, "x")
    assert run.steps == (0, 2)
    assert run.notes[0].startswith(f"{tmp_path / 'predictions_1.json'} is left out: {complaint}")
    assert run.notes[1] == f"{tmp_path} lacks step 1"


@pytest.mark.parametrize(
    ("limit", "complaint"),
    [
        ("LARGEST_FILE", "it is larger than"),
        ("LARGEST_LINE", "its list is incomplete, or a line is not a record"),
        ("MOST_RECORDS", "it holds more than 2 records"),
    ],
)
def test_sizes_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, complaint: str
) -> None:
    write_run(tmp_path / "a", STEPS[:1], GOLDS)
    monkeypatch.setattr(reading, limit, 2 if limit == "MOST_RECORDS" else 500)
    with pytest.raises(UserError, match=complaint):
        read_all([str(tmp_path / "a")])


def test_a_steps_file_that_is_a_link_is_named_as_one(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", [STEPS[0]], GOLDS) / "predictions_1.json"
    path.symlink_to(write_step(tmp_path / "outside", 0, []))
    assert read(path.parent, "x").notes == (f"{path} is left out: it is a link",)


def test_a_manifest_outside_is_not_the_runs(tmp_path: Path) -> None:
    write_manifest(tmp_path / "outside", {"max_new_tokens": 64})
    write_run(tmp_path / "run", STEPS, GOLDS)
    os.symlink("../outside/run.json", tmp_path / "run" / "run.json")
    run = read(tmp_path / "run", "x")
    assert run.manifest is None
    assert "run.json is left out: " in run.notes[0]


@pytest.mark.parametrize("stated", ["poem", 5, ["integer"], {}])
def test_answers_of_an_unknown_type_are_not_guessed_at(tmp_path: Path, stated: object) -> None:
    write_run(tmp_path, STEPS, GOLDS, answers=stated)
    with pytest.raises(UserError, match="is not an answer type, which its run"):
        read(tmp_path, "x")


def test_a_run_without_a_readable_step_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "predictions_0.json").write_text("[")
    with pytest.raises(UserError, match=r"no step that can be read.*is not JSON"):
        read_all([str(tmp_path)])
