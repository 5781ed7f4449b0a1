"""Results folders with something wrong in them: it is named, and the rest is read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.results_on_disk import (
    GOLDS,
    STEPS,
    compress,
    ours,
    published,
    write_manifest,
    write_run,
    write_step,
)
from kflow.results import reading, records
from kflow.results.rollout import to_json
from kflow.results.runs import read, read_all
from kflow.types import UserError

ROW = to_json(ours(0, 25, 25)).decode()
OTHER_GOLDS = [to_json(ours(n, 25, 25)).decode() for n in range(3)]
FOREIGN = [published(n, gold, 1, id=f"aime-{n}") for n, gold in enumerate(GOLDS)]
NO_LIST = "it is not a list of a summary and records"
TORN = "its list is incomplete, or a line is not a record"
OTHERS = "it belongs to a different run than the files before it"


def as_list(*rows: str) -> str:
    return "[\n" + ",\n".join(('{"accuracy": 1}', *rows)) + "\n]\n"


def with_gold(gold: str) -> str:
    return as_list(ROW.replace('"gold":25', f'"gold":{gold}'))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("{}", NO_LIST),
        (as_list(), NO_LIST),
        ("[1, 2]", "its first element is not a summary"),
        ('[{"accuracy": 1}, 2]', "record 0: it is not an object"),
        (as_list(ROW)[:-2], TORN),
        (as_list(ROW)[:-40], TORN),
        (as_list(ROW) + "x", TORN),
        (as_list(ROW + ROW), "record 0: "),
        (as_list(ROW.replace('"slot":0', '"slot":-1')), "record 0: slot is out of range"),
        (as_list(ROW.replace('"slot":0', '"slot":true')), "record 0: Expected `int`, got `bool`"),
        (with_gold("[" * 900 + "]" * 900), "the gold"),
        (with_gold('"x"'), "the gold answer of aime-0 is"),
        (as_list(ROW), OTHERS),
        (as_list(*OTHER_GOLDS), OTHERS),
        (as_list(ROW, ROW, ROW), "two records have the same id"),
        (json.dumps([{"accuracy": 1}, *FOREIGN]), OTHERS),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_read(
    tmp_path: Path, content: str, complaint: str
) -> None:
    write_run(tmp_path, [*STEPS, STEPS[0]], settings={})
    (tmp_path / "predictions_1.json").write_text(content)
    run = read(tmp_path, "x")
    assert run.steps == (0, 2)
    assert run.notes[0].startswith(f"{tmp_path / 'predictions_1.json'} is left out: {complaint}")
    assert run.notes[1] == f"{tmp_path} lacks step 1"
    assert run.damaged == run.notes[:1]


@pytest.mark.parametrize(
    ("module", "limit", "most", "complaint"),
    [
        (reading, "LARGEST_FILE", 500, "it holds more than"),
        (reading, "LARGEST_LINE", 500, TORN),
        (records, "MOST_RECORDS", 2, "it holds more than 2 records"),
    ],
)
def test_sizes_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, limit: str, most: int,
    complaint: str,
) -> None:  # fmt: skip
    write_run(tmp_path / "a", STEPS[:1])
    compress(write_run(tmp_path / "b", STEPS[:1]))
    monkeypatch.setattr(module, limit, most)
    for name in ("a", "b"):
        with pytest.raises(UserError, match=complaint):
            read_all([str(tmp_path / name)])


@pytest.mark.parametrize("record", [ours, published])
def test_compressed_steps_are_read_as_they_were(tmp_path: Path, record: Any) -> None:
    plain = write_run(tmp_path / "plain", record=record, settings={})
    compress(write_run(tmp_path / "small", record=record, settings={}))
    one, two = (read(folder, "x") for folder in (plain, tmp_path / "small"))
    assert (one.steps, one.rollouts, one.notes) == (two.steps, two.rollouts, two.notes)
    assert list(one.records()) == list(two.records())
    (named,) = read_all([str(tmp_path / "small" / "predictions_0.json.gz")])
    assert named.steps == two.steps


COMPRESSED = gzip.compress(as_list(ROW).encode())
DAMAGED = {
    "plain": (as_list(ROW).encode(), "its compressed data is damaged: Not a gzipped file"),
    "cut": (COMPRESSED[:-9], "its compressed data is damaged: Compressed file ended before"),
    "sum": (COMPRESSED[:-8] + bytes(8), "its compressed data is damaged: CRC check failed"),
    "bits": (COMPRESSED[:20] + b"\xff" * 9 + COMPRESSED[29:], "its compressed data is damaged: E"),
    "other": (gzip.compress(b"[1, 2]"), "its first element is not a summary"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_compressed_step_is_named(tmp_path: Path, name: str) -> None:
    content, complaint = DAMAGED[name]
    (write_run(tmp_path, STEPS[:1]) / "predictions_1.json.gz").write_bytes(content)
    (note,) = read(tmp_path, "x").damaged
    assert note.startswith(f"{tmp_path / 'predictions_1.json.gz'} is left out: {complaint}")


def test_a_compressed_step_beside_the_same_step_is_left_out(tmp_path: Path) -> None:
    """Where gzip was stopped it may be torn."""
    write_run(tmp_path)
    torn = tmp_path / "predictions_1.json.gz"
    torn.write_bytes(COMPRESSED[:9])
    run = read(tmp_path, "x")
    assert (len(run.steps), run.damaged) == (len(STEPS), ())
    assert run.notes[0].startswith(f"{torn} is left out: the same step is beside it")


def test_links_in_a_run_are_named_and_not_followed(tmp_path: Path) -> None:
    write_manifest(tmp_path / "outside", {"max_new_tokens": 64})
    path = write_run(tmp_path / "run", STEPS[:1]) / "predictions_1.json"
    path.symlink_to(write_step(tmp_path / "outside", 0, []))
    os.symlink("../outside/run.json", tmp_path / "run" / "run.json")
    run = read(path.parent, "x")
    assert run.manifest is None
    assert "run.json is left out: " in run.notes[0]
    assert run.notes[1:] == (f"{path} is left out: it is a link",)


@pytest.mark.parametrize("stated", ["poem", 5, ["integer"], {}])
def test_answers_of_an_unknown_type_are_not_guessed_at(tmp_path: Path, stated: object) -> None:
    write_run(tmp_path, answers=stated)
    with pytest.raises(UserError, match=r"in its run\.json, .* is not an answer type"):
        read(tmp_path, "x")


def test_a_run_without_a_readable_step_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "predictions_0.json").write_text("[")
    with pytest.raises(UserError, match=r"no step that can be read.*is not JSON"):
        read_all([str(tmp_path)])
