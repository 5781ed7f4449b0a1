"""A results folder in other hands while a run works, and a run that gets more seeds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.fakes import ScriptedEngine, contents, obliging
from helpers.results_on_disk import ours
from helpers.scripted import QUESTIONS, run_script
from kflow.results.journal import Journal
from kflow.types import Request, RunEnded

QWEN = "vllm_kflow_qwen"
STEPS = ["--reflex_size", "3"]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"The", b"the", 1))


def swap(path: Path) -> None:
    """The same length, the same fields, but each record in place of another."""
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([second, first, *rest]))


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\n")


def touching(home: Path, touch: Callable[[Path], object]) -> ScriptedEngine:
    """An engine that changes the journal of step 1 before it answers the last rollout there."""
    touched = False

    def script(request: Request, prompt: str) -> str:
        nonlocal touched
        if request.key.step == 1 and not touched:
            for path in home.rglob("rollouts_1.jsonl"):
                if path.read_bytes().count(b'{"outcome"') == 2:
                    touch(path)
                    touched = True
        return obliging(request, prompt)

    return ScriptedEngine(script, pick=lambda waiting: [min(waiting, key=lambda key: key.step)])


@pytest.mark.parametrize("touch", [Path.unlink, cut, grow, swap])
def test_a_journal_changed_by_another_program_ends_the_run_and_nothing_broken_is_published(
    touch: Callable[[Path], object], tmp_path: Path
) -> None:
    whole = run_script(QWEN, STEPS, tmp_path / "whole", ScriptedEngine()).predictions()
    ran = run_script(QWEN, STEPS, tmp_path / "run", touching(tmp_path / "run", touch))
    (sentence,) = ran.complaints
    assert ran.code == 1
    assert "Another program changed" in sentence
    assert ran.predictions() == {"predictions_0.json": whole["predictions_0.json"]}
    for path in ran.folder.glob("rollouts_*"):
        path.unlink()
    again = run_script(QWEN, STEPS, tmp_path / "run", ScriptedEngine())
    assert (again.code, again.predictions()) == (0, whole)


@pytest.mark.parametrize("touch", [cut, grow])
def test_a_journal_that_is_not_as_long_as_what_was_written_takes_no_more(
    touch: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "rollouts_0.jsonl"
    journal = Journal(path)
    journal.append([ours(0, 1, 1)])
    touch(path)
    before = path.read_bytes()
    with pytest.raises(RunEnded, match="Another program changed"):
        journal.append([ours(1, 1, 1)])
    assert path.read_bytes() == before


def test_an_edit_that_keeps_the_length_is_noticed_at_the_latest_when_the_run_is_resumed(
    tmp_path: Path,
) -> None:
    ran = run_script(QWEN, STEPS, tmp_path, touching(tmp_path, edit))
    assert ran.code == 0
    (ran.folder / "predictions_2.json").unlink()
    again = run_script(QWEN, STEPS, tmp_path)
    assert again.code == 2
    assert "predictions_1.json" in again.err
    assert "was changed after it was written" in again.err


def test_a_run_of_one_seed_becomes_the_first_of_several(tmp_path: Path) -> None:
    alone, grown, straight = (tmp_path / name for name in ("alone", "grown", "straight"))
    one = run_script(QWEN, STEPS, alone, ScriptedEngine())
    run_script(QWEN, STEPS, grown, ScriptedEngine(stop_after=5))
    engine = ScriptedEngine(order=2)
    ran = run_script(QWEN, [*STEPS, "--num_seeds", "3"], grown, engine)
    assert ran.code == 0
    assert len(engine.delivered) == 3 * 3 * len(QUESTIONS) - 5
    run_script(QWEN, [*STEPS, "--num_seeds", "3"], straight, ScriptedEngine())
    files = contents(ran.folder, "**/predictions_*")
    assert files == contents(next(straight.glob("results/*/model")), "**/predictions_*")
    first = {f"seed_0/{name}": content for name, content in one.predictions().items()}
    assert files.items() >= first.items()
    assert not ran.predictions()
    back = run_script(QWEN, STEPS, grown)
    assert (back.code, "is complete" in back.out) == (0, True)


def test_a_move_into_seed_0_that_was_interrupted_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*STEPS, "--num_seeds", "2"]
    whole = run_script(QWEN, flags, tmp_path / "whole", ScriptedEngine())
    run_script(QWEN, STEPS, tmp_path / "run", ScriptedEngine(stop_after=7))
    rename, renamed = Path.rename, []

    def once(path: Path, target: Path) -> Path:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(path)
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", once)
        assert run_script(QWEN, flags, tmp_path / "run", ScriptedEngine()).code == 130
    ran = run_script(QWEN, flags, tmp_path / "run", ScriptedEngine(order=1))
    assert ran.code == 0
    files = contents(ran.folder, "**/predictions_*")
    assert files == contents(whole.folder, "**/predictions_*")
    assert json.loads((ran.folder / "status.json").read_bytes())["state"] == "complete"
