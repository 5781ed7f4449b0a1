"""Methods and families from outside the package: what is on record of them, and who reads it."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kflow
import thinking
from helpers.fakes import ScriptedEngine
from helpers.results_on_disk import ours
from helpers.tokenizer import CHATML, save_tokenizer, user
from kflow.analysis import compare
from kflow.families import gpt_oss, qwen, unusual_end
from kflow.families.chat import TemplateChat
from kflow.families.family import Family
from kflow.families.messages import in_messages
from kflow.results.rollout import digest_of, from_json, split, to_json
from kflow.running import provenance
from kflow.testing import run
from kflow.types import Request, UserError
from vllm_kflow_qwen import EXPERIMENT

END = "<answer>"


def two_answers(request: Request, prompt: str) -> str:
    return rf"It may be \boxed{{1}}.{END}[Summary]: It is. [Answer]: \boxed{{2}}"


def work(home: Path, experiment: kflow.Experiment, engine: ScriptedEngine) -> Path:
    return run(experiment, [("How many?", 2)], home, engine, reflex_size=2)


def test_a_familys_own_mark_is_on_record_and_read_back(tmp_path: Path, capsys: Any) -> None:
    family = replace(thinking.FAMILY, name="odd", end_of_thinking=END)
    folder = work(tmp_path, replace(EXPERIMENT, family=family), ScriptedEngine(two_answers))
    record = json.loads((folder / "predictions_1.json").read_bytes())[1]
    assert (record["end_of_thinking"], record["family"]) == (END, "odd")
    parts = (rf"It may be \boxed{{1}}.{END}", r"[Summary]: It is. [Answer]: \boxed{2}")
    assert split(from_json(json.dumps(record).encode())) == parts
    capsys.readouterr()
    compare.main(None, [str(folder), "--regrade", "--json"])
    (graded,) = json.loads(capsys.readouterr().out)["regraded"]
    assert (graded["checked"], graded["disagreements"]) == (2, [])
    assert work(tmp_path, replace(EXPERIMENT, family=family), ScriptedEngine()) == folder


def test_a_known_mark_is_not_repeated_in_every_record() -> None:
    for family in (gpt_oss.FAMILY, qwen.FAMILY, thinking.FAMILY):
        assert unusual_end(family) is None
    assert b"end_of_thinking" not in to_json(ours(0, 1, 1))
    odd = ours(0, 1, 1, end_of_thinking=END)
    assert ours(0, 1, 1).digest == digest_of(ours(0, 1, 1)) != odd.digest
    assert from_json(to_json(odd)) == odd
    assert split(replace(odd, end_of_thinking=""))[1] == r"[Answer]: \boxed{1}"


SCRIPT = """
from dataclasses import dataclass
from kflow.methods.refine import Refine

@dataclass(frozen=True)
class Mine(Refine):
    pass
"""


def test_a_method_has_the_same_name_run_as_a_program_and_imported(tmp_path: Path) -> None:
    path = tmp_path / "my_script.py"
    naming = "\nfrom kflow.running.provenance import qualified\nNAME = qualified(Mine)\n"
    path.write_text(SCRIPT + naming)
    names = {runpy.run_path(str(path), run_name=name)["NAME"] for name in ("__main__", "my_script")}
    assert names == {"my_script.Mine"}
    assert provenance.qualified(Family) == "kflow.families.family.Family"


TEMPLATE = (
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    "{% if reasoning_effort %}<effort:{{ reasoning_effort }}>{% endif %}"
)


@pytest.mark.parametrize(
    ("no_thinking", "effort", "rendered"),
    [(False, "medium", "<effort:medium>"), (True, None, "<think></think>")],
)
def test_a_familys_fields_reach_the_template(
    no_thinking: bool, effort: str | None, rendered: str, tmp_path: Path
) -> None:
    save_tokenizer(tmp_path, CHATML + TEMPLATE)
    family = replace(thinking.FAMILY, no_thinking=no_thinking, reasoning_effort=effort)
    chat = family.load_chat(str(tmp_path), False, None)
    assert chat.decode(chat.render(user("Q")), False).endswith(f"<think>\n{rendered}")


def test_a_choice_that_no_server_is_told_of_is_refused() -> None:
    effort = replace(thinking.FAMILY, reasoning_effort="low")  # which a server is sent
    assert in_messages(effort).load_chat("a/model", False, None).count("four") == 2
    with pytest.raises(UserError, match=r"^--no_thinking is not sent with --engine chat"):
        in_messages(replace(effort, no_thinking=True))


def test_an_argument_that_the_template_would_ignore_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, CHATML)
    with pytest.raises(UserError, match=r"takes no reasoning_effort: leave the flag out"):
        TemplateChat(str(tmp_path), arguments={"reasoning_effort": "low"})
