"""--canary: sums that show a broken engine or template before the run, not after it."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.fakes import Script, ScriptedChat, ScriptedEngine, obliging
from helpers.scripted import Ran, ended, write_problems
from kflow import experiment as experiments
from kflow.ground import hub
from kflow.running.work import SUMS
from kflow.types import Completion, Request
from vllm_kflow_oss import EXPERIMENT

SUM = re.compile(r"What is (\d+) \+ (\d+)\?")
PUBLISHED = ("--model_name", "openai/gpt-oss-120b")
STEPS = ("--reflex_size", "2")


@pytest.fixture(autouse=True)
def a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On which every model is."""

    def download(name: str, file: str, revision: str | None = None) -> str:
        return str(tmp_path / "snapshots" / "commit" / file)

    fake = SimpleNamespace(hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setattr(hub, "prepare", lambda: None)


def adding(right: int, form: str = r"\boxed{%d}") -> Script:
    """Answers the first `right` sums that a prompt really holds, and everything else as ever."""

    def script(request: Request, prompt: str) -> Completion | str:
        if request.key.problem.startswith("sum "):
            match = SUM.search(prompt)
            if match is None or int(request.key.problem.split()[1]) >= right:
                return "I \x1b[31m see no sum, so 7."
            return "It is " + form % (int(match[1]) + int(match[2]))
        return obliging(request, prompt)

    return script


def run(home: Path, *flags: str, script: Script = obliging) -> tuple[Ran, ScriptedEngine]:
    chosen = ScriptedChat()
    family = replace(EXPERIMENT.family, chat=lambda *_, **__: chosen)
    experiment, engine = replace(EXPERIMENT, family=family), ScriptedEngine(script)

    def main(argv: list[str], make_engine: experiments.MakeEngine) -> None:
        experiments.main(experiment, argv, make_engine)

    return ended(home, [*STEPS, *flags], engine, main, "vllm_kflow_oss"), engine


@pytest.mark.parametrize(("right", "code"), [(7, 2), (8, 0)])
def test_a_published_model_must_get_eight_of_ten(right: int, code: int, tmp_path: Path) -> None:
    ran, engine = run(tmp_path, *PUBLISHED, "--canary", script=adding(right))
    assert (ran.code, engine.closed) == (code, 1)
    assert f"Canary: {right} of 10 sums are right." in ran.out
    if code:
        (sentence,) = ran.complaints
        assert f"Only {right} of 10 sums are right (--canary)" in sentence
        assert r"I \x1b[31m see no sum" in sentence
        assert not ran.results.exists()
        assert len(engine.requests) == len(SUMS)
    else:
        recorded = ran.run()["sessions"][0]["engine"]["canary"]
        assert (recorded["right"], recorded["asked"], len(recorded["wrong"])) == (
            right, 10, 10 - right
        )  # fmt: skip


def test_of_another_model_the_count_is_recorded_and_ends_nothing(tmp_path: Path) -> None:
    ran, _ = run(tmp_path, "--canary", script=adding(3))
    assert ran.code == 0
    recorded = ran.run()["sessions"][0]["engine"]["canary"]
    assert recorded["right"] == 3
    assert recorded["wrong"][0].startswith("123 + 456: I ")


def test_an_answer_that_the_rule_does_not_extract_is_not_right(tmp_path: Path) -> None:
    """gpt-oss's mistakes list takes nothing but a box."""
    ran, _ = run(tmp_path, "--canary", script=adding(10, form="%d"))
    assert ran.run()["sessions"][0]["engine"]["canary"]["right"] == 0


def test_the_run_itself_is_as_without_it(tmp_path: Path) -> None:
    sung, engine = run(tmp_path / "sung", "--canary", script=adding(10))
    silent, other = run(tmp_path / "silent")
    assert sung.predictions() == silent.predictions()
    assert "canary" not in silent.run()["settings"]
    assert len(engine.requests) == len(other.requests) + len(SUMS)
    again, idle = run(tmp_path / "sung", "--canary", script=adding(0))
    assert (again.code, idle.started) == (0, 0)


def test_sums_are_asked_in_the_data_sets_form(tmp_path: Path) -> None:
    write_problems(tmp_path / "letters.jsonl", [("a", "Which?\n(A) one\n(B) two", "B")])
    flags = ["--dataset", str(tmp_path / "letters.jsonl"), "--answer_type", "choice"]
    ran, engine = run(tmp_path, *PUBLISHED, "--canary", *flags, script=adding(10))
    assert "Canary: 10 of 10 sums are right." in ran.out
    assert ran.code == 0
    assert "Put the answer, a single integer, into" in next(iter(engine.prompts.values()))


@pytest.mark.parametrize(("given_up", "wrong", "code"), [(3, 2, 1), (5, 5, 2)])
def test_an_engine_that_gives_up_decides_nothing(
    given_up: int, wrong: int, code: int, tmp_path: Path
) -> None:
    """A server that is away can be asked again; a template that is broken stays so."""

    def away(request: Request, prompt: str) -> Completion | str:
        name = request.key.problem
        number = int(name.split()[1]) if name.startswith("sum ") else len(SUMS)
        if number < given_up:
            return Completion(request.key, unanswered="the server is away")
        return "7" if number < given_up + wrong else adding(10)(request, prompt)

    ran, _ = run(tmp_path, *PUBLISHED, "--canary", script=away)
    assert (ran.code, "(--canary) got no reply" in ran.err) == (code, code == 1)
