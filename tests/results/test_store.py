"""A results folder: resuming, refusing, and what a crash or a full disk may leave (DESIGN.md)."""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import K, ScriptedEngine, brief, contents
from helpers.results_on_disk import compress, ours, wide
from helpers.scripted import QUESTIONS, HalfWritten, Ran, refused, run_script, write_problems
from kflow.ground import files
from kflow.results import journal, store
from kflow.results.rollout import summary, summary_to_json, to_json
from kflow.running import provenance
from kflow.types import Key, UserError

QWEN = "vllm_kflow_qwen"
STEPS = ["--reflex_size", "3"]
ALL = {K(name, 0, step) for name, _, _ in QUESTIONS for step in range(3)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The predictions of a run of three steps that nothing happened to."""
    ran = run_script(QWEN, STEPS, tmp_path_factory.mktemp("run"), ScriptedEngine())
    assert ran.code == 0
    return ran.predictions()


def stopped(tmp_path: Path, after: int = 4) -> Ran:
    ran = run_script(QWEN, STEPS, tmp_path, ScriptedEngine(order=3, stop_after=after))
    assert ran.code == 1
    return ran


def finished(tmp_path: Path) -> Ran:
    ran = run_script(QWEN, STEPS, tmp_path, ScriptedEngine())
    assert ran.code == 0
    return ran


def short_prompts(folder: Path) -> list[str]:
    """Prompts of little more than the question, and the flags for them."""
    first = "[[QUESTION]] [[ANSWER]] [[BOX]]"
    (folder / "qwen_mistakes_first.txt").write_text(first)
    (folder / "qwen_mistakes_later.txt").write_text(f"{first} [[KNOWLEDGE]] [[REFERENCE]]")
    (folder / "qwen_opening.txt").write_text("So")
    return ["--prompt_dir", str(folder)]


@pytest.mark.parametrize("done", range(len(ALL) + 1))
def test_a_killed_run_continues_where_it_was(
    done: int, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    on_disk: set[Key] = set()
    for start in range(len(ALL) + 1):
        engine = ScriptedEngine(order=start, stop_after=done + start)
        ran = run_script(QWEN, STEPS, tmp_path, engine)
        assert not on_disk & set(engine.prompts), "a rollout on disk is asked again"
        on_disk |= set(engine.delivered)
        if ran.code == 0:
            break
        assert (ran.code, len(engine.delivered)) == (1, done + start)
        assert ran.complaints == ["It is gone. Run the same command again to resume."]
        assert engine.closed == 1
    assert on_disk == ALL
    assert ran.predictions() == undisturbed
    assert list(contents(ran.folder)) == [*undisturbed, "run.json"]
    assert len(ran.run()["sessions"]) == start + 1


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.campaign)])
def test_a_torn_last_line_is_worked_again_wherever_it_is_cut(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "gpus", list)
    flags = ["--reflex_size", "1", *short_prompts(tmp_path)]
    write_problems(tmp_path / "problems.jsonl", [(i, "é", gold) for i, _, gold in QUESTIONS])
    folder = run_script(QWEN, flags, tmp_path, ScriptedEngine(brief, stop_after=2)).folder
    path, run = folder / "rollouts_0.jsonl", (folder / "run.json").read_bytes()
    lines = path.read_bytes().splitlines(keepends=True)
    whole, last = b"".join(lines[:2]), b"".join(lines[2:])
    of_line = json.loads(lines[0])["rollout"]["id"], json.loads(lines[2])["rollout"]["id"]
    waiting = {name for name, _, _ in QUESTIONS} - {of_line[0]}
    results = set()
    ends = {end - short for end in (len(lines[2]), len(last)) for short in (0, 1)}
    for cut in sorted(ends.union(range(0, len(last) + 1, every))):
        path.write_bytes(whole + last[:cut])
        (folder / "run.json").write_bytes(run)
        engine = ScriptedEngine(brief)
        ran = run_script(QWEN, flags, tmp_path, engine)
        survivors = {of_line[1]} if cut >= len(lines[2]) else set()
        assert {key.problem for key in engine.prompts} == waiting - survivors
        assert list(contents(folder)) == ["predictions_0.json", "run.json"]
        results |= set(ran.predictions().values())
        (folder / "predictions_0.json").unlink()
    assert len(results) == 1


def test_a_journal_beside_its_predictions_file_is_superseded(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    ran = finished(tmp_path)
    for step in range(2):
        lines = "".join(json.dumps(record) + "\n" for record in ran.step(step)[1:])
        (ran.folder / f"rollouts_{step}.jsonl").write_text(lines[: -1 - step * 20])
    (ran.folder / "predictions_2.json").unlink()
    engine = ScriptedEngine()
    ran = run_script(QWEN, STEPS, tmp_path, engine)
    assert {key.step for key in engine.prompts} == {2}
    assert ran.predictions() == undisturbed
    assert not list(ran.folder.glob("rollouts_*"))


def test_a_finished_run_says_so_and_needs_no_engine_nor_a_mount_to_write_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(path: Path, missing_ok: bool = False) -> None:  # whether the file is there or not
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    before = contents(finished(tmp_path).results)
    monkeypatch.setattr(Path, "unlink", unlink)
    ran = run_script(QWEN, STEPS, tmp_path)
    assert (ran.code, ran.err, "is complete: 3 steps of 3 chains." in ran.out) == (0, "", True)
    assert contents(ran.results) == before


def test_a_larger_reflex_size_extends_a_run(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    finished(tmp_path)
    engine = ScriptedEngine(order=5)
    ran = run_script(QWEN, ["--reflex_size", "5"], tmp_path, engine)
    assert {key.step for key in engine.prompts} == {3, 4}
    straight = run_script(QWEN, ["--reflex_size", "5"], tmp_path / "new", ScriptedEngine())
    assert ran.predictions() == straight.predictions()
    assert ran.predictions().items() >= undisturbed.items()


@pytest.mark.parametrize("more", [["--reflex_size", "5"], [*STEPS, "--num_seeds", "2"]])
def test_a_run_whose_steps_were_compressed_goes_on(tmp_path: Path, more: list[str]) -> None:
    compress(finished(tmp_path).folder)
    before = contents(tmp_path / "results", "**/predictions_*")
    again = run_script(QWEN, STEPS, tmp_path)  # needs no engine
    assert (again.code, "is complete" in again.out) == (0, True)
    assert contents(tmp_path / "results", "**/predictions_*") == before
    engine = ScriptedEngine(order=5)
    ran = run_script(QWEN, more, tmp_path, engine)
    assert (ran.code, set(engine.prompts) & ALL) == (0, set())
    straight = run_script(QWEN, more, tmp_path / "new", ScriptedEngine())
    files = contents(ran.folder, "**/predictions_*")
    read = {
        name.removesuffix(".gz"): gzip.decompress(content) if name.endswith(".gz") else content
        for name, content in files.items()
    }
    assert read == contents(straight.folder, "**/predictions_*")
    assert sum(name.endswith(".gz") for name in files) == len(before)


def test_a_compressed_step_without_a_run_file_is_not_taken_for_a_new_run(tmp_path: Path) -> None:
    ran = finished(tmp_path)
    compress(ran.folder)
    (ran.folder / "run.json").unlink()
    refused(run_script(QWEN, STEPS, tmp_path), "predictions_", "has no run.json beside it")


def test_the_same_data_elsewhere_and_another_batch_size_continue(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    stopped(tmp_path)
    moved = tmp_path / "other.jsonl"
    moved.write_bytes((tmp_path / "problems.jsonl").read_bytes())
    engine = ScriptedEngine()
    flags = ["--dataset", str(moved), "--max_num_seqs", "7", "--enforce_eager"]
    ran = run_script(QWEN, [*STEPS, *flags], tmp_path, engine)
    assert (ran.code, engine.arguments["max_num_seqs"]) == (0, 7)
    assert ran.predictions() == undisturbed
    first, second = ran.run()["sessions"]
    assert ("max_num_seqs" in first["arguments"], second["arguments"]["max_num_seqs"]) == (False, 7)
    assert ran.run()["problems"]["source"]["dataset"] == str(moved)


def test_overwrite_moves_the_old_run_aside(tmp_path: Path) -> None:
    folder = stopped(tmp_path).folder
    for number in (1, 2):
        before = contents(folder)
        flags = [*STEPS, "--overwrite", "--temperature", f"0.{number}"]
        engine = ScriptedEngine()
        ran = run_script(QWEN, flags, tmp_path, engine)
        assert (ran.code, set(engine.prompts)) == (0, ALL)
        assert contents(folder.with_name(f"model.old-{number}")) == before
        assert ran.run()["sampling"] == {"temperature": number / 10}
        assert len(ran.run()["sessions"]) == 1


def test_a_folder_that_another_run_holds_is_refused(tmp_path: Path) -> None:
    folder = stopped(tmp_path).folder
    before = contents(tmp_path)
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # another open file, as another process would have
    for more in ([], ["--overwrite"]):
        ran = run_script(QWEN, [*STEPS, *more], tmp_path, ScriptedEngine())
        refused(ran, "Another process is working on")
    assert contents(tmp_path) == before
    os.close(held)
    assert run_script(QWEN, STEPS, tmp_path, ScriptedEngine()).code == 0


def test_a_file_system_without_locks_is_used_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lustre without its mount option, and many network file systems."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("kflow.results.store.flock", flock)
    ran = run_script(QWEN, STEPS, tmp_path, ScriptedEngine())
    assert ran.code == 0
    (line,) = ran.complaints
    assert f"cannot be locked against a second run ({os.strerror(errno.ENOSYS)})" in line


def test_what_another_process_wrote_meanwhile_is_not_ignored(tmp_path: Path) -> None:
    class SlowToStart(ScriptedEngine):
        def start(self, *arguments: Any) -> ScriptedEngine:
            run_script(QWEN, STEPS, tmp_path, ScriptedEngine(stop_after=2))
            return super().start(*arguments)

    refused(run_script(QWEN, STEPS, tmp_path, SlowToStart()), "Another run began in")


WIDE = wide([ours(0, 7, 7), ours(0, 7, 3)], 7)
CONTRADICTIONS = {
    "a verdict that is not the step's": replace(WIDE, predicted=3),
    "a text of another slot": replace(WIDE, pred_solution=WIDE.slots[1].pred_solution),
    "a step that is not folded": replace(WIDE, note=None),
    "slots out of order": replace(WIDE, rollouts=WIDE.rollouts[::-1]),
}


@pytest.mark.parametrize("case", ["sound", *CONTRADICTIONS])
def test_a_record_that_does_not_follow_from_its_slots_is_refused(case: str, tmp_path: Path) -> None:
    record = CONTRADICTIONS.get(case, WIDE)
    parts = b",\n".join([summary_to_json(summary([record])), to_json(record)])
    (tmp_path / "predictions_0.json").write_bytes(b"[\n" + parts + b"\n]\n")
    read = store.Store(tmp_path, ["aime-0"]).read
    if case == "sound":
        (stored,) = read(0, 0)
        assert (dict(stored.rollouts), stored.repeated) == (dict(enumerate(WIDE.slots)), None)
    else:
        with pytest.raises(UserError, match=r"predictions_0\.json is damaged"):
            read(0, 0)


@pytest.mark.parametrize("unreadable", [True, False])
def test_an_unreadable_run_json_is_not_called_damaged(unreadable: bool, tmp_path: Path) -> None:
    run_file = tmp_path / "run.json"
    run_file.mkdir() if unreadable else run_file.write_text("{")
    with pytest.raises(UserError, match="Cannot read" if unreadable else "is damaged"):
        store.Store(tmp_path, ["aime-0"]).run()


def test_records_that_cannot_be_read_are_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "predictions_0.json").mkdir()
    with pytest.raises(UserError, match=r"Cannot read .*predictions_0\.json"):
        store.Store(tmp_path, ["aime-0"]).read(0, 0)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_steps_moved_away_as_the_sentence_says_are_worked_again(
    step: int, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    folder = finished(tmp_path).folder
    (folder / f"predictions_{step}.json").unlink()
    if step < 2:
        sentence = f"step {step} is missing or incomplete"
        refused(run_script(QWEN, STEPS, tmp_path), sentence, "files of all later steps")
    for later in range(step + 1, 3):
        (folder / f"predictions_{later}.json").unlink()
    ran = run_script(QWEN, STEPS, tmp_path, ScriptedEngine())
    assert (ran.code, ran.predictions()) == (0, undisturbed)


@pytest.mark.parametrize("failing", ["fsync", "open", "write"])
def test_a_full_disk_ends_the_run_and_the_next_one_completes_it(
    failing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: dict[str, bytes],
) -> None:
    calls, fails_at = 0, 0

    def full(what: str) -> bool:
        nonlocal calls
        calls += what == failing
        return what == failing and calls == fails_at

    def fsync(descriptor: int) -> None:
        if full("fsync"):
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_(file: int, mode: str, buffering: int = -1) -> Any:
        if mode != "rb" and full("open"):
            os.close(file)
            raise OSError(errno.ENOSPC, "No space left on device")
        half = mode != "rb" and full("write")
        return HalfWritten(file, mode) if half else open(file, mode, buffering)

    for module in (files, journal):
        monkeypatch.setattr(module, "open", open_, raising=False)
    for fails_at in range(1, 100):
        calls, home = 0, tmp_path / str(fails_at)
        ran = run_script(QWEN, STEPS, home, ScriptedEngine(), fsync)
        if ran.code == 0:
            break
        (sentence,) = ran.complaints
        assert (ran.code, "No space left on device" in sentence) == (1, True)
        journals = contents(ran.folder, "rollouts_*").values()
        assert all(journal[-1:] in (b"", b"\n") for journal in journals)
        ran = run_script(QWEN, STEPS, home, ScriptedEngine(order=fails_at))
        assert (ran.code, ran.predictions()) == (0, undisturbed)
    assert fails_at > len(ALL)


def test_a_run_whose_last_step_was_not_published_may_grow_to_several_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    def full(path: Path, parts: Any, *mode: int) -> None:
        if path.name == "predictions_2.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        files.write_whole(path, parts, *mode)

    monkeypatch.setattr(store, "write_whole", full)
    assert run_script(QWEN, STEPS, tmp_path, ScriptedEngine()).code == 1
    monkeypatch.undo()
    engine = ScriptedEngine()
    ran = run_script(QWEN, [*STEPS, "--num_seeds", "2"], tmp_path, engine)
    assert (ran.code, {key.seed for key in engine.prompts}) == (0, {1})
    assert contents(ran.folder / "seed_0") == undisturbed
    assert not list(ran.folder.glob("predictions_*"))


def test_an_overwriting_run_that_no_question_fits_leaves_the_old_one_alone(tmp_path: Path) -> None:
    flags = [*STEPS, *short_prompts(tmp_path)]
    assert run_script(QWEN, flags, tmp_path, ScriptedEngine(brief)).code == 0
    before = contents(tmp_path / "results")
    first = tmp_path / "qwen_mistakes_first.txt"
    first.write_text(first.read_text() + 140_000 * " too")
    refused(run_script(QWEN, [*flags, "--overwrite"], tmp_path), "No question fits")
    assert contents(tmp_path / "results") == before
